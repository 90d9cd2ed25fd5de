"""What ordinary applications and clients do all the time, and must cost nobody anything."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from plugkeep import Host

APPLICATION = """
import asyncio
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

async def looking(request):
    async def lines():
        for number in range(20):
            if await request.is_disconnected():
                return
            yield f"{number}\\n"
            await asyncio.sleep(0)
    return StreamingResponse(lines())

async def endless(request):
    async def lines():
        while True:
            yield "on and on\\n"
            await asyncio.sleep(0)
    return StreamingResponse(lines())

async def count(request):
    size = 0
    async for piece in request.stream():
        size += len(piece)
    return PlainTextResponse(str(size))

class PluginFactory:
    name = "shop"
    application = Starlette(routes=[
        Route("/looking", looking),
        Route("/endless", endless),
        Route("/count", count, methods=["POST"]),
    ])
    def start(self): ...
    def stop(self): ...
"""


@pytest.fixture(params=["none", "process"])
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Host:
    (tmp_path / "shop.py").write_text(APPLICATION)
    config = tmp_path / "plugkeep.toml"
    config.write_text(f'[plugins.shop]\nsource = "file:shop.py"\nisolation = "{request.param}"\n')
    return Host.from_file(config)


@asynccontextmanager
async def served(host: Host, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=host.asgi(**options))
    async with host, httpx.AsyncClient(transport=transport, base_url="http://keep") as client:
        yield client


def test_a_stream_that_looks_whether_the_client_is_there_is_sent_to_its_end(host: Host) -> None:
    async def visit() -> str:
        async with served(host) as client:
            return (await client.get("/shop/looking")).text

    assert asyncio.run(visit()) == "".join(f"{number}\n" for number in range(20))


def test_a_client_that_leaves_a_stream_is_nobodys_error(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    """As under a server: what is received then is that the client has gone."""
    left = asyncio.Event()
    begun = asyncio.Event()

    async def receive() -> dict[str, Any]:
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(event: dict[str, Any]) -> None:
        if event["type"] == "http.response.body" and not begun.is_set():
            begun.set()
            left.set()

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/shop/endless",
        "raw_path": b"/shop/endless",
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"keep")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }

    async def visit() -> None:
        app = host.asgi()
        async with host:
            async with asyncio.timeout(60):
                await app(scope, receive, send)  # type: ignore[arg-type]

    asyncio.run(visit())
    assert begun.is_set()
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_a_body_that_becomes_too_long_is_413_whatever_the_application_makes_of_it(
    host: Host,
) -> None:
    async def pieces() -> AsyncIterator[bytes]:  # of unknown length in all
        for _ in range(10):
            yield b"x" * 1000

    async def visit() -> list[int]:
        async with served(host, max_body=5_000) as client:
            answers = [await client.post("/shop/count", content=pieces())]
            answers += [
                await client.post("/shop/count", content=b"x" * size) for size in (5_001, 5_000)
            ]
            return [answer.status_code for answer in answers]

    assert asyncio.run(visit()) == [413, 413, 200]


def test_a_reload_never_looks_as_if_there_were_nothing(host: Host) -> None:
    async def visit() -> set[int]:
        async with served(host) as client:
            reload = asyncio.create_task(host.areload("shop"))
            seen = set()
            while not reload.done():
                seen.add((await client.get("/shop/looking")).status_code)
                await asyncio.sleep(
                    0.002
                )  # what is refused does not wait, and others need their turn
            await reload
            assert (await client.get("/shop/looking")).status_code == 200
            return seen

    assert asyncio.run(visit()) <= {200, 502, 503}
