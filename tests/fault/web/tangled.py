"""A plugin whose requests end in odd ways, and which tells what it has kept of them."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import weakref
from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route as StarletteRoute

from plugkeep import Route, expose


async def large(_request: Request) -> Response:
    return Response(bytes(100_000))


class Opened:
    """Stands for what a handler has open: a connection, or a large body."""


async def fail(_request: Request) -> Response:
    opened = Opened()
    OPEN.add(opened)
    raise RuntimeError("as it should")


async def endless(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while True:
        await send({"type": "http.response.body", "body": bytes(100_000), "more_body": True})


async def early(request: Request) -> Response:
    """Answer without having read more than a piece of the body."""
    async for _piece in request.stream():
        break
    return PlainTextResponse("that will do")


async def whole(request: Request) -> Response:
    return PlainTextResponse(str(len(await request.body())))


async def elsewhere(request: Request) -> Response:
    """Read the body in a task that knows nothing of this request."""
    reading = asyncio.create_task(request.body(), context=contextvars.Context())
    return PlainTextResponse(str(len(await reading)))


async def kept(_request: Request) -> Response:
    """Tell how many requests there are, this one included."""
    gc.collect()
    count = sum(type(each).__name__ == "Exchange" for each in gc.get_objects())
    return PlainTextResponse(str(count))


async def still_open(_request: Request) -> Response:
    """Tell how much is open that requests have opened."""
    return PlainTextResponse(str(len(OPEN)))


async def links(request: Request) -> Response:
    """Tell where the request was, and where links lead."""
    told = {
        "parameters": request.path_params,
        "base": str(request.base_url),
        "link": str(request.url_for("links", key="ab")) if "/app/" in request.url.path else "",
    }
    return JSONResponse(told)


OPEN: weakref.WeakSet[Opened] = weakref.WeakSet()
EXCEPTIONS: dict[str, Callable[[], HTTPException]] = {
    "header": lambda: HTTPException(400, "no", headers={"x": "\u010d"}),
    "detail": lambda: HTTPException(400, "half a character: \udc80"),
    "headers": lambda: HTTPException(400, "no", headers=["x"]),  # type: ignore[arg-type]
    "status": lambda: HTTPException(object(), "no"),  # type: ignore[arg-type]
}


async def refuse(request: Request) -> Response:
    raise EXCEPTIONS[request.path_params["how"]]()


def unfit(_app: Any) -> Any:
    raise RuntimeError("no middleware today")


class PluginFactory:
    name = "tangled"
    mount = "/app"

    def __init__(self) -> None:
        handlers = large, fail, still_open, early, whole, elsewhere, kept
        self.application = Starlette(
            routes=[
                *(StarletteRoute(f"/{each.__name__}", each, methods=["GET", "POST"])
                  for each in handlers),
                StarletteRoute("/endless", endless),
                StarletteRoute("/links/{key}", links),
            ]
        )  # fmt: skip

    def start(self) -> None:
        gc.disable()  # what is kept by itself alone is kept, too

    def stop(self) -> None:
        gc.enable()

    def routes(self) -> list[Route]:
        return [
            Route("GET", "/fine", lambda _: "fine"),
            Route("GET", "/unfit", lambda _: "never", middleware=[unfit]),
            Route("GET", "/refuse/{how}", refuse),
            Route("GET", "/links/{key}", links),
        ]

    @expose
    def echo(self, data: bytes) -> bytes:
        return data
