"""The table of all routes, which knows whose they are and finds the one for a request."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

from plugkeep.errors import InvalidRouteError, RouteConflictError
from plugkeep.routing.mount import Mount
from plugkeep.routing.patterns import Pattern
from plugkeep.routing.route import Route


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class RouteEntry:
    """A route in a table, and the plugin whose it is; None: the host's own."""

    plugin: str | None
    route: Route


class RouteMatch(NamedTuple):
    """What a table has for a request: an entry, and the converted parameters of the path."""

    entry: RouteEntry
    params: dict[str, Any]


#: What two routes must not have in common: a method and the shape of a path.
_Claim = tuple[str, str]


class RouteTable:
    """The routes of all plugins, and whose they are. Safe from any thread.

    Two plugins cannot have the same method for paths of the same shape (``/a/{x}`` and ``/a/{y}``
    are of one shape, ``/a/{x:int}`` is of another): the second is refused, and nothing of it is
    added. Where several shapes match a path, they are compared segment by segment from the left:
    literal text is tried first, then partly literal text (more of it first), then parameters, in
    the order uuid, int, float, str, path; and what is still equal in the order of registration.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[str | None, tuple[RouteEntry, ...]] = {}
        self._claims: dict[_Claim, RouteEntry] = {}
        self._index: _Index | None = None
        self._mounts: dict[str, Mount] = {}
        #: Whether there are any applications.
        self.has_mounts = False

    def __len__(self) -> int:
        return len(self._claims)

    def add(self, *routes: Route, plugin: str | None = None) -> None:
        """Add routes of `plugin` to those that it has: all of them or, on an error, none.

        Raises RouteConflictError where another plugin, or this one, has such a route already.
        """
        with self._lock:
            self._replace({plugin: (*self._entries.get(plugin, ()), *_entries(plugin, routes))})

    def replace(self, routes: Mapping[str, Iterable[Route]]) -> None:
        """Replace all routes of each plugin given: those of every plugin or, on an error, of none.

        Raises RouteConflictError where two routes would then be the same.
        """
        entries = {plugin: _entries(plugin, theirs) for plugin, theirs in routes.items()}
        with self._lock:
            self._replace(entries)

    def remove(self, plugin: str | None) -> None:
        """Remove all routes of `plugin`; one that has none is fine, too."""
        with self._lock:
            self._replace({plugin: ()})

    def mount(self, mount: Mount) -> None:
        """Add an application, in the place of any that its plugin has: for what no route answers.

        Raises RouteConflictError where another plugin has one under the same path.
        """
        with self._lock:
            rival = self._mounts.get(mount.path)
            if rival is not None and rival.plugin != mount.plugin:
                _refuse_mount(mount, rival)
            self._put({**self._mounts_without(mount.plugin), mount.path: mount})

    def unmount(self, plugin: str | None) -> None:
        """Remove the application of `plugin`; one that has none is fine, too."""
        with self._lock:
            self._put(self._mounts_without(plugin))

    def _put(self, mounts: dict[str, Mount]) -> None:
        self._mounts, self.has_mounts = mounts, bool(mounts)

    def mounts(self) -> list[Mount]:
        """Return all applications, in the order in which they came."""
        return list(self._mounts.values())

    def mounted(self, path: str) -> Mount | None:
        """Return the application for `path`: that with the longest prefix; None: there is none."""
        mounts = self._mounts
        if not mounts:
            return None
        prefix = path.rstrip("/")
        while prefix not in mounts and prefix:
            prefix = prefix.rpartition("/")[0]
        return mounts.get(prefix)

    def _mounts_without(self, plugin: str | None) -> dict[str, Mount]:
        return {path: mount for path, mount in self._mounts.items() if mount.plugin != plugin}

    def routes(self) -> list[RouteEntry]:
        """Return all entries: plugin by plugin, in the order in which they came."""
        with self._lock:
            return [entry for entries in self._entries.values() for entry in entries]

    def match(self, method: str, path: str) -> RouteMatch | None:
        """Return the route for a request, or None. `path` is percent-decoded, as in ASGI.

        A HEAD request is for a GET route where there is none of its own.
        """
        index = self._index or self._current()
        if (methods := index.literal.get(path)) is not None and (entry := _for(method, methods)):
            return RouteMatch(entry, {})  # as most are: this takes half the time
        if not index.patterns:
            return None
        for methods, values in index.matches(path):
            if entry := _for(method, methods):
                params = dict(zip(entry.route.pattern.names, values, strict=True))
                return RouteMatch(entry, params)
        return None

    def allowed(self, path: str) -> tuple[str, ...]:
        """Return the methods that have a route at `path`, sorted; none: there is no such path."""
        methods = {method for found, _ in self._current().matches(path) for method in found}
        if "GET" in methods:
            methods.add("HEAD")
        return tuple(sorted(methods))

    def _replace(self, wanted: Mapping[Any, tuple[RouteEntry, ...]]) -> None:
        claims: dict[_Claim, RouteEntry] = {}

        def holder(claim: _Claim) -> RouteEntry | None:
            held = self._claims.get(claim)
            return claims.get(claim) or (held if held and held.plugin not in wanted else None)

        for entry in (entry for theirs in wanted.values() for entry in theirs):
            _refuse_rivals(entry, holder)
            claims[_claim(entry.route)] = entry
        # Nothing can fail from here on.
        for plugin, theirs in wanted.items():
            for old in self._entries.get(plugin, ()):
                del self._claims[_claim(old.route)]
            self._entries[plugin] = theirs
            if not theirs:
                del self._entries[plugin]
        self._claims.update(claims)
        self._index = None

    def _current(self) -> _Index:
        # Built when first needed: a thousand plugins that register one after another cost one.
        index = self._index
        if index is None:
            with self._lock:
                index = self._index = _Index(self._entries.values())
        return index


def _entries(plugin: str | None, routes: Iterable[Route]) -> tuple[RouteEntry, ...]:
    return tuple(RouteEntry(plugin, check_route(route)) for route in routes)


def check_route(route: object) -> Route:
    """Return `route` if it is one, else raise InvalidRouteError."""
    if isinstance(route, Route):
        return route
    raise InvalidRouteError(f"{route!r} is {type(route).__name__}, not a Route")


def _claim(route: Route) -> _Claim:
    return route.method, route.pattern.shape


#: GET answers HEAD as well. A plugin may refine its own in this way, but not another's.
_TWINS = {"GET": "HEAD", "HEAD": "GET"}


def _refuse_rivals(entry: RouteEntry, holder: Callable[[_Claim], RouteEntry | None]) -> None:
    """Raise RouteConflictError where the route of `entry` is taken."""
    method, shape = _claim(entry.route)
    rival = holder((method, shape))
    if rival is None and method in _TWINS:
        twin = holder((_TWINS[method], shape))
        rival = twin if twin and twin.plugin != entry.plugin else None
    if rival is None:
        return
    wanted, had = str(entry.route), str(rival.route)
    raise RouteConflictError(
        f"{_owner(entry)} wants the route {wanted}, which {_owner(rival)} has already"
        + (f" as {had}" if had != wanted else ""),
        plugin=entry.plugin,
        other=rival.plugin,
        method=method,
        path=entry.route.path,
    )


def _refuse_mount(mount: Mount, rival: Mount) -> NoReturn:
    path = mount.path or "/"
    raise RouteConflictError(
        f"{_owner(mount)} wants its application under {path}, where that of {_owner(rival)} is "
        "already; give it another 'mount'",
        plugin=mount.plugin,
        other=rival.plugin,
        method="*",
        path=path,
    )


def _owner(entry: RouteEntry | Mount) -> str:
    return "the host" if entry.plugin is None else f"plugin {entry.plugin!r}"


#: The entries of one shape by method, and the values that a path has for its parameters.
_Found = tuple[dict[str, RouteEntry], tuple[Any, ...]]


def _for(method: str, methods: Mapping[str, RouteEntry]) -> RouteEntry | None:
    return methods.get(method) or (methods.get("GET") if method == "HEAD" else None)


class _Index:
    """The entries of a table, arranged for finding them."""

    def __init__(self, entries: Iterable[tuple[RouteEntry, ...]]) -> None:
        shapes: dict[str, tuple[Pattern, dict[str, RouteEntry]]] = {}
        for entry in (entry for theirs in entries for entry in theirs):
            pattern = entry.route.pattern
            shapes.setdefault(pattern.shape, (pattern, {}))[1][entry.route.method] = entry
        #: Paths without parameters: they come before all patterns that match them, too.
        self.literal = {
            shape: methods for shape, (pattern, methods) in shapes.items() if not pattern.names
        }
        #: Patterns by first segment; None: that is a parameter, and so comes last.
        self.patterns: dict[str | None, list[tuple[Pattern, dict[str, RouteEntry]]]] = {}
        for pattern, methods in sorted(shapes.values(), key=lambda shape: shape[0].rank):
            if pattern.names:
                self.patterns.setdefault(pattern.first, []).append((pattern, methods))

    def matches(self, path: str) -> Iterator[_Found]:
        """Yield what matches `path`, the most specific first."""
        if path in self.literal:
            yield self.literal[path], ()
        first = path[1:].partition("/")[0]
        for group in (first, None):
            for pattern, methods in self.patterns.get(group, ()):
                values = pattern.match(path)
                if values is not None:
                    yield methods, values
