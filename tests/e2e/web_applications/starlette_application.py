"""A Starlette application with a bit of everything."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import (
    FileResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

#: What happened in the background, and to requests whose clients have gone.
events: list[str] = []
news = anyio.Event()


def happened(what: str) -> None:
    events.append(what)
    news.set()


async def echo(request: Request) -> JSONResponse:
    scope = request.scope
    return JSONResponse(
        {
            "method": scope["method"],
            "path": scope["path"],
            "raw_path": scope["raw_path"].decode("latin-1"),
            "root_path": scope["root_path"],
            "query": scope["query_string"].decode("latin-1"),
            "version": scope["http_version"],
            "scheme": scope["scheme"],
            "client": scope.get("client"),
            "server": scope.get("server"),
            "headers": [[each.decode("latin-1") for each in pair] for pair in scope["headers"]],
            "parameters": request.path_params,
            "cookies": request.cookies,
            "base": str(request.base_url),
            "body": (await request.body()).decode("latin-1"),
        }
    )


async def form(request: Request) -> JSONResponse:
    found: list[Any] = []
    async with request.form() as fields:
        for name, value in fields.multi_items():
            if isinstance(value, str):
                found.append([name, value])
            else:
                text = (await value.read()).decode("latin-1")
                found.append([name, value.filename, value.content_type, text])
    return JSONResponse(found)


async def count(request: Request) -> JSONResponse:
    return JSONResponse(sum([len(piece) async for piece in request.stream()]))


async def indifferent(request: Request) -> PlainTextResponse:
    return PlainTextResponse("never mind the body")


async def redirect(request: Request) -> RedirectResponse:
    return RedirectResponse(request.url_for("echo"))


async def cookies(request: Request) -> Response:
    response = Response(b"", headers={"X-Twice": "1"})
    response.raw_headers += [(b"x-twice", b"2"), (b"x-latin", "grüße".encode("latin-1"))]
    response.set_cookie("one", "1", httponly=True)
    response.set_cookie("two", "2; odd", samesite="strict")
    return response


async def many(request: Request) -> Response:
    return Response(b"", headers={f"x-number-{n}": "n" * 50 for n in range(100)})


async def stream(request: Request) -> StreamingResponse:
    async def pieces() -> AsyncIterator[bytes]:
        for n in range(20):
            yield b"%d," % n
            if n % 5 == 0:
                await anyio.lowlevel.checkpoint()

    return StreamingResponse(pieces(), media_type="text/plain")


async def large(request: Request) -> Response:
    return Response(b"0123456789abcdef" * 100_000)


async def some(request: Request) -> Response:
    return Response(b"x" * int(request.path_params["number"]))


async def server_sent(request: Request) -> StreamingResponse:
    async def lines() -> AsyncIterator[str]:
        yield "retry: 1000\n\n"
        for n in range(3):
            yield f"event: tick\nid: {n}\ndata: {n}\n\n"

    return StreamingResponse(lines(), media_type="text/event-stream")


async def file(request: Request) -> FileResponse:
    return FileResponse(Path(__file__).with_name("blob.txt"))


async def empty(request: Request) -> Response:
    return Response(status_code=204)


async def unmodified(request: Request) -> Response:
    return Response(status_code=304, headers={"etag": '"1"'})


async def teapot(request: Request) -> Response:
    raise HTTPException(418, "short and stout", headers={"x-kind": "teapot"})


async def broken(request: Request) -> Response:
    raise RuntimeError("before the response")


async def breaks(request: Request) -> StreamingResponse:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"first"
        raise RuntimeError("in the middle")

    return StreamingResponse(pieces())


async def background(request: Request) -> PlainTextResponse:
    return PlainTextResponse("soon", background=BackgroundTask(happened, "background"))


async def forever(request: Request) -> StreamingResponse:
    async def pieces() -> AsyncIterator[bytes]:
        try:
            yield b"it begins"
            await anyio.sleep_forever()
        finally:
            happened("gone")

    return StreamingResponse(pieces())


async def happenings(request: Request) -> JSONResponse:
    """Answer with what has happened, once that is anything."""
    global news
    await news.wait()
    found, news = [*events], anyio.Event()
    events.clear()
    return JSONResponse(found)


# --- WebSockets -----------------------------------------------------------------------------------


async def echoing(socket: WebSocket) -> None:
    await socket.accept(subprotocol="second" if "second" in socket.scope["subprotocols"] else None)
    try:
        while True:
            event = await socket.receive()
            if event["type"] == "websocket.disconnect":
                happened(f"closed {event['code']} {event.get('reason') or ''}".strip())
                return
            text, data = event.get("text"), event.get("bytes")
            await (socket.send_text(text) if text is not None else socket.send_bytes(data))
    except WebSocketDisconnect:
        happened("lost")


async def closing(socket: WebSocket) -> None:
    await socket.accept(headers=[(b"x-kind", b"closing")])
    await socket.send_text("bye")
    await socket.close(4321, "enough")


async def refusing(socket: WebSocket) -> None:
    await socket.close()


async def denying(socket: WebSocket) -> None:
    await socket.send_denial_response(PlainTextResponse("not you", 401, {"x-kind": "denial"}))


async def failing(socket: WebSocket) -> None:
    await socket.accept()
    raise RuntimeError("in a WebSocket")


async def described(socket: WebSocket) -> None:
    scope = socket.scope
    await socket.accept()
    await socket.send_json(
        {key: scope[key] for key in ("path", "root_path", "scheme", "subprotocols")}
        | {"query": scope["query_string"].decode(), "parameters": socket.path_params}
    )
    await socket.close()


ANY = ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"]
application = Starlette(
    routes=[
        Route("/", echo, methods=ANY, name="echo"),
        Route("/echo/{rest:path}", echo, methods=ANY),
        Route("/item/{number:int}", echo),
        Route("/form", form, methods=["POST"]),
        Route("/count", count, methods=["POST"]),
        Route("/indifferent", indifferent, methods=["POST"]),
        Route("/redirect", redirect),
        Route("/cookies", cookies),
        Route("/many", many),
        Route("/stream", stream),
        Route("/large", large),
        Route("/bytes/{number:int}", some),
        Route("/sse", server_sent),
        Route("/file", file),
        Route("/empty", empty),
        Route("/unmodified", unmodified),
        Route("/teapot", teapot),
        Route("/broken", broken),
        Route("/breaks", breaks),
        Route("/background", background),
        Route("/forever", forever),
        Route("/happenings", happenings),
        WebSocketRoute("/socket/echo", echoing),
        WebSocketRoute("/socket/closing", closing),
        WebSocketRoute("/socket/refusing", refusing),
        WebSocketRoute("/socket/denying", denying),
        WebSocketRoute("/socket/failing", failing),
        WebSocketRoute("/socket/{number:int}", described),
    ]
)


class PluginFactory:
    name = "starlette"
    application = application

    def start(self) -> None: ...
    def stop(self) -> None: ...
