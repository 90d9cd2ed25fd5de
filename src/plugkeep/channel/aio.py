"""Calling from tasks of an event loop: asyncio's or trio's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from plugkeep.channel._async_waiters import AsyncListener, AsyncWaiter
from plugkeep.channel._sides import side_of
from plugkeep.channel.channel import Retired, timed_out
from plugkeep.channel.streaming import Credit
from plugkeep.errors import CallError
from plugkeep.wire.messages import PlainAnswer

if TYPE_CHECKING:
    from plugkeep.channel.calling import Caller, Options


async def acall(  # noqa: C901  # every call made here costs each call
    caller: Caller, method: str, args: tuple[Any, ...], kwargs: dict[str, Any], options: Options
) -> Any:
    """See `Caller.acall`."""
    channel = caller.channel
    side = side_of(channel)
    timeout, buffers, on_progress, _ = options
    number = 0
    side.under_way += 1  # this is `enter`, and below it is `leave`
    try:
        if side.under_way == 1:
            side.begin()
        if channel.outbox.queue:
            await side.drain()
        if on_progress is None:
            waiter = AsyncWaiter(side)
        else:
            waiter = AsyncListener(side, wants_progress=True)
        number = side.open(method, args, kwargs, waiter, timeout=timeout)
        if timeout is None and on_progress is None:
            await waiter.bell
        else:
            await _listen(waiter, method, options)
        answer = waiter.answer
        if answer is None:
            raise channel.explain()  # noqa: TRY301  # given up as others are
    except GeneratorExit:
        # Mostly the garbage collector's, of a closed loop: on any thread, at any point.
        side.forget_call(number)
        raise
    except BaseException as error:
        side.withdraw(number)
        side.leave()
        if isinstance(error, Retired):
            return await caller.instead().acall(method, args, kwargs, options)
        if isinstance(error, CallError):
            raise caller.named(error) from None
        raise
    side.under_way -= 1
    if not side.under_way:
        side.pause()
    if type(answer) is PlainAnswer and buffers == "bytes":
        return answer.result
    return caller.result_of(answer, method, options)


async def _listen(waiter: AsyncWaiter, method: str, options: Options) -> None:
    timeout, on_progress = options.timeout, options.on_progress
    deadline = None if timeout is None else monotonic() + timeout
    while True:
        in_time = await waiter.wait(deadline)
        if isinstance(waiter, AsyncListener):
            report(waiter, on_progress)
        if waiter.answer is not None or waiter.is_lost:
            return
        if not in_time:
            raise timed_out(method, timeout)


def report(waiter: AsyncListener, on_progress: Callable[[Any], object] | None) -> None:
    """Tell the caller how far the call has come."""
    while waiter.progress and on_progress is not None:
        on_progress(waiter.progress.popleft().value)


class AsyncStream(AsyncIterator[Any]):
    """What `Stream` is, for tasks of an event loop. To be used by one task at a time.

    The call is made with the first value that is asked for.
    """

    def __init__(
        self,
        caller: Caller,
        method: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: Options,
    ) -> None:
        self.result: Any = None
        self._number = 0
        self._is_over = False
        self._caller = caller
        self._channel = caller.channel
        self._call = method, args, kwargs
        self._options = options
        self._credit = Credit(options.window)
        self._waiter: AsyncListener | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        if self._is_over:
            raise StopAsyncIteration
        try:
            waiter = self._waiter or await self._open_somewhere()
            return await self._next(waiter)
        except CallError as error:
            self._close()
            raise self._caller.named(error) from None
        except BaseException:
            self._close()
            raise

    async def aclose(self) -> None:
        """Take no more; the method is cancelled if it has not ended. Calling it again is fine."""
        self._close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    def __del__(self) -> None:
        if self._waiter is not None and not self._is_over:
            self._channel.forget(self._number)
            self._waiter.side.forget()

    async def _open_somewhere(self) -> AsyncListener:
        while True:
            try:
                return await self._open()
            except Retired:
                self._close()
                self._caller = self._caller.instead()
                self._channel, self._is_over = self._caller.channel, False

    async def _open(self) -> AsyncListener:
        side = side_of(self._channel)
        method, args, kwargs = self._call
        options = self._options
        self._waiter = waiter = AsyncListener(side, wants_progress=options.on_progress is not None)
        side.enter()
        await side.drain()
        self._number = side.open(method, args, kwargs, waiter, credit=options.window)
        return waiter

    async def _next(self, waiter: AsyncListener) -> Any:
        timeout, method = self._options.timeout, self._call[0]
        deadline = None if timeout is None else monotonic() + timeout
        while True:
            in_time = await waiter.wait(deadline)
            report(waiter, self._options.on_progress)
            if waiter.chunks:
                return self._take(waiter)
            if waiter.answer is not None:
                self.result = self._caller.result_of(waiter.answer, method, self._options)
                raise StopAsyncIteration
            self._channel.check()
            if not in_time:
                raise timed_out(method, timeout)

    def _take(self, waiter: AsyncListener) -> Any:
        chunk = waiter.chunks.popleft()
        if more := self._credit.take():
            self._channel.grant(self._number, more)
        return self._caller.chunk_of(chunk, self._call[0], self._options)

    def _close(self) -> None:
        waiter, self._is_over = self._waiter, True
        if waiter is not None:
            self._waiter = None
            self._channel.abandon(self._number)
            waiter.chunks.clear()
            waiter.side.leave()
