"""What a plugin offers by HTTP, and the host's requests for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context
from typing import TYPE_CHECKING, Any

from plugkeep.channel.failures import Failure
from plugkeep.plugin import RouteProvider
from plugkeep.runner._calls import Call
from plugkeep.runner._http import Exchange
from plugkeep.runner._response import Held
from plugkeep.web.application import Offered, offered_by
from plugkeep.wire.events import Request
from plugkeep.wire.frames import Frames
from plugkeep.wire.http import HTTP
from plugkeep.wire.http_request import HttpRequest, http_request, http_requests
from plugkeep.wire.messages import Code, Id
from plugkeep.wire.values import unpack

if TYPE_CHECKING:
    from plugkeep.routing import RouteEntry
    from plugkeep.runner.runner import Runner
    from plugkeep.web._endpoints import Endpoints
    from plugkeep.wire.sending import Sending

#: Plain handlers of routes run on so many threads.
_THREADS = 40


#: With more requests under way the answers are gathered, so many at most.
_FEW = 2
_AT_ONCE = 8


class Web:
    """A plugin's routes and application, from its start to its stop."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._entries: list[RouteEntry] = []
        self._endpoints: Endpoints | None = None
        self._offered: Offered | None = None
        self._held = Held()
        self._exchanges: set[Exchange] = set()  # and so their tasks: the loop itself forgets them

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

    def take(self, data: bytes) -> bool:
        """Serve the requests that `data` is; False: it is something else. See `Channel.takes`."""
        runner, connection = self._runner, self._runner.connection
        if runner.is_stopping or not (
            runner.life.is_running and isinstance(connection.codec, Frames)
        ):
            return False
        requests = http_requests(connection.codec, data)
        if not (requests and connection.take_streams(requests)):
            return False
        for request in requests:
            self._begin(request)
        return True

    def requested(self, request: Request) -> None:
        """Serve a request; on the loop's thread."""
        try:
            params = request.kwargs
            if request.buffers:
                params = unpack(params, request.buffers, "bytes")
            self._begin(http_request(request.id, params, request.credit or 0))
        except ValueError as error:
            self._refuse(request.id, error)

    def _begin(self, request: HttpRequest) -> None:
        runner, params = self._runner, request.params
        index = params.scope.get("route")
        if self._offered is None if index is None else not 0 <= index < len(self._entries):
            self._refuse(request.id, ValueError("the plugin has no such route or application"))
            return
        call = Call(runner, Request(request.id, HTTP, [], {}, (), None, request.credit, None))
        exchange = Exchange(runner, call, self._held, params)
        loop = runner.service.loop
        call.nudge = lambda: loop.soon(exchange.nudge)
        call.send = self._send
        runner.calls[call.id] = call
        scope: dict[str, Any] = params.scope  # type: ignore[assignment]  # it is no more than that
        asyncio.get_running_loop().create_task(self._serve(exchange, scope), context=Context())
        self._exchanges.add(exchange)

    def _send(self, sending: Sending) -> None:
        """Send an answer; where there will be more in a moment, together with those."""
        channel = self._runner.channel
        side = self._runner.service.loop.side
        if side is None or len(self._exchanges) <= _FEW:
            channel.post(sending)
        else:
            channel.outbox.put(sending)
            side.see_to_it(gathers=len(channel.outbox) < _AT_ONCE)

    def _refuse(self, number: Id, error: ValueError) -> None:
        failure = Failure(Code.INVALID_PARAMS, f"this is no request of HTTP: {error}", None)
        self._runner.post_failure(number, failure)

    def _application(self, scope: dict[str, Any]) -> Callable[..., Any]:
        """Return what a request is for. Raises what a route's middleware does where it is made."""
        if (index := scope.pop("route", None)) is not None:
            entry = self._entries[index]
            assert self._endpoints is not None  # noqa: S101  # there are entries
            scope["plugkeep"] = entry
            scope["path_params"] = {**scope.get("path_params", {}), **_path_params(entry, scope)}
            return self._endpoints.find(entry)
        assert self._offered is not None  # noqa: S101  # see `_begin`
        return self._offered.serve

    async def _serve(self, exchange: Exchange, scope: dict[str, Any]) -> None:
        failure: BaseException | None = None
        # Not before: a task that is cancelled before its first step never takes it, and so would
        # answer nothing.
        exchange.task = asyncio.current_task()
        self._runner.service.enter(exchange.call)
        try:
            exchange.call.check()
            app = self._application(scope)
            await app(scope, exchange.receive, exchange.response.send)
            if not exchange.response.is_complete:
                await exchange.response.drain()
        except Exception as error:
            failure = error
            await exchange.response.drain()  # what it has sent before
        except BaseException as error:  # sys.exit() in a handler must not end the plugin
            failure = error
            if not isinstance(error, (SystemExit, asyncio.CancelledError)):
                raise
        finally:
            self._exchanges.discard(exchange)
            exchange.end(failure)
            failure = None  # its traceback has this very frame, and so would keep itself


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
