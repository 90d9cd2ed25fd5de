"""Who waits for the answer to a call, and how each is told."""

from __future__ import annotations

import _thread
from collections import deque
from typing import Final

from plugkeep.wire.connection import Answer, Chunk, Progress, Request


class Leader:
    """Stands for the thread that reads anyway, and finds its answer by itself."""

    __slots__ = ()


LEADER: Final = Leader()


class Waiter:
    """A thread that waits. Whoever reads tells it what has come."""

    def __init__(self) -> None:
        self.thread = _thread.get_ident()
        self.answer: Answer | None = None
        self.is_lost = False
        self.items: deque[Chunk | Progress] = deque()
        #: Calls that have to run on this thread, now, for it waits for what waits for them.
        self.jobs: deque[Request] = deque()
        self._bell = _thread.allocate_lock()
        self._bell.acquire()

    @property
    def is_done(self) -> bool:
        return self.answer is not None or self.is_lost

    def answered(self, answer: Answer) -> None:
        self.answer = answer
        self.ring()

    def failed(self) -> None:
        """The other end has gone."""
        self.is_lost = True
        self.ring()

    def received(self, item: Chunk | Progress) -> None:
        self.items.append(item)
        self.ring()

    def ring(self) -> None:
        """Wake the thread; it looks for itself what there is."""
        try:
            self._bell.release()
        except RuntimeError:
            pass  # it has been rung already

    def wait(self, timeout: float) -> bool:
        """Wait for `ring`, `timeout` seconds at most, -1 without limit."""
        return self._bell.acquire(True, timeout)
