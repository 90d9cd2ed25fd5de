"""Mounted into the field's applications: the mount's path counts, the host's manners apply."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.responses import JSONResponse
from flask import Flask
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount
from starlette.routing import Route as HostRoute
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from plugkeep.routing import Route, RouteTable
from plugkeep.web import asgi, wsgi

Ask = Callable[..., httpx.Response]


@pytest.fixture
def table() -> RouteTable:
    def where(request: Request) -> dict[str, Any]:
        return {"params": dict(request.path_params), "url": str(request.url)}

    table = RouteTable()
    table.add(
        Route("GET", "/", where),
        Route("GET", "/a/{x}", where),
        Route("GET", "/fails", lambda request: 1 / 0),
        Route("GET", "/closed", where, permissions=("buy",)),
        plugin="shop",
    )
    return table


def in_starlette(table: RouteTable) -> Any:
    async def home(request: Request) -> PlainTextResponse:
        return PlainTextResponse("home")

    return Starlette(routes=[HostRoute("/home", home), Mount("/plug/{tenant}", asgi(table))])


def in_fastapi(table: RouteTable) -> Any:
    app = FastAPI()

    @app.get("/home")
    async def home() -> str:
        return "home"

    app.mount("/plug/acme", asgi(table))
    return app


@pytest.mark.parametrize("mount", [in_starlette, in_fastapi])
def test_mounted_into_an_asgi_application(
    ask: Ask, table: RouteTable, mount: Callable[[RouteTable], Any]
) -> None:
    app = mount(table)
    answer = ask(app, "/plug/acme/a/1").json()
    assert answer["params"]["x"] == "1"
    assert answer["url"] == "http://host/plug/acme/a/1"
    assert ask(app, "/plug/acme/").status_code == 200
    assert ask(app, "/plug/acme/a/1/").headers["location"] == "http://host/plug/acme/a/1"
    assert ask(app, "/plug/acme").headers["location"] == "http://host/plug/acme/"
    assert ask(app, "/a/1").status_code == 404
    assert "home" in ask(app, "/home").text


def test_parameters_of_the_mount_reach_the_handler(ask: Ask, table: RouteTable) -> None:
    answer = ask(in_starlette(table), "/plug/acme/a/1").json()
    assert answer["params"] == {"tenant": "acme", "x": "1"}


def test_a_mount_in_a_mount(ask: Ask, table: RouteTable) -> None:
    app = Starlette(routes=[Mount("/outer", Starlette(routes=[Mount("/inner", asgi(table))]))])
    assert ask(app, "/outer/inner/a/1").json()["url"] == "http://host/outer/inner/a/1"


def test_behind_a_proxy_that_sets_root_path(ask: Ask, table: RouteTable) -> None:
    """Servers put the root path in front of the path, as uvicorn --root-path does."""
    inner = asgi(table)

    async def served(scope: Any, receive: Any, send: Any) -> None:
        await inner({**scope, "root_path": "/root", "path": "/root" + scope["path"]}, receive, send)

    assert ask(served, "/a/1").json()["url"] == "http://host/root/a/1"
    assert ask(served, "/a/1/").headers["location"] == "http://host/root/a/1"


def test_a_path_that_only_looks_like_the_root_path(ask: Ask, table: RouteTable) -> None:
    inner = asgi(table)

    async def served(scope: Any, receive: Any, send: Any) -> None:
        await inner({**scope, "root_path": "/a"}, receive, send)

    assert ask(served, "/a/1").status_code == 404, "below /a there is no /1"
    assert ask(served, "/fails").status_code == 500, "not below /a: taken as it is"


def test_the_hosts_handlers_shape_refusals(ask: Ask, table: RouteTable) -> None:
    async def refuse(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        return JSONResponse({"refused": error.detail}, error.status_code, headers=error.headers)

    app = Starlette(
        routes=[Mount("/plug", asgi(table))], exception_handlers={HTTPException: refuse}
    )
    assert ask(app, "/plug/nowhere").json() == {"refused": "Not Found"}
    answer = ask(app, "/plug/a/1", "POST")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")
    assert ask(app, "/plug/closed").json() == {"refused": "needs permission: buy"}


def test_fastapi_answers_in_json(ask: Ask, table: RouteTable) -> None:
    app = in_fastapi(table)
    assert ask(app, "/plug/acme/nowhere").json() == {"detail": "Not Found"}
    assert ask(app, "/plug/acme/closed").json() == {"detail": "needs permission: buy"}


def test_a_plugins_failure_stays_below_the_mount(
    ask: Ask, table: RouteTable, caplog: pytest.LogCaptureFixture
) -> None:
    answer = ask(in_fastapi(table), "/plug/acme/fails")
    assert (answer.status_code, answer.text) == (500, "Internal Server Error in plugin 'shop'")
    assert "GET /fails of plugin 'shop' failed" in caplog.text


def test_mounted_into_flask(table: RouteTable) -> None:
    flask = Flask(__name__)

    @flask.get("/home")
    def home() -> str:
        return "home"

    with wsgi(table) as plugins:
        flask.wsgi_app = DispatcherMiddleware(  # type: ignore[method-assign]
            flask.wsgi_app, {"/plug": plugins}
        )
        client = flask.test_client()
        answer = client.get("/plug/a/1").get_json()
        assert answer == {"params": {"x": "1"}, "url": "http://localhost/plug/a/1"}
        assert client.get("/plug/a/1/").headers["location"] == "http://localhost/plug/a/1"
        assert client.get("/plug").headers["location"] == "http://localhost/plug/"
        assert client.get("/plug/nowhere").status_code == 404
        assert client.get("/home").text == "home"
