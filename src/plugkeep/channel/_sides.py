"""Event loops whose tasks await answers: asyncio's and trio's.

While its tasks have calls under way a loop reads the channel whenever there is something, unless a
thread is at it; then it is asked when that goes. Once nothing is under way it gives up reading, but
only a moment later: the next call may be just about to come.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from threading import get_ident
from typing import TYPE_CHECKING, Any, Final, Protocol

from msgspec import UNSET

from plugkeep.channel._async_waiters import AsyncWaiter, Awaited, Bell, ring
from plugkeep.channel._leading import milliseconds
from plugkeep.channel.channel import Channel, serving

if TYPE_CHECKING:
    import asyncio

#: While more bytes than this are unsent, no more calls are made.
HIGH_WATER: Final = 1024 * 1024
#: With so many calls under way each is written at once; with more of them they are gathered.
_FEW: Final = 2
#: So many are gathered at most.
_MANY: Final = 256
#: So many calls for streams: what they ask for takes long enough to begin with the first ones.
_STREAMS: Final = 8
#: So many calls are answered at once, without the loop's taking a turn, one after the other.
_IN_A_ROW: Final = 32
#: Not more bytes than this.
_MUCH: Final = 32 * 1024
_NO_LOOP: Final = "no event loop of asyncio's or trio's is running here"


class Loop(Protocol):
    """What an event loop is asked for."""

    #: Call a function soon; on the loop's own thread.
    soon: Callable[[Callable[[], object]], object]
    #: The same from any thread. RuntimeError: the loop has been closed.
    soon_from_afar: Callable[[Callable[[], object]], object]

    @property
    def new_bell(self) -> Callable[[], Bell]:
        """Makes something for a task to await."""
        ...

    #: Whether what is awaited may be there at once, so that other tasks do not get their turn.
    may_return_at_once: bool

    def after_pause(self, function: Callable[[], object]) -> None:
        """Call a function in a moment, when a pause has become apparent."""
        ...

    def is_closed(self) -> bool:
        """Whether it will never run again; may be asked on any thread."""
        ...

    def wait(self, waiter: Awaited, seconds: float) -> Coroutine[Any, Any, None]:
        """Await the waiter's bell, for so many seconds at most."""
        ...

    def spawn(self, function: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], object]:
        """Run a task that lets no exception out; return what cancels it."""
        ...

    def watch_reading(self, descriptor: int, readable: Callable[[], None]) -> None: ...
    def forget_reading(self, descriptor: int) -> None: ...
    def watch_writing(self, descriptor: int, writable: Callable[[], None]) -> None: ...
    def forget_writing(self, descriptor: int) -> None: ...


def side_of(channel: Channel) -> Side:
    """Return the side of the event loop that runs here. RuntimeError: none does."""
    if "trio" in sys.modules:
        from plugkeep.channel import _trio_loop

        if (token := _trio_loop.running()) is not None:
            return channel.loops.get(token) or Side(channel, token, _trio_loop.TrioLoop(token))
    loop = _running_loop()
    if loop is None:
        raise RuntimeError(_NO_LOOP)
    return channel.loops.get(loop) or _asyncio_side(channel, loop)


def loop_here() -> Loop:
    """Return the event loop that runs here, which may have nothing to do with any channel.

    RuntimeError: none does.
    """
    if "trio" in sys.modules:
        from plugkeep.channel import _trio_loop

        if (token := _trio_loop.running()) is not None:
            return _trio_loop.TrioLoop(token)
    loop = _running_loop()
    if loop is None:
        raise RuntimeError(_NO_LOOP)
    from plugkeep.channel._asyncio_loop import AsyncioLoop

    return AsyncioLoop(loop)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    """Return asyncio's loop that runs here. Replaces itself: this is called with every call."""
    global _running_loop
    import asyncio

    _running_loop = asyncio._get_running_loop
    return _running_loop()


def _asyncio_side(channel: Channel, loop: asyncio.AbstractEventLoop) -> Side:
    from plugkeep.channel._asyncio_loop import AsyncioLoop

    return Side(channel, loop, AsyncioLoop(loop))


class Side:
    """One event loop at one channel; all but `wake` and `ask` on the loop's own thread."""

    def __init__(self, channel: Channel, key: Any, loop: Loop) -> None:
        self.thread = get_ident()
        self.loop = loop
        self.new_bell, self._after_pause = loop.new_bell, loop.after_pause
        self._soon, self._soon_from_afar = loop.soon, loop.soon_from_afar
        self._channel = channel
        self._key = key
        self._outbox = channel.outbox
        self._queue, self._send = channel.outbox.queue, channel.outbox.send
        self._calls, self._numbers = channel.connection.calls, channel.connection.numbers
        codec = channel.connection.codec
        self._quick_request, self._join = codec.quick_request, codec.join
        self._gathered: dict[int, bytes] = {}  # calls that are not in the outbox yet
        self._gathered_size = 0
        self._may_look = loop.may_return_at_once
        self._in_a_row = 0
        #: How many calls are under way.
        self.under_way = 0
        self._reads = self._writes = -1  # the descriptors that are being waited for
        self._goes_on = False  # there was another pause since the one that is being waited for
        self._is_resting = self._is_gathering = self._is_waking = False
        self._woken: deque[AsyncWaiter] = deque()
        self._drained: list[Bell] = []  # of tasks that wait for the water to fall
        channel.loops[key] = self

    @property
    def is_closed(self) -> bool:
        """Whether the loop will never run again."""
        return self.loop.is_closed()

    # --- for whoever reads ----------------------------------------------------------------

    def wake(self, waiter: AsyncWaiter) -> None:
        """Wake a task, from another thread."""
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

    def tell_lost(self) -> None:
        """Have tasks that wait before they call look again, in the manner of `ask`."""
        self._soon_from_afar(self._let_through)

    def drop(self) -> None:
        """See `LoopSide.drop`."""
        while self._gathered:
            number, _ = self._gathered.popitem()
            self._channel.connection.give_up(number)

    def ask_to_stop(self) -> None:
        """Have it let go of the descriptors, at once where this is its own thread."""
        if get_ident() == self.thread:
            self.stop()
        else:
            self._soon_from_afar(self.stop)

    # --- calls ----------------------------------------------------------------------------

    def open(
        self,
        method: str,
        args: Any,
        kwargs: Any,
        waiter: AsyncWaiter,
        timeout: float | None = None,
        credit: Any = UNSET,
    ) -> int:
        """Send a call; see `Channel.open`. What cannot be written now is written later."""
        channel = self._channel
        if kwargs or credit is not UNSET or not channel.opens_plainly or serving.get() is not None:
            return self._open_any(method, args, kwargs, waiter, timeout, credit)
        limit = UNSET if timeout is None else milliseconds(timeout)
        number = next(self._numbers)
        frame = self._quick_request(number, method, args, limit)
        if frame is None:
            return self._open_any(method, args, kwargs, waiter, timeout, credit)
        self._calls[number] = waiter
        if channel.is_retired:
            channel.refuse(number)
        self._dispatch(number, frame)
        if self.under_way == 1 and self._may_look:
            self._look(waiter)
        self._check(number)
        return number

    def open_stream(
        self, method: str, params: dict[str, Any], waiter: AsyncWaiter, credit: int
    ) -> int:
        """Send a call that wants a stream; `params` hold nothing which needs a look inside."""
        opened = None
        if serving.get() is None:
            opened = self._channel.connection.quick_stream(method, params, waiter, credit)
        if opened is None:
            return self.open_in_full(method, (), params, waiter, credit=credit, as_is=True)
        number, frame = opened
        if self._channel.is_retired:
            self._channel.refuse(number)
        self._dispatch(number, frame)
        if len(self._gathered) >= _STREAMS:
            self.write()
        self._check(number)
        return number

    def _dispatch(self, number: int, frame: bytes) -> None:
        """Send a call, now or soon, and have what comes read."""
        if self.under_way > _FEW or self._queue:
            self._gather(number, frame)
        elif not self._send((frame, ())):
            self.see_to_it()
        if self._reads < 0:
            self.take()

    def _check(self, number: int) -> None:
        """Raise what the channel explains where it was lost before a call was in the table."""
        if self._channel.is_lost and number in self._calls:
            self.withdraw(number)
            raise self._channel.explain()

    def _open_any(
        self,
        method: str,
        args: Any,
        kwargs: Any,
        waiter: AsyncWaiter,
        timeout: float | None,
        credit: Any,
    ) -> int:
        return self.open_in_full(method, args, kwargs, waiter, timeout=timeout, credit=credit)

    def open_in_full(
        self, method: str, args: Any, kwargs: Any, waiter: AsyncWaiter, **how: Any
    ) -> int:
        """Send a call about which there is something special: `how`, for `Channel.open`."""
        gathers = self.under_way > _FEW
        number = self._channel.open(method, args, kwargs, waiter, wait=False, later=gathers, **how)
        self.see_to_it(gathers)
        return number

    def _look(self, waiter: AsyncWaiter) -> None:
        """Read at once: the answer to a lone call may have come while it was written.

        Not many times in a row, for the loop has other tasks, too.
        """
        channel = self._channel
        self._in_a_row = (self._in_a_row + 1) % _IN_A_ROW
        if not self._in_a_row or channel.luck.passes():
            return
        if channel.loop is not self or not channel.try_lead():
            return
        try:
            is_plain = channel.read_answer()
        finally:
            channel.leave_to(self)
        if not is_plain:
            self._look_again()
        channel.luck.note(hit=waiter.answer is not None)

    def _gather(self, number: int, frame: bytes) -> None:
        """Send with what comes after it: see `write`."""
        self._gathered[number] = frame
        self._gathered_size += len(frame)
        if len(self._gathered) >= _MANY or self._gathered_size >= _MUCH:
            self.write()
        elif not self._is_gathering:
            self._is_gathering = True
            self._soon(self.write)

    def _put_gathered(self) -> None:
        frames, self._gathered, self._gathered_size = self._gathered, {}, 0
        self._outbox.put((self._join(frames.values()), ()))

    def withdraw(self, number: int) -> None:
        """Give up a call: say so at the other end if it has been sent, or do not send it."""
        if self._gathered.pop(number, None) is None:
            self._channel.abandon(number)
        else:
            self._channel.connection.give_up(number)

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
        self.under_way += 1
        if self.under_way == 1:
            self.begin()

    def begin(self) -> None:
        """The first call is under way."""
        if self._key not in self._channel.loops:
            self._channel.loops[self._key] = self

    def leave(self) -> None:
        """A call is over."""
        self.under_way -= 1
        if not self.under_way:
            self.pause()

    def pause(self) -> None:
        """The last call is over, for now."""
        if self._is_resting:
            self._goes_on = True
        else:
            self._is_resting = True
            try:
                self._after_pause(self._rest)
            except RuntimeError:  # the loop has been closed, and its tasks come to their ends now
                self._rest()

    def forget(self) -> None:
        """Do as `leave` does, but soon: for the garbage collector, which comes at any point."""
        with suppress(RuntimeError):  # the loop has been closed
            self._soon_from_afar(self.leave)

    def forget_call(self, number: int) -> None:
        """Do as `withdraw` and `leave` do, but soon: see `forget`."""
        if self._gathered.pop(number, None) is None:
            self._channel.forget(number)
        else:
            self._channel.connection.give_up(number)
        self.forget()

    def _rest(self) -> None:
        self._is_resting = False
        if self.under_way:
            return
        if self._goes_on and not self.is_closed:  # there were calls since, one after the other
            self._goes_on = False
            self.pause()
        else:
            self.stop()

    # --- reading --------------------------------------------------------------------------

    def take(self) -> None:
        """Read from now on, unless somebody else does who will ask."""
        channel = self._channel
        if not self.under_way or channel.is_lost or channel._active:
            return
        channel.check_loop()
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
        if self._gathered:
            self._put_gathered()
        # Where another thread is at it, it may stop short of the end, and tells nobody.
        if (self._outbox.flush() and not self._outbox) or channel.is_lost:
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
        for bell in drained:
            ring(bell)

    async def drain(self) -> None:
        """Wait while too much is unsent."""
        while self._outbox.size > HIGH_WATER and not self._channel.is_lost:
            self.write()
            if self._outbox.size > HIGH_WATER and not self._channel.is_lost:
                self._drained.append(bell := self.new_bell())
                await bell
