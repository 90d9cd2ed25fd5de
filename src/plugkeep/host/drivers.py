"""Driving a registry from the main thread of a process that it has to itself.

Plugins are driven on that thread, as plain code expects (SQLite connections and signal handlers
want one thread); where any plugin is asynchronous, by an event loop on another thread, so that a
signal finds the main thread free in either case.
"""

from __future__ import annotations

from concurrent.futures import CancelledError
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from plugkeep.errors import LifecycleError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from anyio.from_thread import BlockingPortal

    from plugkeep.registry import Registry


class Driver:
    """Makes a registry do things, and calls functions, on the current thread."""

    #: Whether plugins are started and stopped on the main thread.
    is_on_main = True

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def do(self, verb: str, *args: Any, **kwargs: Any) -> Any:
        """Have the registry do something: ``do("start", "clock")``."""
        return getattr(self._registry, verb)(*args, **kwargs)

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a function, plain or asynchronous, and return what it returns."""
        result = function(*args, **kwargs)
        if not hasattr(result, "__await__"):
            return result
        import asyncio

        return asyncio.run(_awaited(lambda: result))


class LoopDriver(Driver):
    """The same in an event loop on another thread, for plugins that are asynchronous."""

    is_on_main = False

    def __init__(self, registry: Registry, portal: BlockingPortal) -> None:
        super().__init__(registry)
        self._portal = portal

    def do(self, verb: str, *args: Any, **kwargs: Any) -> Any:
        return self.call(getattr(self._registry, f"a{verb}"), *args, **kwargs)

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        whole = partial(function, *args, **kwargs)
        try:
            future = self._portal.start_task_soon(_settled, whole)
        except RuntimeError:  # the loop has ended; what has to be stopped has to be stopped
            return super().call(whole)
        try:
            result, error = future.result()
        except CancelledError:
            raise LifecycleError(
                "the event loop has ended under the plugins: one of them has called sys.exit() "
                "in a task, or ended the loop itself"
            ) from None
        finally:
            future.cancel()  # which does nothing unless waiting for it was interrupted
        if error is not None:
            raise error
        return result


async def _settled(function: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    """Return what comes of `function`; as errors, too, those that would end the loop."""
    try:
        return await _awaited(function), None
    except (KeyboardInterrupt, SystemExit) as error:
        return None, error


async def _awaited(function: Callable[[], Any]) -> Any:
    result = function()
    return await result if hasattr(result, "__await__") else result


@contextmanager
def driving(
    registry: Registry, when_looping: Callable[[], object] = lambda: None
) -> Iterator[Driver]:
    """Yield what drives `registry`: here, or in an event loop if any plugin is asynchronous.

    `when_looping` is called in that loop first.
    """
    if not has_async_plugins(registry):
        yield Driver(registry)
        return
    from anyio.from_thread import start_blocking_portal

    with start_blocking_portal("asyncio") as portal:
        portal.call(when_looping)
        yield LoopDriver(registry, portal)


def has_async_plugins(registry: Registry) -> bool:
    """Say whether start or stop of any plugin is ``async def``."""
    from inspect import iscoroutinefunction

    return any(
        iscoroutinefunction(method)
        for name in registry
        for method in (registry[name].start, registry[name].stop)
    )
