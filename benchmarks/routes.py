"""What it costs a request that a plugin's route answers it, in process, beside a bare route."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from _measure import Row, at_most_times, medians, on_one_core, seconds

#: As short as a request can be, as clients that reuse a connection send it.
REQUEST = b"GET /hello/world HTTP/1.1\r\nHost: bench\r\n\r\n"
BODY = b"hello world"
KINDS = ("plugin", "bare")


def run(quick: bool = False) -> list[Row]:
    on_one_core()
    with tempfile.TemporaryDirectory() as folder, served(Path(folder)) as connections:
        samples = {kind: partial(exchanges, connections[kind], 200) for kind in KINDS}
        medians(samples, rounds=5)
        took = medians(samples, rounds=20 if quick else 100)
    claim = "a request to a plugin's route, beside Starlette's own, uvicorn, one connection"
    micros = (took[kind] / 200 * 1_000_000 for kind in KINDS)
    return [at_most_times(1.1, "µs", f"{claim} (one core)", *micros)]


@contextmanager
def served(folder: Path) -> Iterator[dict[str, socket.socket]]:
    """Yield a connection to each of the applications; one process serves both."""
    command = [sys.executable, __file__, *(str(folder / kind) for kind in KINDS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout
            assert server.stdout.readline() == "ready\n"
            yield {kind: connected(folder / kind) for kind in KINDS}
        finally:
            server.kill()


def connected(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(os.fspath(path))
    exchange(connection)
    return connection


def exchanges(connection: socket.socket, count: int) -> float:
    def many() -> None:
        for _ in range(count):
            exchange(connection)

    return seconds(many)


def exchange(connection: socket.socket) -> None:
    connection.sendall(REQUEST)
    answer = b""
    while not answer.endswith(BODY):
        answer += connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 200 "), answer


# --- the server -----------------------------------------------------------------------------------


def serve(paths: list[str]) -> None:
    import asyncio

    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route as BareRoute

    from plugkeep import Host, Route

    async def hello(request: Request) -> PlainTextResponse:
        return PlainTextResponse(f"hello {request.path_params['name']}")

    class Greeter:
        name = "greeter"

        def start(self) -> None: ...
        def stop(self) -> None: ...
        def routes(self) -> list[Route]:
            return [Route("GET", "/hello/{name}", hello)]

    host = Host()
    host.registry.register(Greeter())
    bare = Starlette(routes=[BareRoute("/hello/{name}", hello)])

    async def main() -> None:
        servers = []
        for path, app in zip(paths, (host.asgi(), bare), strict=True):
            sock = socket.socket(socket.AF_UNIX)
            sock.bind(path)
            config = uvicorn.Config(app, log_level="warning", access_log=False)
            servers.append((uvicorn.Server(config), sock))
        tasks = [asyncio.create_task(server.serve([sock])) for server, sock in servers]
        while not all(server.started for server, _ in servers):  # noqa: ASYNC110  # it has no event
            await asyncio.sleep(0.01)
        print("ready", flush=True)
        await asyncio.gather(*tasks)

    asyncio.run(main())


if __name__ == "__main__":
    if len(sys.argv) > 1:
        serve(sys.argv[1:])
    else:
        for row in run():
            print(row)
