"""The table: whose a route is, which one a request is for, and which cannot be added."""

from __future__ import annotations

import threading

import pytest

from plugkeep.errors import InvalidRouteError, RouteConflictError
from plugkeep.routing import Route, RouteTable


def route(method: str, path: str) -> Route:
    return Route(method, path, lambda request: None)


def owners(table: RouteTable) -> list[tuple[str | None, str]]:
    return [(entry.plugin, str(entry.route)) for entry in table.routes()]


def found(table: RouteTable, method: str, path: str) -> str | None:
    match = table.match(method, path)
    return None if match is None else str(match.entry.route)


def test_routes_are_listed_in_order_with_their_owners() -> None:
    table = RouteTable()
    table.add(route("GET", "/b"), plugin="b")
    table.add(route("GET", "/a"), route("POST", "/a"), plugin="a")
    table.add(route("GET", "/"))
    assert owners(table) == [
        ("b", "GET /b"),
        ("a", "GET /a"),
        ("a", "POST /a"),
        (None, "GET /"),
    ]
    assert len(table) == 4


def test_match_gives_the_entry_and_converted_parameters() -> None:
    table = RouteTable()
    table.add(route("GET", "/a/{x:int}/{rest:path}"), plugin="a")
    match = table.match("GET", "/a/42/b/c")
    assert match is not None
    assert match.entry.plugin == "a"
    assert match.params == {"x": 42, "rest": "b/c"}


def test_routes_of_one_shape_name_their_parameters_themselves() -> None:
    table = RouteTable()
    table.add(route("GET", "/a/{x}"), plugin="a")
    table.add(route("POST", "/a/{y}"), plugin="b")
    get, post = table.match("GET", "/a/1"), table.match("POST", "/a/1")
    assert get is not None
    assert get.params == {"x": "1"}
    assert post is not None
    assert post.params == {"y": "1"}


@pytest.mark.parametrize("turn", [1, -1], ids=["as listed", "the other way round"])
def test_the_specific_comes_before_the_general_in_any_order_of_registration(turn: int) -> None:
    table = RouteTable()
    paths = ["/{x:path}", "/a/{x:path}", "/a/{x}", "/a/{x:int}", "/a/new", "/{x}/new", "/a/b{x}"]
    for path in paths[::turn]:
        table.add(route("GET", path), plugin=f"plugin-{paths.index(path)}")
    assert found(table, "GET", "/a/new") == "GET /a/new"
    assert found(table, "GET", "/a/7") == "GET /a/{x:int}"
    assert found(table, "GET", "/a/x") == "GET /a/{x}"
    assert found(table, "GET", "/a/bx") == "GET /a/b{x}"
    assert found(table, "GET", "/a/x/y") == "GET /a/{x:path}"
    assert found(table, "GET", "/z/new") == "GET /{x}/new"
    assert found(table, "GET", "/z") == "GET /{x:path}"
    assert found(table, "GET", "/") == "GET /{x:path}"


def test_equally_specific_shapes_are_tried_in_order_of_registration() -> None:
    table = RouteTable()
    table.add(route("GET", "/a/x{x}"), plugin="first")
    table.add(route("GET", "/a/{x}x"), plugin="second")
    assert found(table, "GET", "/a/xyx") == "GET /a/x{x}"


def test_a_general_route_answers_a_method_that_the_specific_one_lacks() -> None:
    table = RouteTable()
    table.add(route("POST", "/a/new"), plugin="a")
    table.add(route("GET", "/a/{x}"), plugin="b")
    assert found(table, "GET", "/a/new") == "GET /a/{x}"
    assert found(table, "POST", "/a/new") == "POST /a/new"
    assert found(table, "DELETE", "/a/new") is None
    assert table.allowed("/a/new") == ("GET", "HEAD", "POST")
    assert table.allowed("/b") == ()


def test_get_answers_head_unless_head_has_a_route() -> None:
    table = RouteTable()
    table.add(route("GET", "/a"), plugin="a")
    assert found(table, "HEAD", "/a") == "GET /a"
    table.add(route("HEAD", "/a"), plugin="a")
    assert found(table, "HEAD", "/a") == "HEAD /a"
    assert found(table, "GET", "/a") == "GET /a"


# --- conflicts --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("GET", "/a"), ("GET", "/a")),
        (("GET", "/a"), ("get", "/a")),
        (("GET", "/a/{x}"), ("GET", "/a/{y}")),
        (("GET", "/a/{x}"), ("GET", "/a/{y:str}")),
        (("GET", "/a/{x:int}/b"), ("GET", "/a/{y:int}/b")),
        (("GET", "/a"), ("HEAD", "/a")),
        (("HEAD", "/a"), ("GET", "/a")),
    ],
)
def test_two_plugins_with_the_same_route(first: tuple[str, str], second: tuple[str, str]) -> None:
    table = RouteTable()
    table.add(route(*first), plugin="shop")
    with pytest.raises(RouteConflictError) as caught:
        table.add(route(*second), plugin="store")
    error = caught.value
    assert (error.plugin, error.other) == ("store", "shop")
    assert (error.method, error.path) == (second[0].upper(), second[1])
    for fact in ("'store'", "'shop'", second[0].upper(), second[1], first[1]):
        assert fact in str(error), f"the message does not say {fact}"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("GET", "/a"), ("POST", "/a")),
        (("GET", "/a"), ("GET", "/a/")),
        (("GET", "/a"), ("GET", "/A")),
        (("GET", "/a/{x}"), ("GET", "/a/{x:int}")),
        (("GET", "/a/{x}"), ("GET", "/a/b")),
        (("POST", "/a"), ("HEAD", "/a")),
    ],
)
def test_routes_that_are_not_the_same(first: tuple[str, str], second: tuple[str, str]) -> None:
    table = RouteTable()
    table.add(route(*first), plugin="shop")
    table.add(route(*second), plugin="store")
    assert len(table) == 2


def test_a_plugin_cannot_have_a_route_twice_either() -> None:
    table = RouteTable()
    with pytest.raises(RouteConflictError) as caught:
        table.add(route("GET", "/a/{x}"), route("GET", "/a/{y}"), plugin="a")
    assert (caught.value.plugin, caught.value.other) == ("a", "a")
    assert len(table) == 0


def test_the_host_has_routes_of_its_own_and_conflicts_too() -> None:
    table = RouteTable()
    table.add(route("GET", "/"))
    with pytest.raises(RouteConflictError, match="the host has already") as caught:
        table.add(route("GET", "/"), plugin="a")
    assert caught.value.other is None


def test_all_routes_of_a_plugin_are_added_or_none() -> None:
    table = RouteTable()
    table.add(route("GET", "/taken"), plugin="a")
    table.add(route("GET", "/mine"), plugin="b")
    with pytest.raises(RouteConflictError):
        table.add(route("GET", "/new"), route("GET", "/taken"), plugin="b")
    with pytest.raises(InvalidRouteError, match="'/x' is str, not a Route"):
        table.add(route("GET", "/new"), "/x", plugin="b")  # type: ignore[arg-type]
    assert owners(table) == [("a", "GET /taken"), ("b", "GET /mine")]
    table.add(route("GET", "/new"), plugin="c")  # nothing of the refused claims it


# --- change -----------------------------------------------------------------------------------


def test_replace_puts_new_routes_in_the_place_of_the_old() -> None:
    table = RouteTable()
    table.add(route("GET", "/a"), plugin="a")
    table.add(route("GET", "/b"), plugin="b")
    table.replace({"a": [route("GET", "/a2"), route("GET", "/a")]})
    assert owners(table) == [("a", "GET /a2"), ("a", "GET /a"), ("b", "GET /b")]
    table.replace({"a": ()})
    assert owners(table) == [("b", "GET /b")]
    table.add(route("GET", "/a"), plugin="b")  # free again


def test_replace_lets_plugins_swap_a_route_and_is_all_or_nothing() -> None:
    table = RouteTable()
    table.add(route("GET", "/a"), plugin="a")
    table.add(route("GET", "/b"), plugin="b")
    table.replace({"a": [route("GET", "/b")], "b": [route("GET", "/a")]})
    swapped = [("a", "GET /b"), ("b", "GET /a")]
    assert owners(table) == swapped
    with pytest.raises(RouteConflictError):
        table.replace({"a": [route("GET", "/x")], "c": [route("GET", "/a")]})
    assert owners(table) == swapped


def test_remove_takes_a_plugin_out_and_does_not_mind_strangers() -> None:
    table = RouteTable()
    table.add(route("GET", "/a"), plugin="a")
    assert found(table, "GET", "/a")
    table.remove("a")
    table.remove("a")
    table.remove(None)
    assert found(table, "GET", "/a") is None
    assert table.allowed("/a") == ()
    assert len(table) == 0


def test_threads_that_add_and_match_at_once_lose_nothing() -> None:
    table = RouteTable()
    table.add(route("GET", "/always"), plugin="always")
    gate = threading.Barrier(4)
    problems: list[str] = []

    def add(name: str) -> None:
        gate.wait(timeout=30)
        for number in range(100):
            table.add(route("GET", f"/{name}/{number}/{{x}}"), plugin=name)
            if found(table, "GET", f"/{name}/{number}/z") is None:
                problems.append(f"{name} does not see its own {number}")
            if found(table, "GET", "/always") is None:
                problems.append(f"{name} does not see /always")

    threads = [threading.Thread(target=add, args=(f"p{index}",)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
    assert len(table) == 401
