"""What a plugin wants logged, on its way to the host's log."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from plugkeep.channel.workers import run
from plugkeep.sandbox._output import MAX_LINE, log_safely, shortened

if TYPE_CHECKING:
    from plugkeep.wire.events import Log
    from plugkeep.wire.ndjson import Noise

#: So many records wait to be logged; of those beyond, only the number is logged.
LIMIT: Final = 10_000

_LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}
_PATIENCE = 5.0  # seconds to wait for a log handler of the host's that is at work on our records


class _Record(NamedTuple):
    level: int
    message: str
    stream: str | None
    logger: str = ""
    fields: Mapping[str, Any] = {}


class LogQueue:
    """Records in the order in which they came, logged on a thread beside.

    The reader of a channel puts them here and does not wait for the host's log handlers. The
    records have the attributes `plugin`, `stream` ("log", "stdout", or None), `logger` and
    `fields`.
    """

    def __init__(self, plugin: str, recent: deque[str] | None = None) -> None:
        """`recent` is given each record, too, in words."""
        self._plugin = plugin
        self._recent = recent
        self._logger = logging.getLogger(f"plugkeep.plugin.{plugin}")
        self._records: deque[_Record] = deque()
        self._dropped = 0
        self._is_delivering = False
        # Reentrant, for a log handler may stop the very sandbox whose record it handles.
        self._lock = threading.RLock()

    def put_record(self, log: Log) -> None:
        """Take a record of the plugin's own."""
        self._put(_Record(_LEVELS[log.level], log.message, "log", log.logger, log.fields))

    def put_line(self, noise: Noise) -> None:
        """Take a line that the plugin has printed, where there should be messages."""
        line = noise.line
        if len(line) > MAX_LINE:
            line = f"{line[:MAX_LINE]} [cut: a line is logged up to {MAX_LINE} characters]"
        if noise.reason:
            self._put(_Record(logging.WARNING, f"no message: {noise.reason}: {line}", "stdout"))
        elif line and not line.isspace():
            self._put(_Record(logging.INFO, line, "stdout"))

    def put_note(self, text: str) -> None:
        """Take what is to be said about the plugin."""
        self._put(_Record(logging.DEBUG, text, None))

    def deliver(self) -> None:
        """Log all that is waiting, on this thread."""
        held = self._lock.acquire(timeout=_PATIENCE)
        try:
            while held and self._records:
                self._log(self._records.popleft())
            if held and self._dropped:
                dropped, self._dropped = self._dropped, 0
                text = f"{dropped} records more came than could be logged, and were dropped"
                self._log(_Record(logging.WARNING, text, None))
        finally:
            if held:
                self._lock.release()

    def _put(self, record: _Record) -> None:
        if len(self._records) >= LIMIT:
            self._dropped += 1
            return
        self._records.append(record)
        if self._recent is not None and record.stream is not None:
            kind = record.stream
            if kind == "log":
                kind = logging.getLevelName(record.level).lower()
            self._recent.append(f"{kind}: {shortened(record.message)}")
        if not self._is_delivering:
            self._is_delivering = True
            run(self._deliver_beside)

    def _deliver_beside(self) -> None:
        # What is put from here on, before or after it is looked for, is delivered.
        self._is_delivering = False
        self.deliver()

    def _log(self, record: _Record) -> None:
        log_safely(
            self._logger,
            record.level,
            record.message,
            plugin=self._plugin,
            stream=record.stream,
            logger=record.logger,
            fields=record.fields,
        )
