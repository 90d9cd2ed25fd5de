"""What a table answers by ASGI, spoken to in process."""

from __future__ import annotations

import asyncio
import functools
import logging
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import trio
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, StreamingResponse

from plugkeep.registry import Registry
from plugkeep.routing import Route, RouteTable
from plugkeep.web import asgi, route_of

Ask = Callable[..., httpx.Response]


def serving(*routes: Route, **options: Any) -> Any:
    """Return an application with these routes of a plugin named shop."""
    table = RouteTable()
    table.add(*routes, plugin="shop")
    return asgi(table, **options)


def get(path: str, handler: Any, **fields: Any) -> Route:
    return Route("GET", path, handler, **fields)


# --- handlers ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("returned", "status", "kind", "body"),
    [
        ("grüße", 200, "text/plain; charset=utf-8", "grüße".encode()),
        (b"\x00\xff", 200, "application/octet-stream", b"\x00\xff"),
        ({"a": [1]}, 200, "application/json", b'{"a":[1]}'),
        ([], 200, "application/json", b"[]"),
        (None, 204, None, b""),
        (HTMLResponse("<p>"), 200, "text/html; charset=utf-8", b"<p>"),
        (PlainTextResponse("made", 201), 201, "text/plain; charset=utf-8", b"made"),
    ],
)
@pytest.mark.parametrize("kind_of_handler", ["plain", "async"])
def test_what_handlers_may_return(
    ask: Ask, kind_of_handler: str, returned: object, status: int, kind: str | None, body: bytes
) -> None:
    async def asynchronous(request: Request) -> object:
        return returned

    handler = asynchronous if kind_of_handler == "async" else lambda request: returned
    answer = ask(serving(get("/", handler)), "/")
    assert answer.status_code == status
    assert answer.headers.get("content-type") == kind
    assert answer.content == body


class AsyncObject:
    async def __call__(self, request: Request) -> str:
        return f"object on {threading.current_thread().name}"


async def told(word: str, request: Request) -> str:
    return word


@pytest.mark.parametrize(
    "handler",
    [
        AsyncObject(),
        functools.partial(told, "partial"),
        lambda request: told("plain function that returns a coroutine", request),
        AsyncObject().__call__,
    ],
    ids=["async object", "partial", "returns a coroutine", "bound method"],
)
def test_asynchronous_handlers_in_disguise(ask: Ask, handler: Any) -> None:
    answer = ask(serving(get("/", handler)), "/")
    assert answer.status_code == 200, answer.text


def test_handlers_get_a_request_with_converted_parameters(ask: Ask) -> None:
    async def handler(request: Request) -> dict[str, Any]:
        return {
            "params": request.path_params,
            "query": request.query_params["q"],
            "body": (await request.body()).decode(),
            "header": request.headers["x-mine"],
        }

    app = serving(Route("POST", "/a/{x:int}/{rest:path}", handler))
    answer = ask(app, "/a/42/b/c?q=ä", "POST", content=b"hello", headers={"x-mine": "1"})
    assert answer.json() == {
        "params": {"x": 42, "rest": "b/c"},
        "query": "ä",
        "body": "hello",
        "header": "1",
    }


def test_plain_handlers_run_off_the_loop_and_side_by_side() -> None:
    everybody = threading.Barrier(4)

    def handler(request: Request) -> str:
        everybody.wait(timeout=30)  # passes only if four run at the same time
        return str(threading.get_ident())

    app = serving(get("/", handler))
    threads = {answer.text for answer in _together(app, ["/"] * 4)}
    assert len(threads) == 4
    assert str(threading.get_ident()) not in threads, "the loop's own thread was blocked"


def test_a_plugin_whose_handlers_hang_does_not_hold_up_another() -> None:
    release = threading.Event()
    table = RouteTable()
    table.add(get("/slow", lambda request: str(release.wait(timeout=30))), plugin="slow")

    def quick(request: Request) -> str:
        release.set()  # only this lets the slow ones end
        return "quick"

    table.add(get("/quick", quick), plugin="quick")
    answers = _together(asgi(table, threads=2), ["/slow"] * 3 + ["/quick"])
    assert [answer.text for answer in answers] == ["True"] * 3 + ["quick"]


def _together(app: Any, paths: list[str]) -> list[httpx.Response]:
    async def send() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://host") as client:
            return await asyncio.gather(*map(client.get, paths))

    return asyncio.run(send())


def test_a_stream_is_passed_on(ask: Ask) -> None:
    async def handler(request: Request) -> StreamingResponse:
        return StreamingResponse(iter(["a", "b", "c"]), media_type="text/plain")

    assert ask(serving(get("/", handler)), "/").text == "abc"


def test_head_has_the_headers_of_get_and_no_body(ask: Ask) -> None:
    answer = ask(serving(get("/", lambda request: "hello")), "/", "HEAD")
    assert answer.status_code == 200
    assert answer.headers["content-length"] == "5"
    assert answer.content == b""


# --- failures ---------------------------------------------------------------------------------


def exits(request: Request) -> None:
    sys.exit(3)


async def exits_async(request: Request) -> None:
    sys.exit(3)


class Odd(BaseException):
    """What plugins raise that know no better."""


def raises(error: BaseException) -> Callable[[Request], None]:
    def handler(request: Request) -> None:
        raise error

    return handler


def raises_async(error: BaseException) -> Any:
    async def handler(request: Request) -> None:
        raise error

    return handler


@pytest.mark.parametrize(
    ("handler", "logged"),
    [
        (lambda request: 1 / 0, "ZeroDivisionError"),
        (exits, "SystemExit: 3"),
        (exits_async, "SystemExit: 3"),
        (raises(Odd("plain")), "Odd: plain"),
        (raises_async(Odd("async")), "Odd: async"),
        (raises(asyncio.CancelledError("plain")), "CancelledError: plain"),
        (raises_async(asyncio.CancelledError("async")), "CancelledError: async"),
        (lambda request: next(iter(())), "StopIteration"),
        (lambda: "no request", "TypeError"),
        (lambda request: object(), "returned object; it can return a Starlette Response, str"),
        (lambda request: ("a", 200), "returned tuple"),
        (lambda request: (yield), "returned generator"),
        (lambda request: {"at": object()}, "not JSON serializable"),
        (lambda request: {"at": float("nan")}, "not JSON compliant"),
        (lambda request: "\ud800", "UnicodeEncodeError"),
    ],
)
def test_a_failing_handler_is_500_and_logged_with_its_plugin(
    ask: Ask, caplog: pytest.LogCaptureFixture, handler: Any, logged: str
) -> None:
    answer = ask(serving(get("/a/{x}", handler)), "/a/secret")
    assert answer.status_code == 500
    assert answer.text == "Internal Server Error in plugin 'shop'"
    [record] = caplog.records
    assert record.name == "plugkeep.web"
    assert record.getMessage() == "GET /a/{x} of plugin 'shop' failed"
    assert logged in caplog.text


def test_the_hosts_own_handler_that_fails(ask: Ask) -> None:
    table = RouteTable()
    table.add(get("/", lambda request: 1 / 0))
    answer = ask(asgi(table), "/")
    assert (answer.status_code, answer.text) == (500, "Internal Server Error")


def test_a_handler_may_raise_an_answer(ask: Ask, caplog: pytest.LogCaptureFixture) -> None:
    def handler(request: Request) -> None:
        raise HTTPException(418, "teapot", headers={"X-Pot": "tea"})

    answer = ask(serving(get("/", handler)), "/")
    assert (answer.status_code, answer.text, answer.headers["x-pot"]) == (418, "teapot", "tea")
    assert not caplog.records


def test_a_failure_in_the_middle_of_an_answer_breaks_it_off(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def chunks() -> AsyncIterator[str]:
        yield "a"
        raise LookupError("no b")

    async def handler(request: Request) -> StreamingResponse:
        return StreamingResponse(chunks())

    sent: list[Any] = []
    with pytest.raises(LookupError, match="no b"):
        asyncio.run(_call(serving(get("/", handler)), _scope("/"), sent))
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert "GET / of plugin 'shop' failed" in caplog.text


@pytest.mark.parametrize("error", [Odd("no b"), SystemExit(3)])
def test_a_failure_in_the_middle_of_an_answer_harms_nothing_but_that_answer(
    caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    async def chunks() -> AsyncIterator[str]:
        yield "a"
        raise error

    async def handler(request: Request) -> StreamingResponse:
        return StreamingResponse(chunks())

    scope = _scope("/", asgi={"version": "3.0", "spec_version": "2.4"})
    # An Exception: anything else would end the server's event loop, or be lost in it.
    with pytest.raises(RuntimeError, match="GET / broke off") as caught:
        asyncio.run(_call(serving(get("/", handler)), scope, []))
    assert caught.value.__cause__ is error
    assert "GET / of plugin 'shop' failed" in caplog.text


def test_a_request_that_is_cancelled_is_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    sent: list[Any] = []

    async def cancel() -> asyncio.Task[None]:
        reached = asyncio.Event()

        async def handler(request: Request) -> None:
            reached.set()
            await asyncio.Event().wait()

        task = asyncio.create_task(_call(serving(get("/", handler)), _scope("/"), sent))
        async with asyncio.timeout(30):
            await reached.wait()
            task.cancel()
            await asyncio.wait([task])
        return task

    assert asyncio.run(cancel()).cancelled()
    assert sent == []
    assert not caplog.records


def test_a_request_that_is_cancelled_in_trio_is_cancelled(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sent: list[Any] = []

    async def cancel() -> bool:
        with trio.fail_after(30), trio.CancelScope() as scope:

            async def handler(request: Request) -> None:
                scope.cancel()
                await trio.sleep_forever()

            await _call(serving(get("/", handler)), _scope("/"), sent)
        return scope.cancelled_caught

    assert trio.run(cancel)
    assert sent == []
    assert not caplog.records


def test_a_request_that_is_dropped_ends_without_an_answer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sent: list[Any] = []

    async def handler(request: Request) -> None:
        await asyncio.sleep(0)

    request = _call(serving(get("/", handler)), _scope("/"), sent)
    request.send(None)  # as far as into the handler, without a loop, as after its end
    request.close()
    assert sent == []
    assert not caplog.records


def test_an_interrupt_in_a_handler_is_passed_on() -> None:
    sent: list[Any] = []
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(_call(serving(get("/", raises_async(KeyboardInterrupt()))), _scope("/"), sent))
    assert sent == []


def test_a_client_that_has_gone_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    async def handler(request: Request) -> None:
        await request.body()

    sent: list[Any] = []
    app = serving(Route("POST", "/", handler))
    gone = {"type": "http.disconnect"}
    asyncio.run(_call(app, {**_scope("/"), "method": "POST"}, sent, gone))
    assert sent == []
    assert not [record for record in caplog.records if record.levelno > logging.DEBUG]


def _scope(path: str, **more: Any) -> dict[str, Any]:
    return {
        "type": "http",
        "method": "GET",
        "path": path,
        "query_string": b"",
        "headers": [],
        **more,
    }


async def _call(app: Any, scope: dict[str, Any], sent: list[Any], *messages: Any) -> None:
    waiting = [*messages]

    async def receive() -> Any:
        return waiting.pop(0) if waiting else await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)


# --- finding the route ------------------------------------------------------------------------


def echo(request: Request) -> str:
    return repr(dict(request.path_params))


@pytest.mark.parametrize(
    ("pattern", "path", "status"),
    [
        ("/a", "/a", 200),
        ("/a", "/b", 404),
        ("/a", "/A", 404),
        ("/a", "http://host//a", 404),
        ("/a", "/a?b=c", 200),
        ("/", "", 200),
        ("/", "/", 200),
        ("/{x}", "/" + "x" * 60_000, 200),
        ("/{x:int}", "/" + "9" * 60_000, 404),
        ("/grüße/{wen}", "/grüße/日本", 200),
        ("/grüße/{wen}", "/gr%C3%BC%C3%9Fe/%E6%97%A5%E6%9C%AC", 200),
        ("/a b", "/a%20b", 200),
        ("/{x}", "/a%2Fb", 404),  # an encoded slash is a slash, as in Starlette and in WSGI
        ("/{x:path}", "/a%2Fb", 200),
        ("/{x}", "/a%00b", 200),
        ("/a", "/a%0A", 404),
    ],
)
def test_paths(ask: Ask, pattern: str, path: str, status: int) -> None:
    answer = ask(serving(get(pattern, echo)), path)
    assert answer.status_code == status, answer.text


def test_a_slash_too_many_or_too_few_is_redirected_with_method_and_query(ask: Ask) -> None:
    app = serving(get("/a", echo), Route("POST", "/b/{x}/", echo))
    answer = ask(app, "/a/?q=1")
    assert (answer.status_code, answer.headers["location"]) == (307, "http://host/a?q=1")
    answer = ask(app, "/b/1", "POST")
    assert (answer.status_code, answer.headers["location"]) == (307, "http://host/b/1/")
    assert ask(app, "/c/").status_code == 404


def test_a_redirect_stays_on_the_host(ask: Ask) -> None:
    answer = ask(serving(get("/{x:path}/b", echo)), "http://host//evil.example/b/")
    assert answer.status_code == 307
    assert answer.headers["location"].startswith("http://host/")


def test_a_method_that_no_route_has_is_405_with_allow(ask: Ask) -> None:
    app = serving(get("/a/{x}", echo), Route("DELETE", "/a/{x}", echo))
    for method in ("POST", "OPTIONS", "BREW"):
        answer = ask(app, "/a/1", method)
        assert (answer.status_code, answer.text) == (405, "Method Not Allowed")
        assert answer.headers["allow"] == "DELETE, GET, HEAD"
    assert ask(app, "/a/1", "DELETE").status_code == 200


def test_routes_that_come_and_go_are_seen_at_once(ask: Ask) -> None:
    table = RouteTable()
    app = asgi(table)
    assert ask(app, "/a").status_code == 404
    table.add(get("/a", lambda request: "one"), plugin="a")
    assert ask(app, "/a").text == "one"
    table.replace({"a": [get("/a", lambda request: "two")]})
    assert ask(app, "/a").text == "two"
    table.remove("a")
    assert ask(app, "/a").status_code == 404


def test_a_plugin_that_has_left_the_table_is_not_kept_alive(ask: Ask) -> None:
    import gc
    import weakref

    class Shop:
        def routes(self) -> list[Route]:
            self.mine = [get("/a", self.answer)]  # keeps its own routes, as plugins may
            return self.mine

        async def answer(self, request: Request) -> str:
            return "a"

    table, shop = RouteTable(), Shop()
    app = asgi(table)
    table.replace({"shop": shop.routes()})
    assert ask(app, "/a").text == "a"
    gone = weakref.ref(shop)
    del shop
    table.remove("shop")
    gc.collect()
    assert gone() is None


# --- plugins that do not run ------------------------------------------------------------------


class Shop:
    name = "shop"

    def start(self) -> None: ...
    def stop(self) -> None: ...


def test_503_names_the_plugin_while_it_does_not_run(ask: Ask) -> None:
    registry = Registry()
    registry.register(Shop())
    app = serving(get("/a", echo, permissions=("buy",)), registry=registry)
    assert _refused(ask(app, "/a")) == "plugin 'shop' is not running: it is registered"
    registry.start_all()
    assert ask(app, "/a").status_code == 403
    registry.stop_all()
    assert _refused(ask(app, "/a")) == "plugin 'shop' is not running: it is stopped"
    registry.start_all()
    assert ask(app, "/a").status_code == 403
    registry.stop_all()
    registry.unregister("shop")
    assert _refused(ask(app, "/a")) == "plugin 'shop' is not running: it is not registered"


def _refused(answer: httpx.Response) -> str:
    assert answer.status_code == 503
    assert "retry-after" not in answer.headers
    return answer.text


def test_503_of_a_plugin_that_is_about_to_run_says_when_to_come_back(ask: Ask) -> None:
    registry = Registry()
    app = serving(get("/a", echo), registry=registry)
    answers = []

    class Slow(Shop):
        def start(self) -> None:
            answers.append(ask(app, "/a"))

    registry.register(Slow())
    registry.start_all()
    assert answers[0].status_code == 503
    assert answers[0].text == "plugin 'shop' is not running: it is starting"
    assert answers[0].headers["retry-after"] == "1"


def test_the_hosts_own_routes_always_run(ask: Ask) -> None:
    table = RouteTable()
    table.add(get("/", echo))
    assert ask(asgi(table, registry=Registry()), "/").status_code == 200


# --- permissions, middleware, meta ------------------------------------------------------------


def test_without_authorize_a_route_with_permissions_is_refused(
    ask: Ask, caplog: pytest.LogCaptureFixture
) -> None:
    answer = ask(serving(get("/a", echo, permissions=("buy", "pay"))), "/a")
    assert (answer.status_code, answer.text) == (403, "needs permission: buy, pay")
    assert "the host has given no 'authorize'" in caplog.text


def test_authorize_sees_request_permissions_and_route(ask: Ask) -> None:
    asked: list[tuple[str, tuple[str, ...], Any]] = []

    def authorize(request: Request, permissions: tuple[str, ...]) -> bool:
        entry = route_of(request)
        asked.append((entry.plugin or "", permissions, entry.route.meta["title"]))
        return request.headers.get("x-user") == "admin"

    app = serving(
        get("/a", echo, permissions=("buy",), meta={"title": "A"}),
        get("/free", echo),
        authorize=authorize,
    )
    assert ask(app, "/a").status_code == 403
    assert ask(app, "/a", headers={"x-user": "admin"}).status_code == 200
    assert asked == [("shop", ("buy",), "A")] * 2
    assert ask(app, "/free").status_code == 200
    assert len(asked) == 2, "a route without permissions is not asked about"


async def yes(request: Request, permissions: tuple[str, ...]) -> bool:
    return True


async def no(request: Request, permissions: tuple[str, ...]) -> bool:
    return False


def unauthenticated(request: Request, permissions: tuple[str, ...]) -> bool:
    raise HTTPException(401, "who are you?")


def broken(request: Request, permissions: tuple[str, ...]) -> bool:
    raise ConnectionError("the directory is down")


@pytest.mark.parametrize(
    ("authorize", "status"),
    [
        (yes, 200),
        (no, 403),
        (lambda request, permissions: yes(request, permissions), 200),
        (lambda request, permissions: no(request, permissions), 403),
        (lambda request, permissions: None, 403),
        (lambda request, permissions: (False, "true as a tuple"), 403),
        (lambda request, permissions: "no", 403),
        (unauthenticated, 401),
        (broken, 500),
    ],
)
def test_only_true_lets_a_request_through(ask: Ask, authorize: Any, status: int) -> None:
    called: list[bool] = []
    route = get("/a", lambda request: called.append(True), permissions=("buy",))
    answer = ask(serving(route, authorize=authorize), "/a")
    assert answer.status_code == (204 if status == 200 else status)
    assert called == [True] * (status == 200), "the handler must not run unless it is allowed"


class Tag:
    """ASGI middleware that adds a header."""

    def __init__(self, app: Any, word: str = "bare") -> None:
        self.app, self.word = app, word

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        title = route_of(scope).route.meta.get("title", "-")

        async def tag(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"].append((b"x-tag", f"{self.word} {title}".encode()))
            await send(message)

        await self.app(scope, receive, tag)


def test_middleware_wraps_its_route_only_outermost_first_and_sees_meta(ask: Ask) -> None:
    from starlette.middleware import Middleware

    middleware = (Middleware(Tag, word="outer"), lambda app: Tag(app, "inner"), Tag)
    app = serving(
        get("/a", echo, middleware=middleware, meta={"title": "A"}),
        get("/b", echo),
    )
    tags = ask(app, "/a").headers.get_list("x-tag")
    assert tags == ["bare A", "inner A", "outer A"]
    assert "x-tag" not in ask(app, "/b").headers


def test_middleware_is_built_once_and_lives_as_long_as_its_route(ask: Ask) -> None:
    built: list[str] = []

    def middleware(app: Any) -> Any:
        built.append("built")
        return app

    table = RouteTable()
    table.add(get("/a", echo, middleware=(middleware,)), plugin="a")
    app = asgi(table)
    for number in range(3):
        assert ask(app, "/a").status_code == 200
        table.add(get(f"/a/{number}", echo), plugin="a")
        table.add(get(f"/b/{number}", echo), plugin="b")
    assert built == ["built"]


def test_middleware_does_not_run_before_the_request_is_allowed(ask: Ask) -> None:
    route = get("/a", echo, middleware=(Tag,), permissions=("buy",))
    assert "x-tag" not in ask(serving(route, authorize=no), "/a").headers


@pytest.mark.parametrize(
    "middleware", [lambda app: None, lambda: None, lambda app: 1 / 0], ids=["None", "()", "raises"]
)
def test_middleware_that_cannot_be_built_is_the_plugins_failure(
    ask: Ask, caplog: pytest.LogCaptureFixture, middleware: Any
) -> None:
    answer = ask(serving(get("/a", echo, middleware=(middleware,))), "/a")
    assert (answer.status_code, answer.text) == (500, "Internal Server Error in plugin 'shop'")
    assert "GET /a of plugin 'shop' failed" in caplog.text


def test_route_of_outside_of_a_route() -> None:
    with pytest.raises(LookupError, match="not being answered by the route of a plugin"):
        route_of({"type": "http"})


# --- other scopes -----------------------------------------------------------------------------


def test_a_websocket_is_closed() -> None:
    sent: list[Any] = []
    scope = {"type": "websocket", "path": "/a", "headers": [], "query_string": b""}
    asyncio.run(_call(serving(get("/a", echo)), scope, sent, {"type": "websocket.connect"}))
    assert [message["type"] for message in sent] == ["websocket.close"]


def test_lifespan_is_entered_and_left() -> None:
    steps: list[str] = []

    @asynccontextmanager
    async def lifespan(app: object) -> AsyncIterator[None]:
        steps.append("start")
        yield
        steps.append("stop")

    sent: list[Any] = []
    messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    app = serving(get("/a", echo), lifespan=lifespan)
    asyncio.run(_call(app, {"type": "lifespan"}, sent, *messages))
    assert steps == ["start", "stop"]
    assert [message["type"] for message in sent] == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
    ]


def test_lifespan_that_fails_is_told_to_the_server() -> None:
    @asynccontextmanager
    async def lifespan(app: object) -> AsyncIterator[None]:
        raise LookupError("no database")
        yield

    sent: list[Any] = []
    app = serving(get("/a", echo), lifespan=lifespan)
    with pytest.raises(LookupError, match="no database"):
        asyncio.run(_call(app, {"type": "lifespan"}, sent, {"type": "lifespan.startup"}))
    assert sent[0]["type"] == "lifespan.startup.failed"
    assert "no database" in sent[0]["message"]
