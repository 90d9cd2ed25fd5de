"""Whatever becomes of a request, it is answered or ended, and nothing of it is kept."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from plugkeep import Host, Sandbox, isolate, load
from plugkeep.channel._async_waiters import AsyncWaiter
from plugkeep.sandbox._http import _Exchange

SOURCE = f"file:{Path(__file__).with_name('tangled.py')}"
PATIENCE = 30.0
MANY = 20

Answered = tuple[int, bytes]
Receive = Callable[[], Awaitable[dict[str, Any]]]


def make_host(*, sandboxed: bool = True) -> Host:
    host = Host()
    host.registry.register(isolate(SOURCE) if sandboxed else load(SOURCE)())
    return host


async def nothing_more() -> dict[str, Any]:
    await asyncio.Event().wait()
    return {}


async def endless_upload() -> dict[str, Any]:
    await asyncio.sleep(0)
    return {"type": "http.request", "body": bytes(65_536), "more_body": True}


async def ask(app: Any, path: str, receive: Receive = nothing_more, length: int = 0) -> Answered:
    """Return status and body of the answer."""
    status, body = 0, b""

    async def send(event: dict[str, Any]) -> None:
        nonlocal status, body
        status = event.get("status", status)
        body += event.get("body", b"")

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST" if length else "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"plug"), *([(b"content-length", b"%d" % length)] if length else [])],
        "client": None,
        "server": None,
    }
    async with asyncio.timeout(PATIENCE):
        await app(scope, receive, send)
    return status, body


def run(main: Callable[[Host, Any], Coroutine[Any, Any, None]], **options: bool) -> None:
    async def hosted() -> None:
        host = make_host(**options)
        app = host.asgi(strict=True)
        async with host:
            await main(host, app)

    asyncio.run(hosted())


async def until_gone(kind: type) -> None:
    """Wait until there is no object of that type here: what is cancelled ends a moment later."""

    def count() -> int:
        gc.collect()
        return sum(type(each) is kind for each in gc.get_objects())

    async with asyncio.timeout(PATIENCE):
        while count():  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.01)


async def until_kept(app: Any, count: bytes) -> None:
    """Wait until the plugin has so many requests, the one that asks included."""
    async with asyncio.timeout(PATIENCE):
        while (await ask(app, "/app/kept"))[1] != count:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


# --- nothing is kept ------------------------------------------------------------------------------


@pytest.mark.parametrize(("path", "status"), [("/app/large", 200), ("/app/fail", 500)])
def test_the_host_keeps_nothing_of_what_is_answered(path: str, status: int) -> None:
    async def main(_host: Host, app: Any) -> None:
        for _ in range(MANY):
            assert (await ask(app, path))[0] == status
        await until_gone(_Exchange)

    run(main)


def test_what_a_handler_that_raises_had_open_is_let_go_at_once() -> None:
    async def main(_host: Host, app: Any) -> None:
        for _ in range(3):
            assert (await ask(app, "/app/fail"))[0] == 500
        assert await ask(app, "/app/still_open") == (200, b"0")

    run(main)


def test_nothing_is_kept_of_downloads_that_are_given_up() -> None:
    async def main(_host: Host, app: Any) -> None:
        for _ in range(MANY):
            flowing = asyncio.Event()

            async def send(event: dict[str, Any], flowing: asyncio.Event = flowing) -> None:
                if "body" in event:
                    flowing.set()
                    await nothing_more()

            scope = {"type": "http", "method": "GET", "path": "/app/endless", "headers": []}
            task = asyncio.create_task(app(scope, nothing_more, send))
            await flowing.wait()
            task.cancel()
            await asyncio.wait({task})
        del task
        await until_gone(_Exchange)
        await until_kept(app, b"1")

    run(main)


def test_nothing_is_kept_of_uploads_that_are_answered_early() -> None:
    async def main(_host: Host, app: Any) -> None:
        for _ in range(MANY):
            answered = await ask(app, "/app/early", endless_upload, length=10**9)
            assert answered == (200, b"that will do")
        await until_gone(_Exchange)
        await until_kept(app, b"1")

    run(main)


def test_nothing_is_kept_of_requests_that_are_cancelled_at_once() -> None:
    async def main(_host: Host, app: Any) -> None:
        for turns in range(MANY):
            tasks = [asyncio.create_task(ask(app, "/app/large")) for _ in range(10)]
            for _ in range(turns % 4):
                await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        await until_kept(app, b"1")

    run(main)


def test_nothing_is_kept_of_calls_with_much_data() -> None:
    async def main(host: Host, _app: Any) -> None:
        sandbox = host.registry["tangled"]
        assert isinstance(sandbox, Sandbox)
        for _ in range(MANY):
            assert await sandbox.acall("echo", bytes(100_000)) == bytes(100_000)
        await until_gone(AsyncWaiter)

    run(main)


# --- all is answered ------------------------------------------------------------------------------


def test_middleware_that_cannot_be_made_is_that_requests_own_failure() -> None:
    async def main(_host: Host, app: Any) -> None:
        paths = ["/fine", "/fine", "/fine", "/unfit", "/fine", "/fine"]
        for _ in range(3):
            answers = await asyncio.gather(*(ask(app, path) for path in paths))
            assert [status for status, _ in answers] == [200, 200, 200, 500, 200, 200]

    run(main)


@pytest.mark.parametrize("how", ["header", "detail", "headers", "status"])
def test_an_exception_that_cannot_be_answered_with_is_a_failure(how: str) -> None:
    async def main(_host: Host, app: Any) -> None:
        assert (await ask(app, f"/refuse/{how}"))[0] == 500
        await until_kept(app, b"1")

    run(main)


@pytest.mark.parametrize("sandboxed", [True, False], ids=["sandboxed", "in-process"])
def test_a_body_can_be_read_by_any_task(sandboxed: bool) -> None:
    async def main(_host: Host, app: Any) -> None:
        pieces = [bytes(50_000), bytes(50_000)]

        async def receive() -> dict[str, Any]:
            piece = pieces.pop()
            return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

        assert await ask(app, "/app/elsewhere", receive, length=100_000) == (200, b"100000")

    run(main, sandboxed=sandboxed)


@pytest.mark.parametrize("sandboxed", [True, False], ids=["sandboxed", "in-process"])
def test_links_and_parameters_below_a_mount_of_another_application(sandboxed: bool) -> None:
    async def main(_host: Host, app: Any) -> None:
        around = Starlette(routes=[Mount("/shop/{tenant}", app)])
        status, told = await ask(around, "/shop/acme/links/1")
        assert (status, json.loads(told)) == (
            200,
            {"parameters": {"tenant": "acme", "key": "1"}, "base": "http://plug/", "link": ""},
        )
        status, told = await ask(around, "/shop/acme/app/links/1")
        assert (status, json.loads(told)) == (
            200,
            {
                "parameters": {"key": "1"},
                "base": "http://plug/shop/acme/app/",
                "link": "http://plug/shop/acme/app/links/ab",
            },
        )

    run(main, sandboxed=sandboxed)


def test_an_upload_that_a_stop_comes_in_between_is_answered_with_503() -> None:
    async def main(host: Host, app: Any) -> None:
        asked = asyncio.Event()

        async def receive() -> dict[str, Any]:
            if asked.is_set():
                await nothing_more()
            asked.set()
            return {"type": "http.request", "body": bytes(100), "more_body": True}

        uploading = asyncio.create_task(ask(app, "/app/whole", receive, length=100_000))
        await asked.wait()
        await asyncio.sleep(0)
        await host.registry.astop("tangled")
        assert (await uploading)[0] == 503

    run(main)
