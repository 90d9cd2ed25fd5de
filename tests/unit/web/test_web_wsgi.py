"""What a table answers by WSGI, and how the loop behind it ends."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from io import BytesIO
from typing import Any

import anyio
import pytest
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from werkzeug.test import Client, EnvironBuilder

from plugkeep.registry import Registry
from plugkeep.routing import Route, RouteTable
from plugkeep.web import route_of, wsgi
from plugkeep.web._wsgi import WsgiApp


@pytest.fixture
def table() -> RouteTable:
    return RouteTable()


@pytest.fixture
def app(table: RouteTable) -> Iterator[WsgiApp]:
    with wsgi(table) as app:
        yield app


def get(path: str, handler: Any, **fields: Any) -> Route:
    return Route("GET", path, handler, **fields)


def loop_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "plugkeep-wsgi"]


class Server:
    """Has one request answered on a thread."""

    def __init__(self, app: WsgiApp) -> None:
        self._chunks = app(EnvironBuilder("/").get_environ(), lambda *args: None)
        self._outcome: object = "still waiting for the answer"
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._outcome = list(self._chunks)
        except Exception as error:
            self._outcome = error

    def outcome(self) -> object:
        self._thread.join(timeout=30)
        return self._outcome


# --- answers ----------------------------------------------------------------------------------


def test_handlers_and_middleware_are_those_of_asgi(table: RouteTable, app: WsgiApp) -> None:
    def middleware(inner: Any) -> Any:
        async def outer(scope: Any, receive: Any, send: Any) -> None:
            scope["seen"] = route_of(scope).route.meta["title"]
            await inner(scope, receive, send)

        return outer

    async def handler(request: Request) -> dict[str, Any]:
        body = (await request.body()).decode()
        return {"x": request.path_params["x"], "body": body, "seen": request.scope["seen"]}

    route = Route("POST", "/a/{x:int}", handler, middleware=(middleware,), meta={"title": "A"})
    table.add(route, get("/plain", lambda request: request.query_params["q"]), plugin="shop")
    client = Client(app)
    assert client.post("/a/42", data="grüße").json == {"x": 42, "body": "grüße", "seen": "A"}
    assert client.get("/plain?q=%C3%A4").text == "ä"
    assert client.get("/nowhere").status_code == 404
    answer = client.get("/a/42")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


def test_head_has_no_body(table: RouteTable, app: WsgiApp) -> None:
    table.add(get("/", lambda request: "hello"), plugin="shop")
    answer = Client(app).head("/")
    assert (answer.headers["content-length"], answer.data) == ("5", b"")


def test_503_while_the_plugin_does_not_run(table: RouteTable) -> None:
    class Shop:
        name = "shop"

        def start(self) -> None: ...
        def stop(self) -> None: ...

    registry = Registry()
    registry.register(Shop())
    table.add(get("/", lambda request: "hello"), plugin="shop")
    with wsgi(table, registry=registry) as app:
        client = Client(app)
        answer = client.get("/")
        assert answer.status_code == 503
        assert answer.text == "plugin 'shop' is not running: it is registered"
        registry.start_all()
        assert client.get("/").text == "hello"
        registry.stop_all()
        assert client.get("/").status_code == 503


def test_a_large_body_and_a_large_answer(table: RouteTable, app: WsgiApp) -> None:
    async def handler(request: Request) -> bytes:
        return await request.body()

    table.add(Route("POST", "/", handler), plugin="shop")
    sent = bytes(range(256)) * 20_000
    assert Client(app).post("/", data=sent).data == sent


def test_script_name_is_where_the_table_begins(table: RouteTable, app: WsgiApp) -> None:
    table.add(get("/a", lambda request: str(request.url)), plugin="shop")
    client = Client(app)
    answer = client.get("/a", environ_overrides={"SCRIPT_NAME": "/plug/ins"})
    assert answer.text == "http://localhost/plug/ins/a"
    answer = client.get("/a/", environ_overrides={"SCRIPT_NAME": "/plug/ins"})
    assert answer.headers["location"] == "http://localhost/plug/ins/a"


def test_a_failing_handler_is_500_with_its_plugin(
    table: RouteTable, app: WsgiApp, caplog: pytest.LogCaptureFixture
) -> None:
    table.add(get("/", lambda request: 1 / 0), plugin="shop")
    answer = Client(app).get("/")
    assert (answer.status_code, answer.text) == (500, "Internal Server Error in plugin 'shop'")
    assert "ZeroDivisionError" in caplog.text


def test_a_failure_in_the_middle_of_an_answer_reaches_the_server(
    table: RouteTable, app: WsgiApp, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(request: Request) -> StreamingResponse:
        return StreamingResponse(f"{1 / number}" for number in (1, 0))

    table.add(get("/", handler), plugin="shop")
    answer: Any = app(EnvironBuilder("/").get_environ(), lambda *args: None)
    assert next(answer) == b"1.0"
    with pytest.raises((ZeroDivisionError, ConnectionAbortedError)):
        list(answer)
    assert "GET / of plugin 'shop' failed" in caplog.text


# --- requests that cannot be read -------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "status"),
    [
        ({"PATH_INFO": "/\xff"}, "400 Bad Request"),
        ({"SCRIPT_NAME": "/\xff"}, "400 Bad Request"),
        ({"QUERY_STRING": "q=\xe4"}, "400 Bad Request"),
        ({"CONTENT_LENGTH": "many"}, "400 Bad Request"),
        ({"CONTENT_LENGTH": "-1"}, "400 Bad Request"),
        ({"HTTP_TRANSFER_ENCODING": "chunked"}, "411 Length Required"),
    ],
)
def test_what_wsgi_cannot_express(app: WsgiApp, environ: dict[str, str], status: str) -> None:
    seen = []
    body = app({**EnvironBuilder().get_environ(), **environ}, lambda *args: seen.append(args[0]))
    assert b"".join(body) == status.partition(" ")[2].encode()
    assert seen == [status]
    assert not loop_threads(), "nothing needs to run to refuse"


def test_a_body_that_ends_before_its_announced_length(table: RouteTable, app: WsgiApp) -> None:
    async def handler(request: Request) -> bytes:
        return await request.body()

    table.add(Route("POST", "/", handler), plugin="shop")
    environ = EnvironBuilder("/", method="POST").get_environ()
    environ |= {"CONTENT_LENGTH": "100", "wsgi.input": BytesIO(b"only this")}
    with pytest.raises(ConnectionAbortedError, match="not been answered to its end"):
        list(app(environ, lambda *args: None))


# --- how it ends ------------------------------------------------------------------------------


def test_the_loop_begins_with_the_first_request_and_ends_with_close(table: RouteTable) -> None:
    table.add(get("/", lambda request: "hello"), plugin="shop")
    app = wsgi(table)
    assert not loop_threads(), "importing servers fork after this; threads would be lost"
    assert Client(app).get("/").text == "hello"
    [thread] = loop_threads()
    assert thread.daemon
    app.close()
    assert not thread.is_alive()
    app.close()
    assert Client(app).get("/").status == "503 Service Unavailable"
    assert not loop_threads(), "a request after close must not begin another loop"


def test_closing_what_never_served() -> None:
    wsgi(RouteTable()).close()


def test_a_client_that_leaves_in_the_middle_ends_its_request(
    table: RouteTable, app: WsgiApp
) -> None:
    cleaned_up = threading.Event()

    async def for_ever() -> AsyncIterator[str]:
        try:
            while True:
                yield "more"
        finally:
            cleaned_up.set()

    async def handler(request: Request) -> StreamingResponse:
        return StreamingResponse(for_ever())

    table.add(get("/", handler), plugin="shop")
    answer: Any = app(EnvironBuilder("/").get_environ(), lambda *args: None)
    assert next(answer) == b"more"
    assert next(answer) == b"more"
    answer.close()
    assert cleaned_up.wait(timeout=30)


def test_close_ends_requests_under_way(table: RouteTable, app: WsgiApp) -> None:
    waiting = threading.Event()

    async def handler(request: Request) -> None:
        waiting.set()
        await anyio.sleep_forever()

    table.add(get("/", handler), plugin="shop")
    server = Server(app)
    assert waiting.wait(timeout=30)
    app.close()
    assert isinstance(server.outcome(), ConnectionAbortedError)


def test_close_does_not_wait_for_plain_handlers(table: RouteTable, app: WsgiApp) -> None:
    waiting, release = threading.Event(), threading.Event()

    def handler(request: Request) -> None:
        waiting.set()
        release.wait(timeout=30)

    table.add(get("/", handler), plugin="shop")
    server = Server(app)
    assert waiting.wait(timeout=30)
    app.close()
    assert isinstance(server.outcome(), ConnectionAbortedError)
    assert not loop_threads()
    release.set()


def test_a_server_that_never_comes_back_does_not_hold_up_close(
    table: RouteTable, app: WsgiApp, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(request: Request) -> StreamingResponse:
        return StreamingResponse(iter(["a", "b"]))

    table.add(get("/", handler), plugin="shop")
    answer: Any = app(EnvironBuilder("/").get_environ(), lambda *args: None)
    assert next(answer) == b"a"
    app.close(timeout=0.01)
    assert "requests have not ended 0.01 s after close: 1" in caplog.text
    [loop_thread] = loop_threads()
    answer.close()
    loop_thread.join(timeout=30)
    assert not loop_thread.is_alive(), "the last request has ended, and the loop has not"


def test_background_tasks_are_done_when_the_request_is(table: RouteTable, app: WsgiApp) -> None:
    done: list[str] = []

    async def handler(request: Request) -> PlainTextResponse:
        return PlainTextResponse("hello", background=BackgroundTask(done.append, "task"))

    table.add(get("/", handler), plugin="shop")
    assert Client(app).get("/").text == "hello"
    assert done == ["task"]


def test_the_interpreter_exits_although_nobody_closed() -> None:
    program = """
from plugkeep.routing import Route, RouteTable
from plugkeep.web import wsgi
from werkzeug.test import Client
table = RouteTable()
table.add(Route("GET", "/", lambda request: "plain, on a worker thread"), plugin="shop")
print(Client(wsgi(table)).get("/").text)
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "plain, on a worker thread\n"), done.stderr
    assert done.stderr == ""
