"""Log records of Python's, as the wire has them. Imported when `logging` is."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

#: What every record has.
_USUAL = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_LEVELS = (
    (logging.CRITICAL, "critical"),
    (logging.ERROR, "error"),
    (logging.WARNING, "warning"),
    (logging.INFO, "info"),
)


class WireHandler(logging.Handler):
    """Hands each record to `log`: its level, logger, text with the traceback, and extra fields."""

    def __init__(self, log: Callable[[str, str, str, dict[str, Any]], None]) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`."""
        try:
            text = self.format(record)
            fields = {key: value for key, value in vars(record).items() if key not in _USUAL}
            self._log(_level(record.levelno), record.name, text, fields)
        except Exception:
            self.handleError(record)


def _level(number: int) -> str:
    return next((name for least, name in _LEVELS if number >= least), "debug")
