"""The plugins' routes as a web application: with our pages for errors, and safe for its users."""

from __future__ import annotations

from typing import Any

from contracts import Pages
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from plugkeep import Host

HEADERS = {
    # All there is comes from here; nothing inline runs, whatever a document smuggles in.
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


EVERYWHERE = {"0.0.0.0", "[::]"}  # noqa: S104  (only where somebody asked for it)


def application(host: Host, *names: str) -> ASGIApp:
    """Return what serves the plugins of `host` to browsers that know this machine by `names`."""
    known = ["*"] if EVERYWHERE.intersection(names) else ["localhost", "127.0.0.1", *names]

    async def failed(request: Request, error: Exception) -> Response:
        return _failed(host, request, error)

    return Starlette(
        routes=[Mount("/", host.asgi())],
        middleware=[
            Middleware(_Headers),
            # Another site's name that leads to this machine (DNS rebinding) leads nowhere.
            Middleware(TrustedHostMiddleware, allowed_hosts=known),
        ],
        exception_handlers={HTTPException: failed},
    )


def _failed(host: Host, request: Request, error: Any) -> Response:
    pages = next(host.registry.providing(Pages), None)
    if pages is None or request.method == "HEAD":
        return PlainTextResponse(error.detail, error.status_code, error.headers)
    response = pages.page("error.html", status=error.status_code, error=error)
    response.headers.update(error.headers or {})
    return response


class _Headers:
    """Adds our headers to every answer that has not its own."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def add(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, add)
