"""Tasks that wait for the answers to calls, and how each is told: `waiters`, on event loops."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from threading import get_ident
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Protocol

from plugkeep.wire.events import Chunk, Progress

if TYPE_CHECKING:
    from plugkeep.channel._sides import Side

#: Reports of progress that are kept for a task that is busy; older ones give way.
_REPORTS: Final = 64


class Bell(Protocol):
    """What a task awaits. asyncio's futures are such."""

    def __await__(self) -> Generator[Any, Any, Any]: ...
    def done(self) -> bool: ...
    def set_result(self, result: None, /) -> object: ...


class Awaited(Protocol):
    """Whoever awaits a bell."""

    @property
    def bell(self) -> Bell: ...

    def ring(self) -> object:
        """Wake the task; to be called on its own thread."""
        ...


def ring(bell: Bell) -> None:
    """Wake whoever awaits `bell`, unless that has been done."""
    if not bell.done():
        try:  # noqa: SIM105  # that takes longer
            bell.set_result(None)
        except Exception:  # noqa: S110  # a signal's handler that calls may have rung it since
            pass


class AsyncWaiter:
    """A task that waits for the answer to a call. Whoever reads tells it what has come."""

    __slots__ = ("answer", "behind", "bell", "is_lost", "side")

    def __init__(self, side: Side) -> None:
        self.side = side
        self.answer: Any = None
        self.is_lost = False
        self.bell: Bell = side.new_bell()

    def answered(self, answer: Any) -> None:
        self.answer = answer
        side, bell = self.side, self.bell
        if get_ident() != side.thread:
            side.wake(self)
        elif not bell.done():  # from here on it is `ring`: a call less counts
            try:  # noqa: SIM105
                bell.set_result(None)
            except Exception:  # noqa: S110
                pass

    def failed(self) -> None:
        """The other end has gone."""
        self.is_lost = True
        self.news()

    def received(self, _item: Chunk | Progress) -> None:
        """Have no use for it."""

    def has_news(self) -> bool:
        """Whether there is anything to be dealt with."""
        return self.answer is not None or self.is_lost

    def news(self) -> None:
        """Wake the task, from any thread."""
        if get_ident() == self.side.thread:
            self.ring()
        else:
            self.side.wake(self)

    def ring(self) -> None:
        """Wake the task; to be called on its own thread."""
        ring(self.bell)

    async def wait(self, deadline: float | None) -> bool:
        """Wait until there is news; return False when `deadline` has passed."""
        side = self.side
        while not self.has_news():
            if self.bell.done():
                self.bell = side.new_bell()
                continue  # a signal's handler that calls may have rung the old one in between
            if deadline is None:
                await self.bell
            elif (left := deadline - monotonic()) <= 0:
                return False
            else:
                await side.loop.wait(self, left)
        return True


class AsyncListener(AsyncWaiter):
    """A task that waits for more than an answer."""

    __slots__ = ("chunks", "progress", "wants_progress")

    def __init__(self, side: Side, *, wants_progress: bool) -> None:
        super().__init__(side)
        self.wants_progress = wants_progress
        self.chunks: deque[Chunk] = deque()
        self.progress: deque[Progress] = deque(maxlen=_REPORTS)

    def received(self, item: Chunk | Progress) -> None:
        if type(item) is Chunk:
            self.chunks.append(item)
        elif self.wants_progress:
            self.progress.append(item)  # type: ignore[arg-type]  # it is none other
        else:
            return
        self.news()

    def has_news(self) -> bool:
        return bool(self.answer is not None or self.is_lost or self.chunks or self.progress)
