"""Who waits for the answer to a call, and how each is told."""

from __future__ import annotations

import _thread
from collections import deque
from typing import Any, Final, Protocol

from plugkeep.wire.events import Answer, Chunk, Progress, Request
from plugkeep.wire.messages import PlainAnswer


class Told(Protocol):
    """Whoever has made a call. Told by whoever reads, on whatever thread that is."""

    def answered(self, answer: Answer | PlainAnswer) -> None: ...
    def received(self, item: Chunk | Progress) -> None: ...
    def failed(self) -> None:
        """The other end has gone."""
        ...


class Leader:
    """Stands for the thread that reads anyway, and finds its answer by itself."""

    __slots__ = ()


LEADER: Final = Leader()


class Nobody:
    """Has no use for the answer."""

    def answered(self, answer: Any) -> None: ...
    def received(self, item: Any) -> None: ...
    def failed(self) -> None: ...


NOBODY: Final = Nobody()

#: Reports of progress that are kept for a caller who is busy; older ones give way.
_REPORTS = 64


class Waiter:
    """A thread that waits. Whoever reads tells it what has come."""

    def __init__(self, *, wants_progress: bool = False) -> None:
        self.thread = _thread.get_ident()
        self.answer: Answer | PlainAnswer | None = None
        self.is_lost = False
        self.wants_progress = wants_progress
        self.chunks: deque[Chunk] = deque()
        self.progress: deque[Progress] = deque(maxlen=_REPORTS)
        #: Calls that have to run on this thread, now, for it waits for what waits for them.
        self.jobs: deque[Request] = deque()
        self._bell = _thread.allocate_lock()
        self._bell.acquire()

    @property
    def is_done(self) -> bool:
        return self.answer is not None or self.is_lost

    def answered(self, answer: Answer | PlainAnswer) -> None:
        self.answer = answer
        self.ring()

    def failed(self) -> None:
        """The other end has gone."""
        self.is_lost = True
        self.ring()

    def received(self, item: Chunk | Progress) -> None:
        if type(item) is Chunk:
            self.chunks.append(item)
        elif self.wants_progress:
            self.progress.append(item)  # type: ignore[arg-type]  # it is none other
        else:
            return
        self.ring()

    def has_news(self) -> bool:
        """Whether there is anything to be dealt with."""
        return bool(self.chunks or self.progress or self.is_done)

    def ring(self) -> None:
        """Wake the thread; it looks for itself what there is."""
        try:  # noqa: SIM105  # that takes longer
            self._bell.release()
        except RuntimeError:
            pass  # it has been rung already

    def wait(self, timeout: float) -> bool:
        """Wait for `ring`, `timeout` seconds at most, -1 without limit."""
        return self._bell.acquire(True, timeout)


AnyWaiter = Any  # `Told`, or LEADER
