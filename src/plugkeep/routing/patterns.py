"""Path patterns such as ``/users/{id:int}/files/{rest:path}``. Pure: text in, values out.

Parameters are spelt as in Starlette, and its five convertors mean here what they mean there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from plugkeep.errors import InvalidRouteError, did_you_mean
from plugkeep.routing._reach import Convertor, anywhere, at_matches, in_numbers, in_runs, texts


def _uuid(text: str) -> object:
    from uuid import UUID  # slow to import and seldom needed

    return UUID(text)


_UUID = "[0-9a-fA-F]{8}-?(?:[0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}"

#: The kinds of parameter, the narrowest first: where two could match, the narrower one does.
CONVERTORS: dict[str, Convertor] = {
    "uuid": Convertor(_UUID, _uuid, at_matches(_UUID)),
    "int": Convertor("[0-9]+", int, in_runs("[0-9]+")),
    "float": Convertor(r"[0-9]+(?:\.[0-9]+)?", float, in_numbers),
    "str": Convertor("[^/]+", str, in_runs("[^/]+")),
    "path": Convertor(".*", str, anywhere),
}

_PARAMETER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(?::([A-Za-z_][A-Za-z0-9_]*))?\}")
_HOLE = re.compile(r"\{:(\w+)\}")
_BREADTH = {kind: breadth for breadth, kind in enumerate(CONVERTORS)}
_END = (3,)  # after every segment: the pattern that goes on comes first


@dataclass(frozen=True)
class Pattern:
    """A path that has been understood."""

    #: The path without the names of its parameters, as in ``/users/{:int}``. Two patterns of
    #: the same shape match the same paths.
    shape: str
    #: The names of the parameters, from left to right.
    names: tuple[str, ...]
    kinds: tuple[str, ...]

    @property
    def first(self) -> str | None:
        """The first segment, where it is literal text; else None."""
        segment = self.shape[1:].partition("/")[0]
        return None if "{" in segment else segment

    @cached_property
    def rank(self) -> tuple[tuple[int, ...], ...]:
        """A key that sorts patterns by which is to be tried first.

        Segment by segment from the left: literal text, partly literal text (more of it first),
        then a single parameter, the narrower kind first.
        """
        return (*map(_rank, self.shape.split("/")[1:]), _END)

    def match(self, path: str) -> tuple[Any, ...] | None:
        """Return the values of the parameters, from left to right; None if `path` does not fit."""
        found = self._texts(path)
        if found is None:
            return None
        if self._are_texts:
            return tuple(found)
        try:
            return tuple(
                CONVERTORS[kind].convert(text) for kind, text in zip(self.kinds, found, strict=True)
            )
        except ValueError:  # more digits than int() takes
            return None

    @cached_property
    def _texts(self) -> Callable[[str], Sequence[str] | None]:
        """Finds the texts of the parameters in a path, in time proportional to its length."""
        # Made on first use: it takes longer than all the rest of registering a route.
        literals = _HOLE.split(self.shape)[0::2]
        convertors = [CONVERTORS[kind] for kind in self.kinds]
        if self._is_ambiguous:
            return partial(texts, literals, convertors)
        regexes = [f"({convertor.regex})" for convertor in convertors]
        parts = _alternate([re.escape(literal) for literal in literals], regexes)
        fullmatch = re.compile(parts, re.DOTALL).fullmatch
        return lambda path: (found := fullmatch(path)) and found.groups()

    @cached_property
    def _are_texts(self) -> bool:
        """Whether there is nothing to convert."""
        return all(CONVERTORS[kind].convert is str for kind in self.kinds)

    @property
    def _is_ambiguous(self) -> bool:
        """Whether parameters compete for the same text: a regex would try all ways to share it."""
        within = max(segment.count("{") for segment in self.shape.split("/"))
        return within > 1 or self.kinds.count("path") > 1


def parse_path(path: object) -> Pattern:
    """Understand `path`; InvalidRouteError where it cannot be the path of a route."""
    if not isinstance(path, str):
        raise InvalidRouteError(f"path {path!r} is {type(path).__name__}, not a string")
    parts = _PARAMETER.split(path)
    literals, names = parts[0::3], parts[1::3]
    kinds = [kind or "str" for kind in parts[2::3]]
    problem = _problem(path, literals, names, kinds)
    if problem:
        raise InvalidRouteError(f"path {path!r} {problem}")
    shape = _alternate(literals, [f"{{:{kind}}}" for kind in kinds])
    return Pattern(shape, tuple(names), tuple(kinds))


def _problem(path: str, literals: list[str], names: list[str], kinds: list[str]) -> str:
    if not path.startswith("/"):
        return f"does not begin with '/'; write {'/' + path!r}"
    for literal in literals:
        if "{" in literal or "}" in literal:
            return f"has a stray brace in {literal!r}; a parameter is {{name}} or {{name:int}}"
        if "?" in literal or "#" in literal:
            return f"has a query or fragment in {literal!r}; a handler finds those in its request"
    for kind in kinds:
        if kind not in CONVERTORS:
            hint = did_you_mean(kind, CONVERTORS) or f"; there are: {', '.join(CONVERTORS)}"
            return f"has a parameter of unknown kind {kind!r}{hint}"
    twice = sorted({name for name in names if names.count(name) > 1})
    return f"has the parameter {twice[0]!r} twice" if twice else ""


def _alternate(literals: list[str], holes: list[str]) -> str:
    return "".join(each for pair in zip(literals, [*holes, ""], strict=True) for each in pair)


def _rank(segment: str) -> tuple[int, ...]:
    kinds = _HOLE.findall(segment)
    breadths = tuple(_BREADTH[kind] for kind in kinds)
    literal = len(_HOLE.sub("", segment))
    if not kinds:
        return (0,)
    if literal or len(kinds) > 1:
        return (1, -literal, *breadths)
    return (2, *breadths)
