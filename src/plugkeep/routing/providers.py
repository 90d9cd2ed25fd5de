"""From the registry into the table: the routes that plugins offer."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from typing import Any, Protocol, TypeVar

from plugkeep.errors import InvalidRouteError, RegistryError
from plugkeep.events import Event, Unregistered
from plugkeep.plugin import ProtocolOf, RouteProvider
from plugkeep.routing.route import Route
from plugkeep.routing.table import RouteTable, check_route

Capability = TypeVar("Capability")


class Plugins(Protocol):
    """What is needed of a registry here."""

    def __contains__(self, name: object, /) -> bool: ...
    def __iter__(self) -> Iterator[str]: ...
    def capability(self, name: str, protocol: ProtocolOf[Capability], /) -> Capability | None: ...
    def subscribe(self, listener: Callable[[Event], object], /) -> Callable[[], None]: ...
    def admit(self, check: Callable[[str, Any], object], /) -> Callable[[], None]: ...


def register_route_providers(registry: Plugins, table: RouteTable) -> int:
    """Put the routes of every running `RouteProvider` into `table`; return how many.

    In the order in which the plugins were registered; those without routes are passed over.
    All routes or, on an error, none. May be called again: what a plugin says now replaces what
    it said before, and plugins that do not run keep what they have, to answer 503.

    Raises RouteConflictError naming two plugins that want the same route, InvalidRouteError
    naming a plugin whose `routes()` raises or returns anything but routes.
    """
    routes = {name: _routes_of(registry, name) for name in registry}
    offered = {name: theirs for name, theirs in routes.items() if theirs is not None}
    table.replace(offered)
    return sum(map(len, offered.values()))


def follow_routes(registry: Plugins, table: RouteTable) -> Callable[[], None]:
    """Keep `table` up to date with `registry` until the function that is returned is called.

    A plugin's routes join when it starts and leave when it is unregistered; between a stop and a
    start they stay, to answer 503, even if another plugin takes its place in between. Where they
    conflict with another's, or are none, its start fails, and the plugin is stopped again.
    """
    follower = _Follower(registry, table)
    undo = (registry.admit(follower.check), registry.subscribe(follower.forget))

    def unfollow() -> None:
        for each in undo:
            each()

    return unfollow


class _Follower:
    """Brings into a table what plugins offer as they start."""

    def __init__(self, registry: Plugins, table: RouteTable) -> None:
        self._registry = registry
        self._table = table
        #: Plugins whose routes are to be replaced when they start, be it by none.
        self._offering: set[str] = set()

    def check(self, name: str, plugin: object) -> None:
        """Have the routes of a plugin join; RegistryError where they cannot."""
        try:
            routes = routes_of(name, plugin) if isinstance(plugin, RouteProvider) else None
            if routes is not None:
                self._offering.add(name)
            if name in self._offering:  # or was, before another plugin took its place
                self._table.replace({name: routes or ()})
            if routes is None:
                self._offering.discard(name)
        except RegistryError:
            if name in self._offering:  # what it had may be that of another instance
                self._table.remove(name)
            raise

    def forget(self, event: Event) -> None:
        """Have the routes of a plugin leave that is no more."""
        if not isinstance(event, Unregistered):
            return
        if event.plugin in self._registry:  # replaced: the next start offers others
            self._offering.add(event.plugin)
        else:
            self._offering.discard(event.plugin)
            self._table.remove(event.plugin)


def _routes_of(registry: Plugins, name: str) -> tuple[Route, ...] | None:
    """Return the routes a plugin offers; None if it does not run or is no provider."""
    provider = registry.capability(name, RouteProvider)
    return None if provider is None else routes_of(name, provider)


def routes_of(name: str, provider: RouteProvider) -> tuple[Route, ...]:
    try:
        offered: object = provider.routes()
        if isinstance(offered, Iterable) and not isinstance(offered, (str, bytes, Mapping)):
            return tuple(check_route(route) for route in offered)
    except Exception as cause:
        reason = f"{type(cause).__name__}: {cause}"
        raise InvalidRouteError(
            f"routes() of plugin {name!r} failed: {reason}", plugin=name
        ) from cause
    if isinstance(offered, Coroutine):
        offered.close()  # or Python warns that it was never awaited
    raise InvalidRouteError(
        f"routes() of plugin {name!r} returned {offered!r}; it takes an iterable of Route, "
        f"empty for none",
        plugin=name,
    )
