"""Sees that a program has ended by itself, and says so in the log at that moment."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from plugkeep.sandbox._output import Output, log_safely, with_tail
from plugkeep.sandbox._process import Exit, Process


class ExitWatch:
    """Logs one ERROR if a process ends between `begin` and `end`.

    The record has the attributes `plugin`, `returncode` and `signal`; `stream`, which all other
    records of that logger have, is None.
    """

    def __init__(self, plugin: str, process: Process, stdout: Output, stderr: Output) -> None:
        self.descriptor = process.exit_fd
        #: Called once it has ended, before that is logged, whoever has ended it.
        self.when_ended: Callable[[], object] = lambda: None
        #: Called once it has ended by itself, after that has been logged.
        self.when_reported: Callable[[], object] = lambda: None
        self.is_reported = False
        self._plugin = plugin
        self._process = process
        self._stdout, self._stderr = stdout, stderr
        # Never waited for: whoever gets it decides alone whether there is something to report.
        # The I/O thread, a stop and the garbage collector may all be at it at the same time.
        self._duty = threading.Lock()
        self._duty.acquire()

    def begin(self) -> None:
        """From now on the process should be running."""
        self._duty.release()

    def pump(self) -> bool:
        """Report its end; return False when nothing more can come, True where it still runs."""
        if not self._process.wait(0):
            return True
        self.when_ended()
        if self._duty.acquire(blocking=False):
            self.report()
        return False

    def end(self) -> bool:
        """From now on its end is the host's doing; return False where it has ended before that."""
        if not self._duty.acquire(blocking=False):
            return False
        if self._process.wait(0):
            self.report()
            return False
        return True

    def report(self) -> None:
        """Log what it still printed, and then how it ended."""
        end = self._process.peek() or Exit()
        for output in (self._stdout, self._stderr):
            output.drain()
        log_safely(
            logging.getLogger(f"plugkeep.plugin.{self._plugin}"),
            logging.ERROR,
            with_tail(f"plugin {self._plugin!r} ended by itself: it {end}", self._stderr.tail),
            plugin=self._plugin,
            stream=None,
            returncode=end.returncode,
            signal=end.signal,
        )
        self.tell()

    def tell(self) -> None:
        """Say that its end was not the host's doing."""
        self.is_reported = True
        self.when_reported()
