"""Many calls of one method from a task, under way at once, their results in order."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable
from contextlib import aclosing
from time import monotonic
from typing import TYPE_CHECKING, Any

from plugkeep.channel._async_waiters import AsyncWaiter, Bell
from plugkeep.channel._sides import Side, side_of
from plugkeep.channel.channel import timed_out
from plugkeep.channel.in_order import InOrder, Many
from plugkeep.channel.mapping import Pipeline
from plugkeep.errors import CallError

if TYPE_CHECKING:
    from plugkeep.channel.calling import Caller, Options


class AsyncCollector(Many, AsyncWaiter):
    """A task that waits for the answers of many calls, or for a change."""

    def __init__(self, side: Side, order: InOrder) -> None:
        super().__init__(side)
        self.order = order
        self.has_changed = False

    def change(self) -> None:
        """Have whoever waits look again; to be called on the loop's thread."""
        self.has_changed = True
        self.news()

    def has_news(self) -> bool:
        return bool(self.order.ready) or self.is_lost or self.has_changed


async def amap(
    caller: Caller,
    method: str,
    iterables: Iterable[Iterable[Any] | AsyncIterable[Any]],
    options: Options,
) -> AsyncIterator[Any]:
    """See `Caller.amap`."""
    sources = list(iterables)
    while (mapped := _Mapped(caller, method, sources, options)).is_retired:
        mapped.end()
        caller = caller.instead()
    try:
        while await mapped.has_next():
            yield caller.outcome(mapped.next(), method, options)
    except CallError as error:
        raise caller.named(error) from None
    finally:
        mapped.end()


class _Mapped:
    """The calls of one `amap`."""

    def __init__(self, caller: Caller, method: str, sources: list[Any], options: Options) -> None:
        self._channel = channel = caller.channel
        self._method = method
        self._timeout = options.timeout
        self._side = side_of(channel)
        self._order = order = InOrder()
        self._collector = AsyncCollector(self._side, order)
        self._pipeline = Pipeline(channel, method, options.window, order, self._collector)
        self._room: Bell | None = None
        self._cancel: Callable[[], object] = _nothing
        self._sources = sources
        channel.mapping.add(self)
        #: It is to be done elsewhere, for the channel takes no more calls.
        self.is_retired = channel.is_retired
        is_fed = any(hasattr(source, "__aiter__") for source in sources)
        self._items = None if is_fed else zip(*sources)  # noqa: B905  # as `map` does
        self._side.enter()
        if is_fed and not self.is_retired:
            self._cancel = self._side.loop.spawn(self._feed)

    async def has_next(self) -> bool:
        """Wait for what the next call comes to, if there is one. Raises what the items raise."""
        pipeline = self._pipeline
        if self._items is not None:
            if pipeline.room:
                await self._side.drain()
                pipeline.refill(self._items)
                self._side.see_to_it()
        else:
            await self._until_fed()
        if not self._order:
            if pipeline.error is not None:
                raise pipeline.error
            return False
        if not self._order.ready:
            await self._await()
        return True

    def next(self) -> Any:
        """Return it: a plain result, or an answer."""
        found = self._order.ready.popleft()
        if self._pipeline.room:
            self._make_room()
        return found

    def end(self) -> None:
        """Give up what is under way."""
        self._pipeline.is_over = True  # for a source may pass over that it is cancelled
        self._channel.mapping.discard(self)
        self._cancel()
        for number in list(self._order.numbers):
            self._channel.abandon(number)
        self._side.leave()

    async def _await(self) -> None:
        collector, timeout = self._collector, self._timeout
        deadline = None if timeout is None else monotonic() + timeout
        while not self._order.ready:
            self._channel.check()  # lost, perhaps, before the last calls were in the table
            collector.has_changed = False
            in_time = await collector.wait(deadline)
            if not self._order.ready:
                self._channel.check()
                if not in_time:
                    raise timed_out(self._method, timeout)

    async def _until_fed(self) -> None:
        while not (self._order or self._pipeline.is_over):
            self._collector.has_changed = False
            await self._collector.wait(None)

    async def _feed(self) -> None:
        pipeline = self._pipeline
        try:
            async with aclosing(_zipped(self._sources)) as items:
                async for args in items:
                    await self._side.drain()
                    if not pipeline.is_over:
                        pipeline.send([args])
                        self._side.see_to_it()
                        self._collector.change()
                    await self._until_room()
                    if pipeline.is_over:  # it is ended, or there was something that cannot be sent
                        return
        except Exception as error:
            pipeline.end(error)
        finally:
            pipeline.is_over = True
            self._collector.change()

    async def _until_room(self) -> None:
        while not (self._pipeline.room or self._pipeline.is_over):
            self._room = self._side.new_bell()
            await self._room

    def _make_room(self) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_result(None)


async def _zipped(sources: list[Any]) -> AsyncGenerator[tuple[Any, ...], None]:
    """Do what `zip` does, with sources of which some are asynchronous."""
    iterators = [
        aiter(source) if hasattr(source, "__aiter__") else iter(source) for source in sources
    ]
    while True:
        row = []
        for each in iterators:
            try:
                row.append(await anext(each) if hasattr(each, "__anext__") else next(each))
            except (StopIteration, StopAsyncIteration):
                return
        yield tuple(row)


def _nothing() -> None:
    pass
