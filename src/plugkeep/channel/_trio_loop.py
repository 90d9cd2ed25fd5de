"""Trio's event loops at a channel."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

import trio

if TYPE_CHECKING:
    from plugkeep.channel._async_waiters import Awaited


Soon = Callable[[Callable[[], object]], object]


class TrioLoop:
    """A run of trio's; see `_sides.Loop`."""

    def __init__(self, token: trio.lowlevel.TrioToken) -> None:
        self.soon: Soon = token.run_sync_soon
        self.soon_from_afar: Soon = token.run_sync_soon
        self._token = token
        self.may_return_at_once = False  # each of its awaits is a checkpoint
        self._reader = self._writer = trio.CancelScope()

    def new_bell(self) -> _Bell:
        """See `Loop.new_bell`."""
        return _Bell()

    def after_pause(self, function: Callable[[], object]) -> None:
        """See `Loop.after_pause`."""
        self.soon(function)

    def is_closed(self) -> bool:
        """See `Loop.is_closed`."""
        try:
            self._token.run_sync_soon(_nothing, idempotent=True)
        except trio.RunFinishedError:
            return True
        return False

    async def wait(self, waiter: Awaited, seconds: float) -> None:
        """See `Loop.wait`."""
        with trio.move_on_after(seconds):
            await waiter.bell

    def spawn(self, function: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], object]:
        """See `Loop.spawn`."""
        scope = trio.CancelScope()

        async def run() -> None:
            with scope:
                await function()

        trio.lowlevel.spawn_system_task(run, context=copy_context())
        return scope.cancel

    def watch_reading(self, descriptor: int, readable: Callable[[], None]) -> None:
        self._reader = self._watch(trio.lowlevel.wait_readable, descriptor, readable)

    def forget_reading(self, descriptor: int) -> None:
        self._reader.cancel()
        trio.lowlevel.notify_closing(descriptor)

    def watch_writing(self, descriptor: int, writable: Callable[[], None]) -> None:
        self._writer = self._watch(trio.lowlevel.wait_writable, descriptor, writable)

    def forget_writing(self, descriptor: int) -> None:
        self._writer.cancel()
        trio.lowlevel.notify_closing(descriptor)

    def _watch(
        self, ready: Callable[[int], Any], descriptor: int, deal: Callable[[], None]
    ) -> trio.CancelScope:
        """Call `deal` whenever the descriptor is ready, until what is returned is cancelled."""
        scope = trio.CancelScope()

        async def watch() -> None:
            with scope:
                while True:
                    await _until_ready(ready, descriptor)
                    deal()

        trio.lowlevel.spawn_system_task(watch)
        return scope


def _nothing() -> None:
    pass


class _Bell:
    def __init__(self) -> None:
        self._event = trio.Event()

    def __await__(self) -> Generator[Any, Any, None]:
        return self._event.wait().__await__()

    def done(self) -> bool:
        return self._event.is_set()

    def set_result(self, _result: None, /) -> None:
        self._event.set()


async def _until_ready(ready: Callable[[int], Any], descriptor: int) -> None:
    while True:
        try:
            await ready(descriptor)
        except (trio.ClosedResourceError, trio.BusyResourceError):
            await trio.lowlevel.checkpoint()  # it has been cancelled, or whom it replaces has
        else:
            return


def running() -> trio.lowlevel.TrioToken | None:
    """Return what stands for the run of trio's that this task is part of, if it is of one."""
    inside = trio.lowlevel.in_trio_task()  # pyright: ignore[reportAttributeAccessIssue]
    return trio.lowlevel.current_trio_token() if inside else None
