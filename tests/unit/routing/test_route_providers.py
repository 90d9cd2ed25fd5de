"""From the registry into the table."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from plugkeep.errors import InvalidRouteError, RouteConflictError, StartError
from plugkeep.lifecycle import State
from plugkeep.registry import Registry
from plugkeep.routing import Route, RouteTable, follow_routes, register_route_providers


def hello(request: object) -> str:
    return "hello"


class Silent:
    """A plugin without routes."""

    def __init__(self, name: str) -> None:
        self.name = name

    def start(self) -> None: ...
    def stop(self) -> None: ...


class Provider(Silent):
    def __init__(self, name: str, *paths: str) -> None:
        super().__init__(name)
        self.paths = paths

    def routes(self) -> Iterable[Route]:
        return [Route("GET", path, hello) for path in self.paths]


class Odd(Silent):
    """A provider whose routes() does as told."""

    def __init__(self, name: str, routes: Callable[[], Any]) -> None:
        super().__init__(name)
        self.routes = routes


def running(*plugins: Silent) -> Registry:
    registry = Registry()
    for plugin in plugins:
        registry.register(plugin)
    assert registry.start_all() == []
    return registry


def listed(table: RouteTable) -> list[tuple[str | None, str]]:
    return [(entry.plugin, entry.route.path) for entry in table.routes()]


def test_forwards_in_order_of_registration_and_skips_those_without() -> None:
    table = RouteTable()
    registry = running(
        Provider("b", "/b1", "/b2"), Silent("silent"), Provider("empty"), Provider("a", "/a")
    )
    assert register_route_providers(registry, table) == 3
    assert listed(table) == [("b", "/b1"), ("b", "/b2"), ("a", "/a")]


def test_asks_only_plugins_that_run() -> None:
    table = RouteTable()
    registry = running(Provider("up", "/up"), Provider("down", "/down"))
    registry.stop("down")
    assert register_route_providers(registry, table) == 1
    assert listed(table) == [("up", "/up")]


def test_the_name_in_the_registry_counts() -> None:
    table = RouteTable()
    registry = Registry()
    registry.register(Provider("a", "/a"), name="alias")
    registry.start_all()
    register_route_providers(registry, table)
    assert listed(table) == [("alias", "/a")]


def test_a_second_time_replaces_and_keeps_those_that_stopped() -> None:
    table = RouteTable()
    changing, stopping = Provider("changing", "/1", "/2"), Provider("stopping", "/s")
    registry = running(changing, stopping)
    register_route_providers(registry, table)
    register_route_providers(registry, table)
    changing.paths = ("/2", "/3")
    registry.stop("stopping")
    assert register_route_providers(registry, table) == 2
    assert listed(table) == [("changing", "/2"), ("changing", "/3"), ("stopping", "/s")]


def test_a_conflict_names_both_plugins_and_changes_nothing() -> None:
    table = RouteTable()
    registry = running(Provider("shop", "/x", "/cart"), Provider("store", "/y", "/cart"))
    with pytest.raises(RouteConflictError) as caught:
        register_route_providers(registry, table)
    assert (caught.value.plugin, caught.value.other) == ("store", "shop")
    assert "'store' wants the route GET /cart, which plugin 'shop' has" in str(caught.value)
    assert listed(table) == []


def generator_that_fails() -> Iterable[Route]:
    yield Route("GET", "/a", hello)
    raise LookupError("no more")


async def asynchronous() -> list[Route]:
    return []


@pytest.mark.parametrize(
    ("routes", "why"),
    [
        (lambda: None, "returned None; it takes an iterable of Route, empty for none"),
        (lambda: "/a", "returned '/a'"),
        (lambda: {"/a": hello}, "returned {'/a'"),
        (lambda: Route("GET", "/a", hello), "returned Route("),
        (lambda: [("GET", "/a", hello)], "is tuple, not a Route"),
        (lambda: [Route("GET", "a", hello)], "does not begin with '/'"),
        (lambda: 1 / 0, "failed: ZeroDivisionError: division by zero"),
        (lambda argument: [], "failed: TypeError"),
        (generator_that_fails, "failed: LookupError: no more"),
        (asynchronous, "returned <coroutine"),
        ([Route("GET", "/a", hello)], "failed: TypeError: 'list' object is not callable"),
    ],
)
def test_routes_that_are_none(routes: Any, why: str) -> None:
    table = RouteTable()
    registry = running(Provider("good", "/good"), Odd("odd", routes))
    with pytest.raises(InvalidRouteError) as caught:
        register_route_providers(registry, table)
    assert caught.value.plugin == "odd"
    assert "routes() of plugin 'odd'" in str(caught.value)
    assert why in str(caught.value)
    assert listed(table) == []


# --- following --------------------------------------------------------------------------------


def test_following_routes_join_at_start_and_leave_when_unregistered() -> None:
    table, registry = RouteTable(), Registry()
    unfollow = follow_routes(registry, table)
    registry.register(Provider("a", "/a"))
    registry.register(Silent("silent"))
    assert listed(table) == []
    registry.start_all()
    assert listed(table) == [("a", "/a")]
    registry.stop_all()
    assert listed(table) == [("a", "/a")], "a stopped plugin keeps its routes, to answer 503"
    registry.unregister("a")
    assert listed(table) == []
    unfollow()
    registry.register(Provider("late", "/late"))
    registry.start_all()
    assert listed(table) == []


def test_following_routes_are_asked_for_again_at_every_start() -> None:
    table, registry = RouteTable(), Registry()
    follow_routes(registry, table)
    plugin = Provider("a", "/1")
    registry.register(plugin)
    registry.start("a")
    registry.stop("a")
    plugin.paths = ("/2",)
    registry.start("a")
    assert listed(table) == [("a", "/2")]


def test_following_forgets_the_routes_of_a_plugin_that_was_replaced() -> None:
    table, registry = RouteTable(), Registry()
    follow_routes(registry, table)
    table.add(Route("GET", "/by-host", hello), plugin="silent")
    registry.register(Provider("a", "/a"))
    registry.register(Silent("silent"))
    registry.start_all()
    registry.stop("a")
    registry.replace("a", Silent("a"))
    registry.start("a")
    assert listed(table) == [("silent", "/by-host")], "routes that the host gave stay"


def test_following_a_plugin_that_is_replaced_keeps_its_routes_until_another_has_started() -> None:
    table, registry = RouteTable(), Registry()
    follow_routes(registry, table)
    registry.register(Provider("a", "/old"))
    registry.start_all()
    registry.stop("a")
    registry.replace("a", Provider("a", "/new"))
    assert listed(table) == [("a", "/old")], "to answer 503, as while it is stopped"
    registry.start("a")
    assert listed(table) == [("a", "/new")]


def test_following_forgets_routes_of_before_when_a_plugin_without_takes_the_place() -> None:
    table, registry = RouteTable(), running(Provider("a", "/a"))
    follow_routes(registry, table)
    register_route_providers(registry, table)  # not by a start that was followed
    registry.stop("a")
    registry.replace("a", Silent("a"))
    registry.start("a")
    assert listed(table) == []
    table.add(Route("GET", "/by-host", hello), plugin="a")
    registry.stop("a")
    registry.start("a")
    assert listed(table) == [("a", "/by-host")], "routes that the host gave stay"


def test_following_a_conflict_fails_that_start() -> None:
    table, registry = RouteTable(), Registry()
    follow_routes(registry, table)
    registry.register(Provider("shop", "/cart"))
    registry.register(Provider("store", "/other", "/cart"))
    (error,) = registry.start_all()
    assert error.plugin == "store"
    assert "plugin 'store' wants the route GET /cart, which plugin 'shop' has already" in str(error)
    assert isinstance(error.__cause__, RouteConflictError)
    assert registry.state("store") is State.FAILED
    assert listed(table) == [("shop", "/cart")]


def test_following_a_replacement_in_conflict_does_not_keep_the_old_handlers() -> None:
    table, registry = RouteTable(), Registry()
    follow_routes(registry, table)
    registry.register(Provider("shop", "/cart"))
    registry.register(Provider("store", "/old"))
    registry.start_all()
    registry.stop("store")
    registry.replace("store", Provider("store", "/old", "/cart"))
    with pytest.raises(StartError, match="wants the route GET /cart"):
        registry.start("store")
    assert listed(table) == [("shop", "/cart")], "/old would lead to an instance that was stopped"
