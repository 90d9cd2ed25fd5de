"""What paths of routes may look like, what they match, and which is tried first."""

from __future__ import annotations

from uuid import UUID

import pytest

from plugkeep.errors import InvalidRouteError
from plugkeep.routing.patterns import CONVERTORS, parse_path

A_UUID = "12345678-1234-5678-1234-567812345678"


@pytest.mark.parametrize(
    ("pattern", "path", "values"),
    [
        ("/", "/", ()),
        ("/a/b", "/a/b", ()),
        ("/a/{x}", "/a/b", ("b",)),
        ("/a/{x:str}", "/a/b", ("b",)),
        ("/a/{x:int}", "/a/42", (42,)),
        ("/a/{x:int}", "/a/007", (7,)),
        ("/a/{x:float}", "/a/1.5", (1.5,)),
        ("/a/{x:float}", "/a/2", (2.0,)),
        ("/a/{x:uuid}", f"/a/{A_UUID}", (UUID(A_UUID),)),
        ("/a/{x:uuid}", f"/a/{A_UUID.replace('-', '').upper()}", (UUID(A_UUID),)),
        ("/a/{x:path}", "/a/b/c/", ("b/c/",)),
        ("/a/{x:path}", "/a/", ("",)),
        ("/a/{x:path}", "/a/two\nlines", ("two\nlines",)),
        ("/{x}.{y}", "/read.me", ("read", "me")),
        ("/{x}/b/{y:path}/c", "/1/b/2/3/c", ("1", "2/3")),
        ("/grüße/{wen}", "/grüße/日本", ("日本",)),
        ("/a+b/{x}", "/a+b/c", ("c",)),
        ("/a{x:path}", "/a", ("",)),
        # Where several parameters share a text, the first takes all that the others can spare.
        ("/{x}-{y}", "/a-b-c", ("a-b", "c")),
        ("/{x}-{y}", "/---", ("-", "-")),
        ("/{x}{y}", "/abc", ("ab", "c")),
        ("/{x}{y:int}", "/a12", ("a1", 2)),
        ("/{x:int}-{y}", "/1-a-2", (1, "a-2")),
        ("/{x:float}{y}", "/1.5.", (1.5, ".")),
        ("/{x:float}{y:int}", "/1.25", (1.2, 5)),
        ("/{x:float}.{y:int}", "/1.25.3", (1.25, 3)),
        ("/{x:uuid}-{y:path}", f"/{A_UUID}-", (UUID(A_UUID), "")),
        ("/{x:path}/{y:path}", "/a/b/c", ("a/b", "c")),
        ("/{x:path}/{y}.{z}", "/a/b/c.d.e", ("a/b", "c.d", "e")),
    ],
)
def test_matches(pattern: str, path: str, values: tuple[object, ...]) -> None:
    assert parse_path(pattern).match(path) == values


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("/", ""),
        ("/", "//"),
        ("/a", "/a/"),
        ("/a", "/a\n"),
        ("/a/{x}", "/a/"),
        ("/a/{x}", "/a/b/c"),
        ("/a/{x:int}", "/a/-1"),
        ("/a/{x:int}", "/a/1.5"),
        ("/a/{x:int}", "/a/٣"),
        ("/a/{x:int}", "/a/" + "9" * 5000),  # more digits than int() takes
        ("/a/{x:float}", "/a/1."),
        ("/a/{x:float}", "/a/nan"),
        ("/a/{x:uuid}", "/a/1234"),
        ("/a.b", "/axb"),
        ("/a{x}", "/a"),
        ("/{x}-{y}", "/-a"),
        ("/{x}-{y}", "/a/b-"),
        ("/{x}-{y}", "/a-b\n/"),
        ("/{x}{y}", "/a"),
        ("/{x:float}{y:int}", "/1.5"),
        ("/{x:path}/{y:path}", "/a"),
    ],
)
def test_does_not_match(pattern: str, path: str) -> None:
    assert parse_path(pattern).match(path) is None


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("", "does not begin with '/'"),
        ("a/b", "write '/a/b'"),
        ("{x}", "does not begin with '/'"),
        ("/a/{x", "stray brace in '/a/{x'"),
        ("/a/x}", "stray brace"),
        ("/a/{}", "stray brace"),
        ("/a/{1x}", "stray brace"),
        ("/a/{x:}", "stray brace"),
        ("/a/{{x}}", "stray brace"),
        ("/a/{x y}", "stray brace"),
        ("/a/{x:integer}", "unknown kind 'integer'; did you mean 'int'?"),
        ("/a/{x:zzz}", "there are: uuid, int, float, str, path"),
        ("/{x}/{y}/{x:int}", "has the parameter 'x' twice"),
        ("/a?b=1", "query or fragment"),
        ("/a#b", "query or fragment"),
        (None, "path None is NoneType, not a string"),
        (b"/a", "is bytes, not a string"),
    ],
)
def test_refuses_what_cannot_be_a_path(path: object, why: str) -> None:
    with pytest.raises(InvalidRouteError) as caught:
        parse_path(path)
    assert why in str(caught.value)
    assert isinstance(caught.value, ValueError)


def test_names_do_not_make_a_shape_but_kinds_do() -> None:
    assert parse_path("/a/{x}").shape == parse_path("/a/{y}").shape
    assert parse_path("/a/{x}").shape == parse_path("/a/{x:str}").shape
    assert parse_path("/a/{x}").shape != parse_path("/a/{x:int}").shape
    assert parse_path("/a/{x}").shape != parse_path("/a/{x}/").shape


def test_rank_goes_from_the_specific_to_the_general() -> None:
    documented = [
        "/a/b",
        "/a/{x}.tar.gz",
        "/a/{x}.gz",
        "/a/{x}{y}",
        "/a/{x:uuid}",
        "/a/{x:int}",
        "/a/{x:float}",
        "/a/{x}/b",
        "/a/{x}",
        "/a/{x:path}/b",
        "/a/{x:path}",
        "/{x}/b",
        "/{x:path}",
    ]
    backwards = documented[::-1]
    assert sorted(backwards, key=lambda path: parse_path(path).rank) == documented


def test_a_long_path_is_matched_at_once() -> None:
    path = "/a/" + "b" * 1_000_000
    assert parse_path("/a/{x}").match(path) == ("b" * 1_000_000,)
    assert parse_path("/a/{x}/c").match(path) is None


HOSTILE = 60_000  # characters: about the longest path that servers let through


@pytest.mark.timeout(20)  # a regular expression takes hours for most of these
@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("/{y}-{m}-{d}-{slug}.html", "/" + "-" * HOSTILE),
        ("/{y}-{m}-{d}-{slug}.html", "/" + "-" * HOSTILE + "/.html"),
        ("/{y}-{m}-{d}-{slug}.html", "/a" + "-.html" * (HOSTILE // 6) + "/.html"),
        ("/{a}{b}{c}{d}.html", "/" + "a" * HOSTILE),
        ("/{a:int}{b:int}{c:int}x", "/" + "1" * HOSTILE),
        ("/{a:float}{b:float}{c:float}x", "/" + "1.1" * (HOSTILE // 3)),
        ("/{a:path}{b:uuid}{c:path}/x", "/" + "1" * HOSTILE),
        ("/{a:path}/{b:path}/{c:path}/x", "/" * HOSTILE),
        ("/{a:path}/{b}-{c}/x", "/" + "-" * HOSTILE),
        ("/{a:path}{b}/x", "/" + "-" * HOSTILE),
        ("/{a:path}/{b}/{c}/x", "/a" * (HOSTILE // 2)),
        ("/{a:path}x/{b:float}x/x", "/" + "1x/" * (HOSTILE // 3)),
    ],
)
def test_no_path_is_so_long_that_it_takes_long(pattern: str, path: str) -> None:
    assert parse_path(pattern).match(path) is None


@pytest.mark.timeout(20)
def test_long_paths_that_match_are_found_as_fast() -> None:
    hyphens = "-" * HOSTILE
    found = parse_path("/{y}-{m}-{d}-{slug}.html").match(f"/{hyphens}.html")
    assert found == (hyphens[6:], "-", "-", "-")
    assert parse_path("/{a:path}/{b:path}/x").match("/a" * HOSTILE + "/x") is not None


def test_kinds_are_those_of_starlette() -> None:
    from starlette.convertors import CONVERTOR_TYPES

    assert set(CONVERTORS) <= set(CONVERTOR_TYPES)
