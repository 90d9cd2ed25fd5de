"""A table's routes as an ASGI application, on Starlette's router."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Coroutine
from typing import TYPE_CHECKING, Any

import anyio
from starlette.exceptions import HTTPException
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import BaseRoute, Match, NoMatchFound, Router
from starlette.types import ASGIApp, Lifespan, Message, Receive, Scope, Send

from plugkeep.errors import (
    CallTimeoutError,
    HttpError,
    NotStartedError,
    PluginBusyError,
    PluginError,
    PluginNotFoundError,
    ProcessExitedError,
    ProtocolViolationError,
)
from plugkeep.lifecycle import UP, State
from plugkeep.routing.mount import Mount
from plugkeep.routing.table import RouteEntry
from plugkeep.web._endpoints import Endpoints, path_below
from plugkeep.web._failures import tell
from plugkeep.web._limits import Limited, check_head, check_limit

if TYPE_CHECKING:
    from plugkeep.routing import RouteTable
    from plugkeep.web import Authorize, States

log = logging.getLogger("plugkeep.web")

#: States that lead to a running plugin soon, if all goes well.
_COMING = frozenset({State.STARTING, State.RESTARTING})
#: Tells a client to come back, in so many seconds.
_RETRY_AFTER = {"Retry-After": "1"}


class TableApp:
    """Serves a table; see `plugkeep.web.asgi`."""

    def __init__(
        self,
        table: RouteTable,
        *,
        registry: States | None,
        authorize: Authorize | None,
        lifespan: Lifespan[Any] | None,
        threads: int,
        max_body: int | None,
    ) -> None:
        self._table = table
        self._max_body = check_limit(max_body)
        self._route = _TableRoute(table, registry, authorize, threads)
        self._router = Router([self._route], lifespan=lifespan)
        self._alone = ExceptionMiddleware(self._serve)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if scope["type"] != "lifespan":
                receive = self._limited(scope, receive)
                if self._table.has_mounts and (mount := self._route.ready_mount(scope)):
                    await _hand_over(mount, scope, receive, send)
                    return
        except HTTPException as refusal:
            await self._refuse(refusal, scope, receive, send)
            return
        # Inside a Starlette or FastAPI application, that one's handlers answer for exceptions.
        alone = "starlette.exception_handlers" not in scope
        await (self._alone if alone else self._serve)(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Do as the router does, which for all that is found would only take longer."""
        match, found = self._route.matches(scope)
        if match is Match.FULL:
            scope.setdefault("router", self._router)
            scope.update(found)
            await self._route.handle(scope, receive, send)
        else:
            await self._router(scope, receive, send)

    def _limited(self, scope: Scope, receive: Receive) -> Receive:
        """Return what gives no more of a request than may be; HTTPException: it is refused."""
        check_head(scope)
        if self._max_body is None or scope["type"] != "http":
            return receive
        limited = Limited(receive, self._max_body)
        if limited.refuse(scope["headers"]):
            raise limited.error
        return limited

    async def _refuse(
        self, refusal: HTTPException, scope: Scope, receive: Receive, send: Send
    ) -> None:
        if "starlette.exception_handlers" in scope:  # they answer for it
            raise refusal
        if scope["type"] == "http":
            response = PlainTextResponse(refusal.detail, refusal.status_code, refusal.headers)
            await response(scope, receive, send)
        else:
            await _refuse_websocket(refusal, scope, receive, send)


class _TableRoute(BaseRoute):
    """All of a table, as one route of Starlette's router: whatever is in it right now."""

    def __init__(
        self,
        table: RouteTable,
        registry: States | None,
        authorize: Authorize | None,
        threads: int,
    ) -> None:
        self._table = table
        self._registry = registry
        self._authorize = authorize
        self._endpoints = Endpoints(threads)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] not in ("http", "websocket"):
            return Match.NONE, {}
        path = path_below(scope)
        found = None
        if scope["type"] == "http":
            found = self._table.match(scope["method"], path)
        if found is None:
            if (mount := self._table.mounted(path)) is not None:
                return Match.FULL, {"plugkeep": mount}
            if scope["type"] == "websocket":
                return Match.NONE, {}
            allowed = self._table.allowed(path)
            return (Match.PARTIAL if allowed else Match.NONE), {"plugkeep": None}
        params = {**scope.get("path_params", {}), **found.params}
        handler = found.entry.route.handler
        return Match.FULL, {"plugkeep": found.entry, "path_params": params, "endpoint": handler}

    def url_path_for(self, name: str, /, **path_params: Any) -> Any:
        raise NoMatchFound(name, path_params)  # routes of plugins have no names

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        entry: RouteEntry | Mount | None = scope["plugkeep"]
        if entry is None:
            allow = ", ".join(self._table.allowed(path_below(scope)))
            raise HTTPException(405, headers={"Allow": allow})
        if isinstance(entry, Mount):
            await self._refuse_or_hand_over(entry, scope, receive, send)
            return
        self._check_running(entry.plugin)
        if scope["method"] == "HEAD":
            send = _without_body(send)
        known = None if entry.route.permissions else self._endpoints.known(entry)
        await _guard(entry.plugin, known or self._serve, scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        entry: RouteEntry = scope["plugkeep"]
        if entry.route.permissions:
            await self._check_permitted(entry, Request(scope, receive))
        await self._endpoints.find(entry)(scope, receive, send)

    def ready_mount(self, scope: Scope) -> Mount | None:
        """Return the application for a request, where it runs; None: see to it in the long way.

        The router would find the same, and takes as long as all the rest.
        """
        path = path_below(scope)
        if "method" in scope and self._table.match(scope["method"], path) is not None:
            return None
        mount = self._table.mounted(path)
        return mount if mount is not None and self._state(mount.plugin) in UP else None

    async def _refuse_or_hand_over(
        self, mount: Mount, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Refuse what is for an application that does not run, unless it has just come up."""
        try:
            self._check_running(mount.plugin)
        except HTTPException as refusal:
            if scope["type"] == "http":
                raise
            await _refuse_websocket(refusal, scope, receive, send)
        else:
            await _hand_over(mount, scope, receive, send)

    def _state(self, plugin: str | None) -> State | None:
        """Return the state of a plugin, where that matters; None: it is not registered."""
        if plugin is None or self._registry is None:
            return State.RUNNING
        try:
            return self._registry.state(plugin)
        except PluginNotFoundError:
            return None

    def _check_running(self, plugin: str | None) -> None:
        state = self._state(plugin)
        if state in UP:
            return
        raise HTTPException(
            503,
            f"plugin '{plugin}' is not running: it is {state or 'not registered'}",
            headers=_RETRY_AFTER if state in _COMING else None,
        )

    async def _check_permitted(self, entry: RouteEntry, request: Request) -> None:
        permissions = entry.route.permissions
        if self._authorize is None:
            log.warning(
                "%s of plugin %r needs %s and is refused: the host has given no 'authorize'",
                entry.route, entry.plugin, permissions,
            )  # fmt: skip
        # Not `not allowed`: a forgotten await, or (False, "reason"), would be true.
        elif await self._endpoints.call(None, self._authorize, request, permissions) is True:
            return
        raise HTTPException(403, f"needs permission: {', '.join(permissions)}")


def _hand_over(
    mount: Mount, scope: Scope, receive: Receive, send: Send
) -> Coroutine[Any, Any, None]:
    """Leave a request to an application."""
    below = {**scope, "root_path": scope.get("root_path", "") + mount.path}
    if not _OURS.isdisjoint(below):
        for key in _OURS:
            below.pop(key, None)
    return _guard(mount.plugin, mount.application, below, receive, send)


async def _refuse_websocket(
    refusal: HTTPException, scope: Scope, receive: Receive, send: Send
) -> None:
    """Refuse the handshake, with a response of HTTP where the server can."""
    await receive()
    if "websocket.http.response" in scope.get("extensions", {}):
        response = PlainTextResponse(refusal.detail, refusal.status_code, refusal.headers)
        await response(scope, receive, send)
    else:
        await send({"type": "websocket.close", "code": 1013, "reason": refusal.detail})


#: Members of a scope that are the table's router's, and not for an application below it.
_OURS = frozenset(
    {
        "plugkeep",
        "router",
        "endpoint",
        "path_params",
        "app_root_path",
        "starlette.exception_handlers",
    }
)


class _Sending:
    """The sending side of a request: notes whether anything is on its way."""

    def __init__(self, send: Send, receive: Receive) -> None:
        self._send = send
        self.limited = receive if isinstance(receive, Limited) else None
        self.is_begun = False

    def __call__(self, message: Message) -> Awaitable[None]:
        """See ASGI."""
        if self.limited is not None and self.limited.is_exceeded and not self.is_begun:
            return _nothing()  # whatever it makes of that, the client is told why
        self.is_begun = True
        return self._send(message)


async def _nothing() -> None:
    pass


async def _guard(
    plugin: str | None, app: ASGIApp, scope: Scope, receive: Receive, send: Send
) -> None:
    """Run `app`; what a plugin raises is logged with its name and harms nobody else.

    Raises HTTPException, for whoever is around the table's application to answer.
    """
    sending = _Sending(send, receive)
    try:
        await app(scope, receive, sending)
        if not sending.is_begun:
            _refuse_for(None, sending)
    except HTTPException:
        raise
    except BaseException as error:  # sys.exit() in a handler must not end the host
        if _is_from_outside(error):
            raise
        if scope["type"] == "websocket" and _is_refused(error):
            await _refuse_websocket(_busy(error), scope, receive, send)
            return
        _refuse_for(error, sending)
        what = _what(scope)
        if tell(what, plugin, error):
            return
        if sending.is_begun or scope["type"] == "websocket":
            _break_off(what, error)
        else:
            await _failure(plugin, error)(scope, receive, send)


def _what(scope: Scope) -> str:
    """Return how a request is called in the log."""
    if isinstance(entry := scope.get("plugkeep"), RouteEntry):
        return str(entry.route)
    return f"{scope.get('method', 'WebSocket')} {scope['path']}"


def _refuse_for(error: BaseException | None, sending: _Sending) -> None:
    """Raise what a client is told, who has been told nothing, where that is no failure."""
    if sending.is_begun:
        return
    if sending.limited is not None and sending.limited.is_exceeded:
        raise sending.limited.error from error
    if isinstance(error, PluginBusyError):
        raise _busy(error) from error
    if isinstance(error, HttpError):
        raise HTTPException(error.status, error.message, error.headers) from error


def _is_refused(error: BaseException) -> bool:
    """Say whether a plugin has not even heard of a request, for it has too many."""
    return isinstance(error, PluginBusyError) and error.max_calls is not None


def _busy(error: BaseException) -> HTTPException:
    return HTTPException(503, f"plugin '{getattr(error, 'plugin', None)}' is busy", _RETRY_AFTER)


def _break_off(what: str, error: BaseException) -> None:
    """Have the server break the connection off: half an answer is on its way.

    To return is enough for that. What was raised here it is told, for it may have to know.
    """
    if isinstance(error, PluginError):
        return
    if isinstance(error, Exception):
        raise error
    raise RuntimeError(f"{what} broke off: {type(error).__name__}") from error


def _failure(plugin: str | None, error: BaseException) -> PlainTextResponse:
    """Return what a client is told whose request has failed."""
    for kind, status, text in _FAILURES:
        if isinstance(error, kind):
            return PlainTextResponse(text.format(plugin), status)
    whose = f" in plugin '{plugin}'" if plugin else ""
    return PlainTextResponse(f"Internal Server Error{whose}", 500)


_FAILURES: tuple[tuple[type[Exception], int, str], ...] = (
    (ProcessExitedError, 502, "plugin '{}' has ended while it was answering"),
    (ProtocolViolationError, 502, "plugin '{}' has ended while it was answering"),
    (CallTimeoutError, 504, "plugin '{}' did not answer in time"),
    (NotStartedError, 503, "plugin '{}' is not running"),
)


def _is_from_outside(error: BaseException) -> bool:
    """Whether `error` ends the request or the process, and is not the doing of a handler."""
    if isinstance(error, (Exception, SystemExit)):
        return False
    if isinstance(error, (KeyboardInterrupt, GeneratorExit)):
        return True
    if not isinstance(error, anyio.get_cancelled_exc_class()):
        return False
    if not isinstance(error, asyncio.CancelledError):
        return True  # Trio's own, which only Trio can raise
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0  # else the handler raised it itself


def _without_body(send: Send) -> Send:
    """Return a `send` for HEAD: handlers of GET answer it, and not every server drops the body."""

    async def send_head(message: Message) -> None:
        if message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await send(message)

    return send_head
