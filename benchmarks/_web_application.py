"""The web application that the benchmarks serve, and the plugin that offers it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

MIB = 1 << 20
#: Bytes of what is downloaded and uploaded.
LARGE = 256 * MIB
#: Starlette sends files in pieces of this size.
PIECE = bytes(64 * 1024)


async def hello(_request: Request) -> JSONResponse:
    return JSONResponse({"message": "hello world", "items": [1, 2, 3]})


async def process(_request: Request) -> JSONResponse:
    return JSONResponse(os.getpid())


async def download(_request: Request) -> StreamingResponse:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(LARGE // len(PIECE)):
            yield PIECE

    return StreamingResponse(pieces(), headers={"content-length": str(LARGE)})


async def upload(request: Request) -> JSONResponse:
    return JSONResponse(sum([len(piece) async for piece in request.stream()]))


application = Starlette(
    routes=[
        Route("/hello", hello),
        Route("/process", process),
        Route("/download", download),
        Route("/upload", upload, methods=["POST"]),
    ]
)


class PluginFactory:
    name = "bench"
    mount = "/"
    application = application

    def start(self) -> None: ...
    def stop(self) -> None: ...
