"""The route table against a naive one: a list, searched from end to end by Starlette's regexes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st
from starlette.routing import compile_path

from plugkeep.errors import RouteConflictError
from plugkeep.routing import Route, RouteTable

KINDS = ["uuid", "int", "float", "str", "path"]
A_UUID = "12345678123456781234567812345678"


def handler(request: object) -> None: ...


parameters = st.sampled_from(["{}", *(f"{{:{kind}}}" for kind in KINDS)])
segments = st.one_of(
    st.sampled_from(["a", "1", ""]),
    parameters,
    st.builds("{}{}".format, st.sampled_from(["a", "a-"]), parameters),
    st.builds("{}{}".format, parameters, st.sampled_from(["b", ".b"])),
    st.builds("{}{}{}".format, parameters, st.sampled_from(["", "."]), parameters),
)


@st.composite
def patterns(draw: st.DrawFn) -> str:
    path = "/" + "/".join(draw(st.lists(segments, max_size=3)))
    return named(path, iter(draw(st.permutations("uvwxyz"))))


def named(path: str, names: Iterator[str]) -> str:
    """Give the parameters of a path names."""
    return re.sub(r"\{", lambda _: "{" + next(names), path)


methods = st.sampled_from(["GET", "HEAD", "POST"])
routes = st.builds(Route, methods, patterns(), st.just(handler))
plugins = st.sampled_from(["p", "q", "r"])
changes = st.tuples(st.sampled_from(["add", "replace"]), plugins, st.lists(routes, max_size=3))
#: What may stand where a parameter of each kind is; much of it fits other kinds as well.
FILLINGS = {
    "uuid": [A_UUID],
    "int": ["1", "10000000100010001000100000000000"],
    "float": ["1", "2.5"],
    "str": ["a", "1", "b.b", "a-b", "ab.a", "日本", A_UUID],
    "path": ["", "a", "1", "a/b", "a.b/1", "/"],
}


@st.composite
def requests(draw: st.DrawFn, routes: list[Route]) -> tuple[str, str]:
    """A method, and a path that is likely to be that of one of the routes, or of several."""
    pattern = draw(st.sampled_from([route.path for route in routes] or ["/"]))
    path = re.sub(
        r"\{\w+:?(\w*)\}",
        lambda found: draw(st.sampled_from(FILLINGS[found[1] or "str"])),
        pattern,
    )
    return draw(methods), path + draw(st.sampled_from(["", "", "", "/", "a"]))


@dataclass
class Naive:
    """Whose routes there are, and nothing else."""

    owned: dict[str, list[Route]] = field(default_factory=dict)

    def change(self, what: str, plugin: str, routes: list[Route]) -> bool:
        """Make a change; False, and no change, if two routes would then be the same."""
        had = self.owned.get(plugin, []) if what == "add" else []
        wanted = {**self.owned, plugin: [*had, *routes]}
        listed = [(owner, route) for owner, theirs in wanted.items() for route in theirs]
        for index, one in enumerate(listed):
            if any(rivals(one, other) for other in listed[:index]):
                return False
        self.owned = {owner: theirs for owner, theirs in wanted.items() if theirs}
        return True

    def routes(self) -> list[tuple[str, Route]]:
        return [(owner, route) for owner, theirs in self.owned.items() for route in theirs]

    def match(self, method: str, path: str) -> tuple[str, Route, dict[str, object]] | None:
        wanted = {method, "GET"} if method == "HEAD" else {method}
        fitting = [
            (owner, route, values)
            for owner, route in self.routes()
            if route.method in wanted and (values := values_of(route, path)) is not None
        ]
        first = {shape(route): at for at, (_, route) in reversed([*enumerate(self.routes())])}
        return min(
            fitting,
            key=lambda found: (
                specificity(found[1].path),
                first[shape(found[1])],
                found[1].method != method,
            ),
            default=None,
        )


def shape(route: Route) -> str:
    return re.sub(r"\{\w+\}", "{:str}", re.sub(r"\{\w+:", "{:", route.path))


def rivals(one: tuple[str, Route], other: tuple[str, Route]) -> bool:
    (owner, route), (other_owner, other_route) = one, other
    if shape(route) != shape(other_route):
        return False
    twins = {route.method, other_route.method} == {"GET", "HEAD"}
    return route.method == other_route.method or (twins and owner != other_owner)


def values_of(route: Route, path: str) -> dict[str, object] | None:
    regex, _, convertors = compile_path(route.path)
    found = regex.match(path)
    return found and {
        name: convertors[name].convert(text) for name, text in found.groupdict().items()
    }


def specificity(path: str) -> str:
    """Return text that sorts as the table's documentation says, segment by segment."""
    return "".join(map(_specificity, path.split("/")[1:])) + "z"


def _specificity(segment: str) -> str:
    kinds = [KINDS.index(kind or "str") for kind in re.findall(r"\{\w+:?(\w*)\}", segment)]
    text = re.sub(r"\{.*?\}", "", segment)
    if not kinds:
        return "a"
    if not text and len(kinds) == 1:
        return f"c{kinds[0]}"
    return f"b{9 - len(text)}{''.join(map(str, kinds))} "


@given(st.lists(changes, max_size=8), st.data())
def test_finds_what_a_naive_table_finds(
    changes: list[tuple[str, str, list[Route]]], data: st.DataObject
) -> None:
    table, naive = RouteTable(), Naive()
    every = [route for _, _, routes in changes for route in routes]
    for what, plugin, routes in changes:
        refused = False
        try:
            table.add(*routes, plugin=plugin) if what == "add" else table.replace({plugin: routes})
        except RouteConflictError:
            refused = True
        assert refused is not naive.change(what, plugin, routes)
        assert [(entry.plugin, entry.route) for entry in table.routes()] == naive.routes()
        assert len(table) == len(naive.routes())
        for method, path in data.draw(st.lists(requests(every), min_size=4, max_size=8)):
            match = table.match(method, path)
            found = match and (match.entry.plugin, match.entry.route, match.params)
            assert found == naive.match(method, path)


#: Parameters that compete for the same text, and paths in which there is much to compete for.
contested = st.lists(
    st.builds("{}{}".format, parameters, st.sampled_from(["", "", "-", ".", "/", "1", "1a"])),
    min_size=2,
    max_size=5,
).map(lambda parts: named("/" + "".join(parts), iter("uvwxyz")))
pieces = st.sampled_from(["a", "-", ".", "/", "1", "1", "2.5", "1a", A_UUID])


@given(contested, st.lists(pieces, max_size=10), st.data())
def test_parameters_share_a_text_as_in_starlette(
    pattern: str, pieces: list[str], data: st.DataObject
) -> None:
    route, table = Route("GET", pattern, handler), RouteTable()
    table.add(route)
    _, likely = data.draw(requests([route]))
    for path in (likely, "/" + "".join(pieces)):
        found = table.match("GET", path)
        assert (found and found.params) == values_of(route, path)


words = ["a.b", "{}", "{:path}", "a{}", "a.{}", "{}.b", "{}{}", "{}.{}", "a{:path}"]
numbers = ["1", "{:int}", "{:float}", "{}", "{:path}", "1{:path}", "{}{}"]
overlapping = st.one_of(
    st.tuples(st.sampled_from(words)),
    st.tuples(st.sampled_from(words), st.sampled_from(numbers)),
    st.tuples(st.sampled_from(words), st.sampled_from(words), st.sampled_from(numbers)),
).map(lambda segments: named("/" + "/".join(segments), iter("uvwxyz")))


@given(st.lists(overlapping, min_size=2, unique=True))
def test_finds_the_most_specific_where_many_match(patterns: list[str]) -> None:
    table, naive = RouteTable(), Naive()
    for pattern in patterns:
        route = Route("GET", pattern, handler)
        table.add(route, plugin="p")
        naive.change("add", "p", [route])
    for path in ("/a.b", "/a.b/1", "/a.b/a.b/1", "/a.b/a.b/12"):
        match = table.match("GET", path)
        found = match and (match.entry.plugin, match.entry.route, match.params)
        assert found == naive.match("GET", path)


@given(st.lists(routes, max_size=6), st.data())
def test_allows_the_methods_that_match(routes: list[Route], data: st.DataObject) -> None:
    table = RouteTable()
    for route in routes:
        try:
            table.add(route, plugin="p")
        except RouteConflictError:
            continue
    _, path = data.draw(requests(routes))
    every = ["DELETE", "GET", "HEAD", "POST"]
    assert table.allowed(path) == tuple(method for method in every if table.match(method, path))


@st.composite
def near_misses(draw: st.DrawFn) -> tuple[Route, Route]:
    """Two routes that differ in the names of parameters, and often in nothing else."""
    one = draw(routes)
    renamed = re.sub(r"\{(\w+)", lambda found: "{other_" + found[1], one.path)
    return one, draw(st.builds(Route, methods, st.just(renamed) | patterns(), st.just(handler)))


@given(near_misses())
def test_conflict_is_symmetric_and_names_the_first(pair: tuple[Route, Route]) -> None:
    one, other = pair
    error, reverse = _conflict(one, other), _conflict(other, one)
    assert (error is None) == (reverse is None) == (not rivals(("first", one), ("second", other)))
    if error:
        assert (error.plugin, error.other) == ("second", "first")


def _conflict(one: Route, other: Route) -> RouteConflictError | None:
    table = RouteTable()
    table.add(one, plugin="first")
    try:
        table.add(other, plugin="second")
    except RouteConflictError as error:
        return error
    return None
