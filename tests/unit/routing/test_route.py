"""A route says at once, and clearly, what is wrong with it."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware

from plugkeep.errors import InvalidRouteError
from plugkeep.routing import Route


def handler(request: object) -> str:
    return "hello"


def test_has_what_it_was_given() -> None:
    route = Route(
        "get",
        "/a/{x:int}",
        handler,
        middleware=[Middleware(GZipMiddleware), GZipMiddleware],  # type: ignore[arg-type]
        permissions=["read", "write"],  # type: ignore[arg-type]
        meta={"title": "A"},
    )
    assert (route.method, route.path, route.handler) == ("GET", "/a/{x:int}", handler)
    assert len(route.middleware) == 2
    assert route.permissions == ("read", "write")
    assert route.meta == {"title": "A"}
    assert str(route) == "GET /a/{x:int}"


def test_is_frozen_and_keeps_its_own_copy_of_meta() -> None:
    meta: dict[str, Any] = {"title": "A"}
    route = Route("GET", "/", handler, meta=meta)
    meta["title"] = "B"
    assert route.meta["title"] == "A"
    with pytest.raises(TypeError):
        route.meta["title"] = "C"  # type: ignore[index]
    with pytest.raises(dataclasses.FrozenInstanceError):
        route.method = "POST"  # type: ignore[misc]


def test_equal_routes_are_equal_and_can_be_copied_with_a_change() -> None:
    route = Route("GET", "/", handler, meta={"a": 1})
    assert route == Route("get", "/", handler, meta={"a": 1})
    assert len({route, Route("GET", "/", handler)}) == 2
    assert dataclasses.replace(route, path="/{x}").pattern.names == ("x",)


@pytest.mark.parametrize("method", ["", "GET POST", "GET,POST", "GÉT", " GET", None, 7, ["GET"]])
def test_refuses_what_is_no_method(method: Any) -> None:
    with pytest.raises(InvalidRouteError) as caught:
        Route(method, "/a", handler)
    assert f"method of the route for '/a' is {method!r}" in str(caught.value)


def test_takes_any_token_as_a_method() -> None:
    assert Route("purge", "/", handler).method == "PURGE"
    assert Route("M-SEARCH", "/", handler).method == "M-SEARCH"


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"handler": "hello"}, "handler of GET /a is 'hello', which is not callable"),
        ({"handler": None}, "handler of GET /a is None"),
        ({"permissions": "admin"}, "for a single one: ('admin',)"),
        ({"permissions": b"admin"}, "for a single one: (b'admin',)"),
        ({"permissions": 7}, "permissions of GET /a is 7, not a sequence"),
        ({"permissions": ("admin", "")}, "permissions of GET /a has '' in it"),
        ({"permissions": ("admin", 7)}, "permissions of GET /a has 7 in it"),
        ({"middleware": GZipMiddleware}, "not a sequence; for a single one"),
        ({"middleware": Middleware(GZipMiddleware)}, "not a sequence; for a single one"),
        ({"middleware": ("gzip",)}, "middleware of GET /a has 'gzip' in it"),
        ({"meta": ["a"]}, "meta of GET /a is ['a'], not a mapping"),
        ({"meta": None}, "meta of GET /a is None"),
    ],
)
def test_refuses_fields_that_do_not_fit(fields: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidRouteError) as caught:
        Route(**{"method": "GET", "path": "/a", "handler": handler, **fields})
    assert why in str(caught.value)
