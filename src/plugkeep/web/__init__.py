"""Serves a `RouteTable` by ASGI or WSGI, on Starlette. Needs the extra ``plugkeep[web]``.

Importing this imports no web framework; building an application does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from plugkeep.errors import MissingExtraError

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp, Lifespan

    from plugkeep.lifecycle import State
    from plugkeep.routing import RouteEntry, RouteTable
    from plugkeep.web._wsgi import WsgiApp

#: Decides whether a request has the permissions that a route asks for. Plain functions run on a
#: worker thread. Only True lets the request through; for an answer of its own, such as 401, it
#: raises Starlette's HTTPException.
Authorize = Callable[["Request", tuple[str, ...]], "bool | Awaitable[bool]"]


class States(Protocol):
    """What is needed of a registry here."""

    def state(self, name: str, /) -> State: ...


def asgi(
    table: RouteTable,
    *,
    registry: States | None = None,
    authorize: Authorize | None = None,
    lifespan: Lifespan[Any] | None = None,
    threads: int = 40,
    max_body: int | None = None,
) -> ASGIApp:
    """Return an ASGI application that serves the routes in `table`, as they come and go.

    It runs under any ASGI server and can be mounted into Starlette, FastAPI or any ASGI
    application. Where the host has handlers for HTTPException, they shape the answers 403, 404,
    405 and 503, too.

    `registry` says which plugins run; routes of the others answer 503. Without it all do.
    `authorize` decides about routes with permissions. Without it they answer 403.
    `lifespan` is entered when the server starts and left when it stops, as in Starlette; it is
    called with the application that this one is the root of, or None.
    `threads` is how many plain handlers of one plugin run at a time; each plugin has its own.
    `max_body` is how many bytes the body of a request may have; one that has more is answered
    with 413. Without it servers and applications decide. Headers may have 64 KiB in all: 431.

    Raises MissingExtraError where Starlette is not installed, ValueError for a limit that is none.
    """
    with _extra():
        from plugkeep.web._asgi import TableApp
    return TableApp(
        table,
        registry=registry,
        authorize=authorize,
        lifespan=lifespan,
        threads=threads,
        max_body=max_body,
    )


def wsgi(
    table: RouteTable,
    *,
    registry: States | None = None,
    authorize: Authorize | None = None,
    threads: int = 40,
    max_body: int | None = None,
) -> WsgiApp:
    """Return a WSGI application that serves the routes in `table`, as they come and go.

    It runs under any WSGI server and can be mounted into Flask, Django or any WSGI application.
    Handlers and middleware are the same as under ASGI: they run in an event loop on a daemon
    thread, which begins with the first request and ends with `close()`. Parameters as of `asgi`.

    Raises MissingExtraError where Starlette or a2wsgi is not installed.
    """
    with _extra():
        from plugkeep.web._wsgi import WsgiApp
    app = asgi(table, registry=registry, authorize=authorize, threads=threads, max_body=max_body)
    return WsgiApp(app)


def route_of(request: Mapping[str, Any]) -> RouteEntry:
    """Return the route that answers `request`, and its plugin.

    Takes a request in handlers and `authorize`, a scope in middleware. LookupError elsewhere.
    """
    entry: RouteEntry | None = request.get("plugkeep")
    if entry is None:
        raise LookupError("this request is not being answered by the route of a plugin")
    return entry


@contextmanager
def _extra() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in ("starlette", "a2wsgi"):
            raise
        raise MissingExtraError(
            f"serving routes needs {package}, which is not installed; "
            f"install it with: pip install 'plugkeep[web]'",
            source=package,
        ) from error
