"""The servers that are measured: ours, the application's own, and proxies to that.

Each is a process of its own and is handed a Unix socket that listens already: whoever connects
waits until it is ready.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from _web_application import application

#: Bodies up to this long, of which the proxies know how long they are, they pass on in one piece.
SHORT = 64 * 1024
#: What belongs to one connection and is not passed on; what the servers add by themselves.
OWN_HEADERS = frozenset({"connection", "date", "host", "server", "transfer-encoding"})


class Server:
    """A server's process, and its socket."""

    def __init__(self, process: int, path: Path) -> None:
        self.process = process
        self.path = path


@contextmanager
def serving(name: str, folder: Path, upstream: Server | None = None) -> Iterator[Server]:
    """Run the server `name` of those below; proxies pass on to `upstream`."""
    path = folder / name
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fspath(path))
        listener.listen(1024)
        command = [sys.executable, __file__, name, str(listener.fileno())]
        if upstream is not None:
            command.append(str(upstream.path))
        process = subprocess.Popen(command, pass_fds=[listener.fileno()])
    with process:
        try:
            yield Server(process.pid, path)
        finally:
            process.terminate()  # so that what it has started itself ends, too
            end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()


# --- the servers ----------------------------------------------------------------------------------


def sandboxed(descriptor: int) -> None:
    from plugkeep import Host, isolate

    host = Host()
    source = Path(__file__).with_name("_web_application.py")
    host.registry.register(isolate(f"file:{source}", name="bench"))
    uvicorn(host.asgi(strict=True), descriptor)


def direct(descriptor: int) -> None:
    uvicorn(application, descriptor)


def httpx_proxy(descriptor: int, upstream: str) -> None:
    import httpx
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response, StreamingResponse
    from starlette.routing import Route

    transport = httpx.AsyncHTTPTransport(uds=upstream, limits=httpx.Limits(max_connections=None))
    client = httpx.AsyncClient(transport=transport, base_url="http://bench")

    async def forward(request: Request) -> Response:
        found = [pair for pair in request.headers.raw if pair[0].decode() not in OWN_HEADERS]
        has_body = {"content-length", "transfer-encoding"} & {*request.headers}
        body = request.stream() if has_body else None
        url = f"{request.url.path}?{request.url.query}"
        sent = client.build_request(request.method, url, headers=found, content=body)
        answer = await client.send(sent, stream=True)
        headers = {key: value for key, value in answer.headers.items() if key not in OWN_HEADERS}
        if int(answer.headers.get("content-length", SHORT + 1)) <= SHORT:
            return Response(await answer.aread(), answer.status_code, headers)
        return StreamingResponse(answer.aiter_raw(), answer.status_code, headers)

    methods = ["GET", "POST"]
    uvicorn(Starlette(routes=[Route("/{path:path}", forward, methods=methods)]), descriptor)


def aiohttp_proxy(descriptor: int, upstream: str) -> None:
    import uvloop

    with socket.socket(fileno=descriptor) as listener:
        uvloop.run(forwarding_by_aiohttp(listener, upstream))


async def forwarding_by_aiohttp(listener: socket.socket, upstream: str) -> None:
    from aiohttp import ClientSession, UnixConnector, web

    async def forward(request: web.Request) -> web.StreamResponse:
        headers = without_own(request.headers)
        body = request.content if request.can_read_body else None
        url = f"http://bench{request.path_qs}"
        async with session.request(request.method, url, headers=headers, data=body) as answer:
            headers = without_own(answer.headers)
            if (answer.content_length or 0) <= SHORT:
                return web.Response(body=await answer.read(), status=answer.status, headers=headers)
            response = web.StreamResponse(status=answer.status, headers=headers)
            await response.prepare(request)
            async for piece in answer.content.iter_any():
                await response.write(piece)
            return response

    def without_own(headers: Any) -> dict[str, str]:
        return {key: value for key, value in headers.items() if key.lower() not in OWN_HEADERS}

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", forward)
    async with ClientSession(connector=UnixConnector(upstream, limit=0)) as session:
        runner = web.AppRunner(app, access_log=None, handle_signals=True)
        await runner.setup()
        await web.SockSite(runner, listener).start()
        try:
            await asyncio.Event().wait()
        except web.GracefulExit:
            await runner.cleanup()


def uvicorn(app: Any, descriptor: int) -> None:
    import uvicorn

    # httptools is what plugkeep[serve] installs. Between rounds a proxy's connections are idle: one
    # that the server closes just as the proxy takes it up again would end the measurement.
    options = {"http": "httptools", "loop": "uvloop", "timeout_keep_alive": 600}
    uvicorn.run(app, fd=descriptor, log_level="error", **options)


SERVERS = {each.__name__: each for each in (sandboxed, direct, aiohttp_proxy, httpx_proxy)}


if __name__ == "__main__":
    program, name, descriptor, *upstream = sys.argv
    SERVERS[name](int(descriptor), *upstream)
