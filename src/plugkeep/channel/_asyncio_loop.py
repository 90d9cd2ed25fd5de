"""asyncio's event loops at a channel."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plugkeep.channel._async_waiters import Awaited


Soon = Callable[[Callable[[], object]], object]
#: Seconds without a call after which others may read.
_PAUSE = 0.002


class AsyncioLoop:
    """A loop of asyncio's, or one that is like it; see `_sides.Loop`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.may_return_at_once = True
        self.soon: Soon = loop.call_soon
        self.soon_from_afar: Soon = loop.call_soon_threadsafe
        self.new_bell: Callable[[], Any] = loop.create_future
        self.is_closed = loop.is_closed

    def after_pause(self, function: Callable[[], object]) -> None:
        """See `Loop.after_pause`."""
        self._loop.call_later(_PAUSE, function)

    async def wait(self, waiter: Awaited, seconds: float) -> None:
        """See `Loop.wait`."""
        timer = self._loop.call_later(seconds, waiter.ring)
        try:
            await waiter.bell
        finally:
            timer.cancel()

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
