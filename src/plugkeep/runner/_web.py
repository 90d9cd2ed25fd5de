"""What a plugin offers by HTTP, and the host's requests for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from plugkeep.channel.failures import Failure
from plugkeep.plugin import RouteProvider
from plugkeep.runner._calls import Call
from plugkeep.runner._http import Exchange
from plugkeep.runner._response import Held
from plugkeep.web.application import Offered, offered_by
from plugkeep.wire.http import unpack_scope
from plugkeep.wire.messages import Code
from plugkeep.wire.values import unpack

if TYPE_CHECKING:
    from plugkeep.routing import RouteEntry
    from plugkeep.runner.runner import Runner
    from plugkeep.web._endpoints import Endpoints
    from plugkeep.wire.events import Request

#: Plain handlers of routes run on so many threads.
_THREADS = 40


class Web:
    """A plugin's routes and application, from its start to its stop."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._entries: list[RouteEntry] = []
        self._endpoints: Endpoints | None = None
        self._offered: Offered | None = None
        self._held = Held()
        self._tasks: dict[Exchange, asyncio.Task[None]] = {}  # the loop itself forgets them

    def collect(self) -> bool:
        """Ask the plugin what it offers, now that it has started; say whether that is anything.

        Raises InvalidRouteError and InvalidApplicationError.
        """
        plugin, name = self._runner.plugin, self._runner.name
        if isinstance(plugin, RouteProvider):
            from plugkeep.routing.providers import routes_of
            from plugkeep.routing.table import RouteEntry

            self._entries = [RouteEntry(name, route) for route in routes_of(name, plugin)]
            if self._entries:
                from plugkeep.web._endpoints import Endpoints

                self._endpoints = Endpoints(_THREADS)
        self._offered = offered_by(name, plugin)
        return bool(self._entries or self._offered)

    @property
    def announced(self) -> dict[str, Any]:
        """What the host is told of it."""
        said: dict[str, Any] = {}
        if self._entries:
            said["routes"] = [_announced(entry) for entry in self._entries]
        if self._offered is not None:
            said["application"] = {"mount": self._offered.mount}
        return said

    async def start(self) -> None:
        """Begin the application's lifespan. Raises LifespanError."""
        if self._offered is not None:
            await self._offered.startup()

    async def stop(self) -> None:
        """End the application's lifespan. Raises LifespanError."""
        if self._offered is not None:
            await self._offered.shutdown()

    # --- requests -------------------------------------------------------------------------

    def requested(self, request: Request) -> None:
        """Serve a request; on the loop's thread."""
        runner = self._runner
        try:
            given = request.kwargs
            if request.buffers:
                given = unpack(given, request.buffers, "bytes")
            scope = unpack_scope(given["scope"])
            app = self._application(scope)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            text = f"this is no request of HTTP: {error!r:.200}"
            runner.post_failure(request.id, Failure(Code.INVALID_PARAMS, text, None))
            return
        call = Call(runner, request)
        exchange = Exchange(runner, call, self._held, scope, given.get("body", b""))
        loop = runner.service.loop
        call.nudge = lambda: loop.soon(exchange.nudge)
        runner.calls[call.id] = call
        task = asyncio.get_running_loop().create_task(
            self._serve(exchange, app, scope), context=runner.service.context_of(call)
        )
        exchange.task = task
        self._tasks[exchange] = task

    def _application(self, scope: dict[str, Any]) -> Callable[..., Any]:
        if (index := scope.pop("route", None)) is not None:
            entry = self._entries[index]
            assert self._endpoints is not None  # noqa: S101  # there are entries
            scope["plugkeep"] = entry
            scope["path_params"] = _path_params(entry, scope)
            return self._endpoints.find(entry)
        if self._offered is None:
            raise ValueError("the plugin has no application")
        return self._offered.serve

    async def _serve(
        self, exchange: Exchange, app: Callable[..., Any], scope: dict[str, Any]
    ) -> None:
        failure: BaseException | None = None
        try:
            await app(scope, exchange.receive, exchange.response.send)
            await exchange.response.drain()
        except Exception as error:
            failure = error
            await exchange.response.drain()  # what it has sent before
        except BaseException as error:  # sys.exit() in a handler must not end the plugin
            failure = error
            if not isinstance(error, (SystemExit, asyncio.CancelledError)):
                raise
        finally:
            exchange.end(failure)
            del self._tasks[exchange]


def _path_params(entry: RouteEntry, scope: dict[str, Any]) -> dict[str, Any]:
    """Return what the host has found in the path; found again, for not all of it can travel."""
    from plugkeep.web._endpoints import path_below

    pattern = entry.route.pattern
    values = pattern.match(path_below(scope)) or ()
    return dict(zip(pattern.names, values, strict=False))


def _announced(entry: RouteEntry) -> dict[str, Any]:
    route = entry.route
    return {
        "method": route.method,
        "path": route.path,
        "permissions": list(route.permissions),
        "meta": dict(route.meta),
    }
