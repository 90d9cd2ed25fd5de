"""What a process prints: read without ever blocking it, and logged, in bounded memory."""

from __future__ import annotations

import fcntl
import logging
import os
import sys
import termios
import threading
import traceback
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

#: A line is logged up to so many bytes; what follows until the next newline is dropped.
MAX_LINE = 64 * 1024
#: What errors quote of stderr: so many last lines, each up to so many characters.
TAIL_LINES = 20
TAIL_WIDTH = 1000

_CHUNK = 16 * 1024  # read at once; with the GIL so soon given back, other threads stay lively
_PATIENCE = 5.0  # seconds to wait for a log handler of the host's that is at work on our lines


class LineSplitter:
    """Cuts bytes into lines of bounded length. Pure: bytes in, lines out."""

    def __init__(self, limit: int = MAX_LINE) -> None:
        self._limit = limit
        self._partial = bytearray()
        self._dropping = False  # the line at hand was too long and has been returned already

    def feed(self, data: bytes) -> Iterator[str]:
        """Yield each line that has ended, or outgrown the limit; blank lines are left out."""
        *ended, rest = data.split(b"\n")
        for piece in ended:
            yield from self._add(piece)
            yield from self.end()
        yield from self._add(rest)

    def end(self) -> Iterator[str]:
        """Yield what remains when nothing more will come, or when a newline has."""
        line = self._partial.decode("utf-8", "replace").removesuffix("\r")
        self._partial.clear()
        self._dropping = False
        if line and not line.isspace():
            yield line

    def _add(self, piece: bytes) -> Iterator[str]:
        if self._dropping:
            return
        self._partial += piece[: self._limit - len(self._partial) + 1]
        if len(self._partial) > self._limit:
            line = self._partial[: self._limit].decode("utf-8", "replace")
            self._partial.clear()
            self._dropping = True
            yield f"{line} [cut: a line is logged up to {self._limit} bytes]"


class Output:
    """One of the two streams of a process: `stdout`, logged as INFO, or `stderr`, as WARNING.

    Each line becomes a record of the logger ``plugkeep.plugin.<name>`` with the attributes
    `plugin` and `stream`.
    """

    def __init__(
        self, plugin: str, stream: str, descriptor: int, recent: deque[str] | None = None
    ) -> None:
        """`recent` is given each line, too, with the name of the stream."""
        self.descriptor = descriptor
        self._closed = False
        # Reentrant, for a log handler may stop the very sandbox whose line it handles.
        self._lock = threading.RLock()
        self._logger = logging.getLogger(f"plugkeep.plugin.{plugin}")
        self._level = logging.WARNING if stream == "stderr" else logging.INFO
        self._extra = {"plugin": plugin, "stream": stream}
        self._splitter = LineSplitter()
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._stream, self._recent = stream, recent

    @property
    def tail(self) -> tuple[str, ...]:
        """The last lines, oldest first."""
        return tuple(self._tail)

    def read(self) -> bytes | None:
        """Return what there is now, up to a chunk; None: nothing; b"": the end."""
        try:
            return os.read(self.descriptor, _CHUNK)
        except BlockingIOError:
            return None

    def read_rest(self) -> Iterator[bytes]:
        """Yield what is in the pipe now; not for ever, for a grandchild may go on writing."""
        pending = fcntl.ioctl(self.descriptor, termios.FIONREAD, b"\0" * 4)
        remaining = int.from_bytes(pending, sys.byteorder)
        # Whoever logs what we yield may close it, see `_lock`.
        while remaining > 0 and not self._closed and (data := self.read()):
            remaining -= len(data)
            yield data

    def pump(self) -> bool:
        """Read once and log what came; return False when nothing more can come."""
        with self._lock:
            if self._closed:
                return False
            data = self.read()
            if data:
                self.log(data)
            return data != b""

    def log(self, data: bytes) -> None:
        """Take `data` as printed, and log the lines that it ends."""
        for line in self._splitter.feed(data):
            self._log_line(line)

    def drain(self) -> None:
        """Log what is in the pipe now, to the last line, ended or not."""
        with self._held() as is_open:
            if is_open:
                self._log_rest()

    def finish(self) -> None:
        """Log what is still in the pipe, and close it."""
        with self._held() as is_open:
            if is_open:
                self._log_rest()
                self._closed = True
                os.close(self.descriptor)

    def give_away(self) -> int:
        """Return the descriptor, which is somebody else's to read and to close from now on."""
        self._closed = True
        return self.descriptor

    @contextmanager
    def _held(self) -> Iterator[bool]:
        """Hold the lock; yield whether we have got it, and there is still a pipe to read."""
        held = self._lock.acquire(timeout=_PATIENCE)
        try:
            yield held and not self._closed
        finally:
            if held:
                self._lock.release()

    def _log_rest(self) -> None:
        for data in self.read_rest():
            self.log(data)
        for line in self._splitter.end():
            self._log_line(line)

    def _log_line(self, line: str) -> None:
        short = shortened(line)
        self._tail.append(short)
        if self._recent is not None:
            self._recent.append(f"{self._stream}: {short}")
        log_safely(self._logger, self._level, line, **self._extra)


def log_safely(logger: logging.Logger, level: int, message: str, /, **extra: Any) -> None:
    """Log `message`, whatever a filter or handler of the host's raises.

    Reading must go on, or the plugin would block.
    """
    try:
        logger.log(level, message, extra=extra)
    except (Exception, SystemExit):
        if logging.raiseExceptions:
            traceback.print_exc()


def shortened(line: str) -> str:
    """Return as much of a line as errors quote."""
    return line if len(line) <= TAIL_WIDTH else f"{line[:TAIL_WIDTH]}..."


def with_tail(message: str, tail: tuple[str, ...]) -> str:
    """Return `message` with the last lines of stderr, if there are any."""
    if not tail:
        return message
    return "\n    ".join((f"{message}; the last of its stderr:", *tail))
