"""Requests count as calls, where a plugin has a limit of those."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio.lowlevel
import httpx
import pytest

from plugkeep import Host

PLUGIN = """
import asyncio
from plugkeep import Route, expose

async def slow(request):
    plugin.begun.set()
    await plugin.go.wait()
    return "slow"

async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        raise NotImplementedError
    await slow(None)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"whole"})

class Plugin:
    name = "shop"
    application = staticmethod(application)

    def start(self):
        self.begun, self.go = asyncio.Event(), asyncio.Event()

    def stop(self): ...

    def routes(self):
        return [Route("GET", "/slow", slow), Route("GET", "/quick", lambda request: "quick")]

plugin = Plugin()

def PluginFactory():
    return plugin
"""


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    (tmp_path / "shop.py").write_text(PLUGIN)
    config = tmp_path / "plugkeep.toml"
    config.write_text(
        '[plugins.shop]\nsource = "file:shop.py"\nisolation = "process"\nmax_calls = 1\n'
    )
    with Host.from_file(config) as host:
        yield host


def turnstile(host: Host) -> Any:
    sandbox: Any = host.registry["shop"]
    return sandbox._entrance.turnstile


async def while_one_is_under_way(host: Host, path: str, ask: Any) -> None:
    """Run `ask` while the one place is taken by a request."""
    transport = httpx.ASGITransport(app=host.asgi())
    async with httpx.AsyncClient(transport=transport, base_url="http://host") as client:
        slow = asyncio.create_task(client.get(path))
        while turnstile(host).inside:
            await anyio.lowlevel.checkpoint()
        await ask(client)
        slow.cancel()
        with pytest.raises(asyncio.CancelledError):
            await slow
        assert (await client.get("/quick")).text == "quick"
    assert turnstile(host).inside


@pytest.mark.parametrize("path", ["/slow", "/shop/any"])
def test_what_is_beyond_the_limit_is_told_to_come_back(host, path, caplog):
    async def ask(client: httpx.AsyncClient) -> None:
        for target in ("/quick", "/shop/any"):
            answer = await client.get(target)
            assert (answer.status_code, answer.text) == (503, "plugin 'shop' is busy")
            assert answer.headers["retry-after"] == "1"

    asyncio.run(while_one_is_under_way(host, path, ask))
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.parametrize("extension", [True, False])
def test_a_websocket_is_refused(host, extension):
    sent: list[dict[str, Any]] = []

    async def send(event: Any) -> None:
        sent.append(event)

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def ask(_: httpx.AsyncClient) -> None:
        scope: dict[str, Any] = {"type": "websocket", "path": "/shop/any", "headers": []}
        scope |= {"query_string": b"", "root_path": "", "raw_path": b"/shop/any"}
        if extension:
            scope["extensions"] = {"websocket.http.response": {}}
        await host.asgi()(scope, receive, send)

    asyncio.run(while_one_is_under_way(host, "/slow", ask))
    if extension:
        assert sent[0]["status"] == 503
        assert (b"retry-after", b"1") in sent[0]["headers"]
    else:
        assert sent == [
            {"type": "websocket.close", "code": 1013, "reason": "plugin 'shop' is busy"}
        ]


def test_a_call_and_a_request_are_counted_together(host):
    sandbox: Any = host.registry["shop"]

    async def ask(_: httpx.AsyncClient) -> None:
        from plugkeep import PluginBusyError

        with pytest.raises(PluginBusyError):
            await sandbox.acall("any")

    asyncio.run(while_one_is_under_way(host, "/slow", ask))
