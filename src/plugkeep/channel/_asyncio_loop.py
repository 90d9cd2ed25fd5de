"""asyncio's event loops at a channel."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plugkeep.channel._sides import AsyncWaiter


Soon = Callable[[Callable[[], object]], object]


class AsyncioLoop:
    """A loop of asyncio's, or one that is like it; see `_sides.Loop`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.soon: Soon = loop.call_soon
        self.soon_from_afar: Soon = loop.call_soon_threadsafe
        self._future = loop.create_future

    async def wait(self, waiter: AsyncWaiter, seconds: float | None) -> bool:
        """See `Loop.wait`."""
        if waiter.has_news():
            return True
        future = self._future()
        waiter.ring = ring = _Ring(future)
        if seconds is None:
            await future
            return True
        timer = self._loop.call_later(seconds, ring)
        try:
            await future
        finally:
            timer.cancel()
        return waiter.has_news()

    async def until(self, give: Callable[[Callable[[], object]], object]) -> None:
        future = self._future()
        give(_Ring(future))
        await future

    def spawn(self, function: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], object]:
        """See `Loop.spawn`."""
        return self._loop.create_task(function()).cancel

    def watch_reading(self, descriptor: int, readable: Callable[[], None]) -> None:
        self._loop.add_reader(descriptor, readable)

    def forget_reading(self, descriptor: int) -> None:
        if not self._loop.is_closed():
            self._loop.remove_reader(descriptor)

    def watch_writing(self, descriptor: int, writable: Callable[[], None]) -> None:
        self._loop.add_writer(descriptor, writable)

    def forget_writing(self, descriptor: int) -> None:
        if not self._loop.is_closed():
            self._loop.remove_writer(descriptor)


class _Ring:
    """Wakes the task that awaits a future."""

    __slots__ = ("_future",)

    def __init__(self, future: asyncio.Future[None]) -> None:
        self._future = future

    def __call__(self) -> None:
        if not self._future.done():
            self._future.set_result(None)


def running() -> asyncio.AbstractEventLoop | None:
    """Return the loop that runs on this thread, if one does."""
    return asyncio._get_running_loop()
