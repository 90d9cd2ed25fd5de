"""Event loops whose tasks await answers: asyncio's and trio's.

While its tasks have calls under way a loop reads the channel whenever there is something, unless a
thread is at it; then it is asked when that goes. Once nothing is under way it gives up reading, but
only a moment later: the next call may be just about to come.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Protocol

from plugkeep.wire.events import Answer, Chunk, Progress

if TYPE_CHECKING:
    from plugkeep.channel.channel import Channel

#: While more bytes than this are unsent, no more calls are made.
HIGH_WATER: Final = 1024 * 1024
#: With so many calls under way each is written at once; with more of them they are gathered.
_FEW: Final = 2
#: So many are gathered at most.
_MANY: Final = 256
#: Reports of progress that are kept for a task that is busy; older ones give way.
_REPORTS: Final = 64


class Loop(Protocol):
    """What an event loop is asked for."""

    #: Call a function soon; on the loop's own thread.
    soon: Callable[[Callable[[], object]], object]
    #: The same from any thread. RuntimeError: the loop has been closed.
    soon_from_afar: Callable[[Callable[[], object]], object]

    def wait(self, waiter: AsyncWaiter, seconds: float | None) -> Coroutine[Any, Any, bool]:
        """Wait until `waiter` has news; return False when so many seconds have passed."""
        ...

    def until(self, give: Callable[[Callable[[], object]], object]) -> Coroutine[Any, Any, None]:
        """Give away what wakes this task, and wait for that."""
        ...

    def spawn(self, function: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], object]:
        """Run a task that lets no exception out; return what cancels it."""
        ...

    def watch_reading(self, descriptor: int, readable: Callable[[], None]) -> None: ...
    def forget_reading(self, descriptor: int) -> None: ...
    def watch_writing(self, descriptor: int, writable: Callable[[], None]) -> None: ...
    def forget_writing(self, descriptor: int) -> None: ...


class AsyncWaiter:
    """A task that waits. Whoever reads tells it what has come."""

    def __init__(self, side: Side, *, wants_progress: bool = False) -> None:
        self.side = side
        self.answer: Any = None
        self.is_lost = False
        self.wants_progress = wants_progress
        self.chunks: deque[Chunk] = deque()
        self.progress: deque[Progress] = deque(maxlen=_REPORTS)
        #: Wakes the task; to be called on its own thread.
        self.ring: Callable[[], object] = _nothing

    def answered(self, answer: Answer) -> None:
        self.answer = answer
        self.side.wake(self)

    def failed(self) -> None:
        """The other end has gone."""
        self.is_lost = True
        self.side.wake(self)

    def received(self, item: Chunk | Progress) -> None:
        if type(item) is Chunk:
            self.chunks.append(item)
        elif self.wants_progress:
            self.progress.append(item)  # type: ignore[arg-type]  # it is none other
        else:
            return
        self.side.wake(self)

    def has_news(self) -> bool:
        """Whether there is anything to be dealt with."""
        return bool(self.answer is not None or self.is_lost or self.chunks or self.progress)


def _nothing() -> None:
    pass


def side_of(channel: Channel) -> Side:
    """Return the side of the event loop that runs here. RuntimeError: none does."""
    if "trio" in sys.modules:
        from plugkeep.channel import _trio_loop

        if (token := _trio_loop.running()) is not None:
            return channel.loops.get(token) or Side(channel, token, _trio_loop.TrioLoop(token))
    from plugkeep.channel import _asyncio_loop

    loop = _asyncio_loop.running()
    if loop is None:
        raise RuntimeError("no event loop of asyncio's or trio's is running here")
    return channel.loops.get(loop) or Side(channel, loop, _asyncio_loop.AsyncioLoop(loop))


class Side:
    """One event loop at one channel; all but `wake` and `ask` on the loop's own thread."""

    def __init__(self, channel: Channel, key: Any, loop: Loop) -> None:
        self.thread = threading.get_ident()
        self.loop = loop
        self.wait, self._soon, self._soon_from_afar = loop.wait, loop.soon, loop.soon_from_afar
        self._channel = channel
        self._key = key
        self._outbox = channel.outbox
        self._under_way = 0
        self._reads = self._writes = -1  # the descriptors that are being waited for
        self._is_resting = self._is_gathering = self._is_waking = False
        self._woken: deque[AsyncWaiter] = deque()
        self._drained: list[Callable[[], object]] = []  # wakes tasks that wait for the high water
        channel.loops[key] = self

    # --- for whoever reads ----------------------------------------------------------------

    def wake(self, waiter: AsyncWaiter) -> None:
        """Wake a task, from any thread."""
        if threading.get_ident() == self.thread:
            waiter.ring()
            return
        self._woken.append(waiter)
        if not self._is_waking:
            self._is_waking = True
            try:
                self._soon_from_afar(self._wake_all)
            except RuntimeError:  # the loop has been closed, and its tasks with it
                self._is_waking = False

    def _wake_all(self) -> None:
        self._is_waking = False
        while self._woken:
            self._woken.popleft().ring()

    def ask(self) -> None:
        """Have it read from now on. Raises RuntimeError where the loop has been closed."""
        self._soon_from_afar(self.take)

    def ask_to_stop(self) -> None:
        """Have it let go of the descriptors, at once where this is its own thread."""
        if threading.get_ident() == self.thread:
            self.stop()
        else:
            self._soon_from_afar(self.stop)

    # --- calls ----------------------------------------------------------------------------

    def open(self, method: str, args: Any, kwargs: Any, waiter: AsyncWaiter, **how: Any) -> int:
        """Send a call; see `Channel.open`. What cannot be written now is written later."""
        gathers = self._under_way > _FEW
        number = self._channel.open(method, args, kwargs, waiter, wait=False, later=gathers, **how)
        self.see_to_it(gathers)
        return number

    def see_to_it(self, gathers: bool = False) -> None:
        """Have the outbox written, and what comes read."""
        if self._outbox:
            if gathers and len(self._outbox) < _MANY:
                if not self._is_gathering:
                    self._is_gathering = True
                    self._soon(self.write)
            else:
                self.write()
        if self._reads < 0:
            self.take()

    def enter(self) -> None:
        """A call is under way. Let it `leave`."""
        self._under_way += 1
        if self._key not in self._channel.loops:
            self._channel.loops[self._key] = self

    def leave(self) -> None:
        """A call is over."""
        self._under_way -= 1
        if not self._under_way and not self._is_resting:
            self._is_resting = True
            self._soon(self._rest)

    def forget(self) -> None:
        """Do as `leave` does, but soon: for the garbage collector, which comes at any point."""
        with suppress(RuntimeError):  # the loop has been closed
            self._soon_from_afar(self.leave)

    def _rest(self) -> None:
        self._is_resting = False
        if not self._under_way:
            self.stop()

    # --- reading --------------------------------------------------------------------------

    def take(self) -> None:
        """Read from now on, unless somebody else does who will ask."""
        channel = self._channel
        if not self._under_way or channel.is_lost or channel._active:
            return
        if channel.loop is None:
            channel.read_by(self)
        if channel.loop is self:
            self._aim(channel.descriptor)

    def readable(self) -> None:
        """Read what has come."""
        channel = self._channel
        if channel.is_lost or not channel.try_lead():
            self._stop_reading()
            self.take()  # in case they went before they could have seen us
            return
        try:
            if channel.loop is None:  # somebody found this loop stuck
                channel.read_by(self)
            is_plain = channel.read_answer()
        finally:
            channel.leave_to(self)
        if not is_plain:
            self._look_again()

    def _look_again(self) -> None:
        if self._reads != self._channel.descriptor:
            self._aim(self._channel.descriptor)
        if self._outbox:
            self.write()

    def _aim(self, descriptor: int) -> None:
        if self._reads >= 0:
            self.loop.forget_reading(self._reads)
        self._reads = descriptor
        self.loop.watch_reading(descriptor, self.readable)

    def _stop_reading(self) -> None:
        if self._reads >= 0:
            self.loop.forget_reading(self._reads)
            self._reads = -1
        if self._channel.loop is self:
            self._channel.read_by(None)

    def stop(self) -> None:
        """Let go of the channel."""
        self._stop_reading()
        self._stop_writing()
        self._let_through()
        self._channel.loops.pop(self._key, None)
        self._channel.recover()

    # --- writing --------------------------------------------------------------------------

    def write(self) -> None:
        """Write what can be written, and the rest once that can be."""
        self._is_gathering = False
        channel = self._channel
        if self._outbox.flush() or channel.is_lost:
            self._stop_writing()
        elif self._outbox.is_broken:
            self._stop_writing()
            channel.lose_unread()
        elif self._writes != (descriptor := self._outbox.descriptor):
            self._stop_writing()
            self._writes = descriptor
            self.loop.watch_writing(descriptor, self.write)
            channel.leave_unsent()  # which sees when nothing is taken for too long
        if self._drained and self._outbox.size <= HIGH_WATER:
            self._let_through()

    def _stop_writing(self) -> None:
        if self._writes >= 0:
            self.loop.forget_writing(self._writes)
            self._writes = -1

    def _let_through(self) -> None:
        drained, self._drained = self._drained, []
        for ring in drained:
            ring()

    async def drain(self) -> None:
        """Wait while too much is unsent."""
        while self._outbox.size > HIGH_WATER and not self._channel.is_lost:
            self.write()
            if self._outbox.size > HIGH_WATER and not self._channel.is_lost:
                await self.loop.until(self._drained.append)
