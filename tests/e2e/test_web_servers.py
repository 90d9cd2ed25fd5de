"""Real servers, real sockets: uvicorn, and werkzeug's server below Flask."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler
from wsgiref.simple_server import make_server as make_wsgiref_server
from wsgiref.validate import validator

import httpx
import pytest
import uvicorn
from flask import Flask
from starlette.requests import Request
from starlette.responses import StreamingResponse
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.serving import make_server

from plugkeep.registry import Registry
from plugkeep.routing import Route, RouteTable, follow_routes
from plugkeep.web import asgi, wsgi

LOCAL = "127.0.0.1"


class Shop:
    """A plugin with routes of every sort."""

    name = "shop"

    def start(self) -> None:
        self.crowd = threading.Barrier(8)

    def stop(self) -> None:
        del self.crowd

    def routes(self) -> list[Route]:
        return [
            Route("GET", "/", lambda request: "home"),
            Route("GET", "/item/{number:int}", lambda request: request.path_params),
            Route("GET", "/file/{path:path}", lambda request: request.path_params["path"]),
            Route("GET", "/one/{part}", lambda request: request.path_params["part"]),
            Route("GET", "/grüße", lambda request: "grüße"),
            Route("GET", "/crowd", lambda request: f"{self.crowd.wait(timeout=30) < 8}"),
            Route("GET", "/stream", self.stream),
            Route("GET", "/broken", self.broken),
            Route("POST", "/length", self.length),
        ]

    async def stream(self, request: Request) -> StreamingResponse:
        return StreamingResponse((b"x" * 1000 for _ in range(100)), media_type="text/plain")

    async def broken(self, request: Request) -> StreamingResponse:
        return StreamingResponse(f"{1 / number}" for number in (1, 0))

    async def length(self, request: Request) -> dict[str, int]:
        return {"bytes": len(await request.body())}


@contextmanager
def uvicorn_serving(app: Any) -> Iterator[int]:
    # The socket listens before the server runs: whoever connects waits, and nobody polls.
    with socket.create_server((LOCAL, 0)) as listener:
        # Not uvloop: libuv keeps a pipe for signals until the process ends.
        config = uvicorn.Config(app, loop="asyncio", http="h11", lifespan="off", log_config=None)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def flask_serving(app: Any) -> Iterator[int]:
    flask = Flask(__name__)
    flask.wsgi_app = DispatcherMiddleware(  # type: ignore[method-assign]
        flask.wsgi_app, {"/plug": app}
    )
    server = make_server(LOCAL, 0, flask, threaded=True)
    with serving_forever(server):
        yield server.server_port


class Quiet(WSGIRequestHandler):
    def log_message(self, *args: object) -> None: ...


@contextmanager
def wsgiref_serving(app: Any) -> Iterator[int]:
    server = make_wsgiref_server(LOCAL, 0, validator(app), handler_class=Quiet)
    with serving_forever(server):
        yield server.server_port


@contextmanager
def serving_forever(server: Any) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Served:
    """A host with the shop, and where it can be reached."""

    def __init__(self, registry: Registry, port: int, below: str) -> None:
        self.registry = registry
        self.port = port
        self.below = below
        self.client = httpx.Client(base_url=f"http://{LOCAL}:{port}{below}", timeout=60)

    def raw(self, request: bytes) -> bytes:
        """Send these bytes and return all that comes back."""
        with socket.create_connection((LOCAL, self.port), timeout=60) as connection:
            connection.sendall(request)
            return b"".join(iter(lambda: connection.recv(65536), b""))

    def line(self, line: str) -> bytes:
        head = f"{line} HTTP/1.1\r\nHost: {LOCAL}\r\nConnection: close\r\n\r\n"
        return self.raw(head.encode())


@pytest.fixture(params=["uvicorn", "flask"])
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    registry, table = Registry(), RouteTable()
    follow_routes(registry, table)
    registry.register(Shop())
    registry.start_all()
    if request.param == "uvicorn":
        with uvicorn_serving(asgi(table, registry=registry)) as port:
            yield from _reached(Served(registry, port, ""))
    else:
        with wsgi(table, registry=registry) as app, flask_serving(app) as port:
            yield from _reached(Served(registry, port, "/plug"))


def _reached(served: Served) -> Iterator[Served]:
    with served.client:
        yield served


def test_requests_and_answers(served: Served) -> None:
    client = served.client
    assert client.get("/").text == "home"
    assert client.get("/item/42").json() == {"number": 42}
    assert client.get("/gr%C3%BC%C3%9Fe").text == "grüße"
    assert client.get("/stream").content == b"x" * 100_000
    assert client.post("/length", content=b"y" * 300_000).json() == {"bytes": 300_000}
    answer = client.get("/item/42/")
    assert answer.status_code == 307
    assert answer.headers["location"] == f"http://{LOCAL}:{served.port}{served.below}/item/42"


def test_503_when_the_plugin_stops_and_back_when_it_starts(served: Served) -> None:
    assert served.client.get("/").status_code == 200
    served.registry.stop_all()
    answer = served.client.get("/")
    assert answer.status_code == 503
    assert answer.text == "plugin 'shop' is not running: it is stopped"
    served.registry.start_all()
    assert served.client.get("/").status_code == 200
    served.registry.stop_all()
    served.registry.unregister("shop")
    assert served.client.get("/").status_code == 404


def test_plain_handlers_run_side_by_side(served: Served) -> None:
    with ThreadPoolExecutor(8) as crowd:
        answers = list(crowd.map(served.client.get, ["/crowd"] * 8))
    assert [answer.text for answer in answers] == ["True"] * 8


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/one/a%2Fb", 404),
        ("GET", "/file/a%2Fb", 200),
        ("GET", "/one/" + "a" * 20_000, 200),
        ("GET", "/one/%E6%97%A5", 200),
        ("GET", "/item/" + "9" * 20_000, 404),
        ("GET", "/one/../one/a", 404),
        ("GET", "/one/a?" + "q" * 20_000, 200),
        ("BREW", "/one/a", 405),
        ("OPTIONS", "/one/a", 405),
        ("DELETE", "/nowhere", 404),
    ],
)
def test_odd_requests(served: Served, method: str, path: str, status: int) -> None:
    answer = served.line(f"{method} {served.below}{path}")
    assert answer.split(b" ", 2)[1] == str(status).encode(), answer[:300]


def test_head_sends_headers_and_not_a_byte_more(served: Served) -> None:
    head, _, body = served.line(f"HEAD {served.below}/one/abc").partition(b"\r\n\r\n")
    assert head.split(b" ", 2)[1] == b"200"
    assert b"content-length: 3" in head.lower()
    assert body == b""


def test_a_client_that_leaves_early_harms_nobody(served: Served) -> None:
    with socket.create_connection((LOCAL, served.port), timeout=60) as connection:
        head = f"POST {served.below}/length HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"
        connection.sendall(head.encode() + b"only this")
    assert served.client.get("/").text == "home"


def test_an_answer_that_breaks_in_the_middle_is_seen_to_be_broken() -> None:
    table = RouteTable()
    table.add(*Shop().routes(), plugin="shop")
    with uvicorn_serving(asgi(table)) as port:
        with pytest.raises(httpx.RemoteProtocolError):
            httpx.get(f"http://{LOCAL}:{port}/broken", timeout=60)
        assert httpx.get(f"http://{LOCAL}:{port}/", timeout=60).text == "home"


def test_wsgi_says_what_it_cannot_read() -> None:
    table = RouteTable()
    table.add(Route("POST", "/", lambda request: "never"), plugin="shop")
    with wsgi(table) as app, flask_serving(app) as port:
        chunks = httpx.post(f"http://{LOCAL}:{port}/plug/", content=iter([b"a", b"b"]))
    assert (chunks.status_code, chunks.text) == (411, "Length Required")


def test_wsgi_as_its_specification_wants_it() -> None:
    """The standard library's validator asserts on every step."""
    registry, table = Registry(), RouteTable()
    follow_routes(registry, table)
    registry.register(Shop())
    registry.start_all()
    with (
        wsgi(table, registry=registry) as app,
        wsgiref_serving(app) as port,
        httpx.Client(base_url=f"http://{LOCAL}:{port}", timeout=60) as client,
    ):
        assert client.get("/").text == "home"
        assert client.head("/").status_code == 200
        assert client.get("/stream").content == b"x" * 100_000
        assert client.post("/length", content=b"y" * 70_000).json() == {"bytes": 70_000}
        assert client.get("/nowhere").status_code == 404
        registry.stop_all()
        assert client.get("/").status_code == 503
