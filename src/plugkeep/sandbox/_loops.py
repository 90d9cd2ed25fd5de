"""Running asynchronous functions on an event loop from threads beside it."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from plugkeep.errors import CallCancelledError


class Loop(Protocol):
    """An event loop that runs on another thread."""

    def run(self, function: Callable[[], Awaitable[Any]], began: Callable[[Any], object]) -> Any:
        """Run `function` there and return what it returns.

        `began` is given what cancels it. Raises RuntimeError where the loop has ended.
        """
        ...


class AsyncioLoop:
    """One of asyncio's."""

    def __init__(self, loop: Any) -> None:
        self._loop = loop

    def run(self, function: Callable[[], Awaitable[Any]], began: Callable[[Any], object]) -> Any:
        import asyncio

        async def whole() -> Any:
            return await function()

        coroutine = whole()
        try:
            future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        except RuntimeError:
            coroutine.close()
            raise
        began(future.cancel)
        return future.result()


class TrioLoop:
    """One of trio's."""

    def __init__(self, token: Any) -> None:
        self._token = token

    def run(self, function: Callable[[], Awaitable[Any]], began: Callable[[Any], object]) -> Any:
        import trio

        async def whole() -> Any:
            with trio.CancelScope() as scope:
                began(lambda: self._token.run_sync_soon(scope.cancel))
                return await function()
            raise CallCancelledError("it has been cancelled")

        try:
            return trio.from_thread.run(whole, trio_token=self._token)
        except trio.RunFinishedError as error:
            raise RuntimeError("the event loop has ended") from error


def running_loop() -> Loop | None:
    """Return the loop that runs on this thread, if one does."""
    if "trio" in sys.modules:
        import trio

        try:
            return TrioLoop(trio.lowlevel.current_trio_token())
        except RuntimeError:
            pass
    if "asyncio" in sys.modules:
        import asyncio

        try:
            return AsyncioLoop(asyncio.get_running_loop())
        except RuntimeError:
            pass
    return None
