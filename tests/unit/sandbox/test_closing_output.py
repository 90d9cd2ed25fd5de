"""Output that is closed while it is being logged."""

from __future__ import annotations

import logging
import os

from plugkeep.sandbox._output import Output


def test_a_log_handler_may_close_what_is_being_drained() -> None:
    """As one does that stops the plugin whose line it handles. Nothing is lost or logged twice."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    lines = [f"line {number:010}" for number in range(3000)]  # more than is read at once
    os.write(writer, "".join(f"{line}\n" for line in lines).encode())
    os.close(writer)
    output = Output("closed", "stderr", reader)
    logged: list[str] = []

    class Finisher(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            logged.append(record.getMessage())
            output.finish()

    logger, handler = logging.getLogger("plugkeep.plugin.closed"), Finisher()
    logger.addHandler(handler)
    try:
        output.drain()
    finally:
        logger.removeHandler(handler)
    assert sorted(logged) == lines
