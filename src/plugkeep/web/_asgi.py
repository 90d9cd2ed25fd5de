"""A table's routes as an ASGI application, on Starlette's router."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import anyio
from anyio import to_thread
from starlette.exceptions import HTTPException
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Match, NoMatchFound, Router, request_response
from starlette.types import ASGIApp, Lifespan, Message, Receive, Scope, Send

from plugkeep.errors import PluginNotFoundError
from plugkeep.lifecycle import UP, State

if TYPE_CHECKING:
    from plugkeep.routing import RouteEntry, RouteTable
    from plugkeep.web import Authorize, States

log = logging.getLogger("plugkeep.web")

#: States that lead to a running plugin soon, if all goes well.
_COMING = frozenset({State.STARTING, State.RESTARTING})


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
    ) -> None:
        routes = [_TableRoute(table, registry, authorize, threads)]
        self._router = Router(routes, lifespan=lifespan)
        self._alone = ExceptionMiddleware(self._router)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Inside a Starlette or FastAPI application, that one's handlers answer for exceptions.
        alone = "starlette.exception_handlers" not in scope
        await (self._alone if alone else self._router)(scope, receive, send)


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
        self._threads = threads
        self._limiters: dict[str | None, anyio.CapacityLimiter] = {}
        # Weak: what has left the table must not live on here.
        self._apps: WeakKeyDictionary[RouteEntry, ASGIApp] = WeakKeyDictionary()

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] != "http":
            return Match.NONE, {}
        path = _path(scope)
        found = self._table.match(scope["method"], path)
        if found is None:
            allowed = self._table.allowed(path)
            return (Match.PARTIAL if allowed else Match.NONE), {"plugkeep": None}
        params = {**scope.get("path_params", {}), **found.params}
        handler = found.entry.route.handler
        return Match.FULL, {"plugkeep": found.entry, "path_params": params, "endpoint": handler}

    def url_path_for(self, name: str, /, **path_params: Any) -> Any:
        raise NoMatchFound(name, path_params)  # routes of plugins have no names

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        entry: RouteEntry | None = scope["plugkeep"]
        if entry is None:
            allow = ", ".join(self._table.allowed(_path(scope)))
            raise HTTPException(405, headers={"Allow": allow})
        self._check_running(entry.plugin)
        if scope["method"] == "HEAD":
            send = _without_body(send)
        await _guard(entry, self._serve, scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        entry: RouteEntry = scope["plugkeep"]
        if entry.route.permissions:
            await self._check_permitted(entry, Request(scope, receive))
        app = self._apps.get(entry)
        if app is None:
            app = self._apps[entry] = self._build(entry)
        await app(scope, receive, send)

    def _check_running(self, plugin: str | None) -> None:
        if plugin is None or self._registry is None:
            return
        try:
            state: State | None = self._registry.state(plugin)
        except PluginNotFoundError:
            state = None
        if state in UP:
            return
        raise HTTPException(
            503,
            f"plugin '{plugin}' is not running: it is {state or 'not registered'}",
            headers={"Retry-After": "1"} if state in _COMING else None,
        )

    async def _check_permitted(self, entry: RouteEntry, request: Request) -> None:
        permissions = entry.route.permissions
        if self._authorize is None:
            log.warning(
                "%s of plugin %r needs %s and is refused: the host has given no 'authorize'",
                entry.route, entry.plugin, permissions,
            )  # fmt: skip
        # Not `not allowed`: a forgotten await, or (False, "reason"), would be true.
        elif await self._call(None, self._authorize, request, permissions) is True:
            return
        raise HTTPException(403, f"needs permission: {', '.join(permissions)}")

    def _build(self, entry: RouteEntry) -> ASGIApp:
        handler, route, plugin = entry.route.handler, str(entry.route), entry.plugin

        async def endpoint(request: Request) -> Response:
            return _response(await self._call(plugin, handler, request), route)

        app = request_response(endpoint)
        for middleware in reversed(entry.route.middleware):
            app = _wrap(middleware, app)
        return app

    async def _call(self, plugin: str | None, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function of `plugin`, on a thread of its own unless it is asynchronous."""
        if _is_async(function):
            return await function(*args)
        limiter = self._limiters.get(plugin)
        if limiter is None:
            limiter = self._limiters[plugin] = anyio.CapacityLimiter(self._threads)
        result = await to_thread.run_sync(function, *args, limiter=limiter)
        return await result if inspect.isawaitable(result) else result


async def _guard(
    entry: RouteEntry, app: ASGIApp, scope: Scope, receive: Receive, send: Send
) -> None:
    """Run `app`; what a plugin raises is logged with its name and harms nobody else."""
    started = False

    async def note(message: Message) -> None:
        nonlocal started
        started = True
        await send(message)

    try:
        await app(scope, receive, note)
    except HTTPException:
        raise
    except ClientDisconnect:
        log.debug("%s of plugin %r: the client has gone", entry.route, entry.plugin)
    except BaseException as error:  # sys.exit() in a handler must not end the host
        if _is_from_outside(error):
            raise
        log.exception("%s of plugin %r failed", entry.route, entry.plugin)
        if started:  # the server has to break the connection off: half an answer is on its way
            if isinstance(error, Exception):
                raise
            raise RuntimeError(f"{entry.route} broke off: {type(error).__name__}") from error
        whose = f" in plugin '{entry.plugin}'" if entry.plugin else ""
        await PlainTextResponse(f"Internal Server Error{whose}", 500)(scope, receive, send)


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


def _response(result: object, route: str) -> Response:
    """Return what a handler returned as a response."""
    match result:
        case Response():
            return result
        case None:
            return Response(status_code=204)
        case str():
            return PlainTextResponse(result)
        case bytes():
            return Response(result, media_type="application/octet-stream")
        case dict() | list():
            return JSONResponse(result)
    raise TypeError(
        f"the handler of {route} returned {type(result).__name__}; it can return a Starlette "
        f"Response, str, bytes, dict, list or None"
    )


def _wrap(middleware: Any, app: ASGIApp) -> ASGIApp:
    if hasattr(middleware, "cls"):
        wrapped = middleware.cls(app, *middleware.args, **middleware.kwargs)
    else:
        wrapped = middleware(app)
    if not callable(wrapped):
        raise TypeError(f"the middleware {middleware!r} returned {wrapped!r}, no ASGI application")
    return wrapped  # type: ignore[no-any-return]


def _without_body(send: Send) -> Send:
    """Return a `send` for HEAD: handlers of GET answer it, and not every server drops the body."""

    async def send_head(message: Message) -> None:
        if message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await send(message)

    return send_head


def _is_async(function: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004  (an object with an async __call__)
    )


def _path(scope: Scope) -> str:
    """Return the path below where the application is mounted."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    below = path.removeprefix(root)
    return below if not below or below.startswith("/") else path
