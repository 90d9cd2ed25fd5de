"""The route of a plugin as an ASGI application, on Starlette: for whoever answers its requests."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import anyio
from anyio import to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import request_response
from starlette.types import ASGIApp, Scope

from plugkeep.sandbox.web import RemoteHandler

if TYPE_CHECKING:
    from plugkeep.routing import RouteEntry


class Endpoints:
    """Makes applications of routes. Plain handlers run on threads, `threads` for each plugin."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._limiters: dict[str | None, anyio.CapacityLimiter] = {}
        # Weak: what has left the table must not live on here.
        self._apps: WeakKeyDictionary[RouteEntry, ASGIApp] = WeakKeyDictionary()

    def known(self, entry: RouteEntry) -> ASGIApp | None:
        """Return what answers the requests for a route; None: that has not been made yet."""
        return self._apps.get(entry)

    def find(self, entry: RouteEntry) -> ASGIApp:
        """Return what answers the requests for a route."""
        app = self._apps.get(entry)
        if app is None:
            app = self._apps[entry] = self._build(entry)
        return app

    def _build(self, entry: RouteEntry) -> ASGIApp:
        handler, route, plugin = entry.route.handler, str(entry.route), entry.plugin
        if isinstance(handler, RemoteHandler):
            return handler.application

        async def answer(request: Request) -> Response:
            return _response(await handler(request), route)

        async def answer_apart(request: Request) -> Response:
            return _response(await self.call(plugin, handler, request), route)

        app = request_response(answer if _is_async(handler) else answer_apart)
        for middleware in reversed(entry.route.middleware):
            app = _wrap(middleware, app)
        return app

    async def call(self, plugin: str | None, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function of `plugin`, on a thread of its own unless it is asynchronous."""
        if _is_async(function):
            return await function(*args)
        limiter = self._limiters.get(plugin)
        if limiter is None:
            limiter = self._limiters[plugin] = anyio.CapacityLimiter(self._threads)
        result = await to_thread.run_sync(function, *args, limiter=limiter)
        return await result if inspect.isawaitable(result) else result


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


def _is_async(function: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004  (an object with an async __call__)
    )


def path_below(scope: Scope) -> str:
    """Return the path below where the application is mounted."""
    path: str = scope["path"]
    if not (root := scope.get("root_path")):
        return path
    below = path.removeprefix(root)
    return below if not below or below.startswith("/") else path
