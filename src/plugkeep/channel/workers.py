"""Threads for what may take its time, kept for a moment after use."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Final

#: Seconds that an idle thread waits for something to do before it ends.
IDLE: Final = 1.0


class Workers:
    """Daemon threads, as many as are busy at once; those that become idle are used again."""

    def __init__(self, idle: float = IDLE) -> None:
        self._idle_for = idle
        self._idle: deque[_Worker] = deque()

    def run(self, function: Callable[..., object], *args: Any) -> None:
        """Call `function` on another thread, soon. What it raises is logged."""
        try:
            # The one that became idle last, so that the others get their rest.
            worker = self._idle.pop()
        except IndexError:
            worker = _Worker(self._idle, self._idle_for)
            worker.job = function, args
            threading.Thread(target=worker.work, name="plugkeep-worker", daemon=True).start()
        else:
            worker.job = function, args
            worker.bell.release()

    def forget(self) -> None:
        """Forget all threads, in a forked process: they have no copies there."""
        self._idle.clear()


class _Worker:
    """A thread of its own."""

    def __init__(self, idle: deque[_Worker], idle_for: float) -> None:
        self.job: tuple[Callable[..., object], tuple[Any, ...]] | None = None
        self.bell = threading.Lock()
        self.bell.acquire()
        self._idle = idle
        self._idle_for = idle_for

    def work(self) -> None:
        while self.job is not None:
            function, args = self.job
            self.job = None
            _call(function, args)
            # What is finished must not be kept alive by a thread that does nothing.
            del function, args
            self._idle.append(self)
            if not self.bell.acquire(timeout=self._idle_for):
                self._retire()

    def _retire(self) -> None:
        """End, unless somebody has chosen this one in the last moment."""
        try:
            self._idle.remove(self)
        except ValueError:
            self.bell.acquire()


def _call(function: Callable[..., object], args: tuple[Any, ...]) -> None:
    try:
        function(*args)
    except Exception:
        import logging

        logging.getLogger("plugkeep.channel").exception("%.200r failed", function)


_shared: Final = Workers()
run = _shared.run
os.register_at_fork(after_in_child=_shared.forget)
