"""Matching, in linear time, of patterns in which several parameters compete for the same text.

In ``/{a}-{b}.html`` each hyphen may be the one between the two. A regular expression tries them
one after the other, and with a few such parameters a single path, made for it, keeps it busy for
minutes. Here the pattern is gone through twice instead: from the right, to know where each
parameter may end; then from the left, where each takes the longest text that ends there. What
comes out is what the regular expression would have found.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

#: A byte for each place in a path, its end included: 1 where the rest of a pattern fits.
Places = bytearray

#: Given a path and where a parameter may end, says where it may begin.
Begins = Callable[[str, Places], Places]


class Convertor(NamedTuple):
    """What a parameter matches, and what becomes of the text that it matched."""

    regex: str
    convert: Callable[[str], Any]
    #: The same as `regex`, seen from the other end.
    begins: Begins


def texts(literals: Sequence[str], kinds: Sequence[Convertor], path: str) -> list[str] | None:
    """Return the texts of the parameters that stand between `literals`; None if nothing fits."""
    if not path.startswith(literals[0]):
        return None
    places = Places(len(path)) + b"\1"
    ends: list[Places] = []
    for literal, kind in zip(literals[:0:-1], reversed(kinds), strict=True):
        places = _before(literal, path, places)
        if 1 not in places:
            return None
        ends.append(places)
        places = kind.begins(path, places)
    at = len(literals[0])
    if not places[at]:
        return None
    found = []
    for kind, literal in zip(kinds, literals[1:], strict=True):
        end = _longest(kind.regex, path, at, ends.pop())
        found.append(path[at:end])
        at = end + len(literal)
    return found


def _longest(regex: str, path: str, at: int, ends: Places) -> int:
    """Return the last of `ends` that `regex` can reach from `at`; there has to be one."""
    match = re.compile(regex, re.DOTALL).match
    end = len(path)
    while found := match(path, at, end):
        end = ends.rfind(1, at, found.end() + 1)
        if end == found.end():
            break
    return end


def _before(literal: str, path: str, places: Places) -> Places:
    """Return where `literal` begins that ends in one of `places`."""
    if not literal:
        return places
    begins = Places(len(places))
    at = path.find(literal)
    while at >= 0:
        begins[at] = places[at + len(literal)]
        at = path.find(literal, at + 1)
    return begins


def in_runs(regex: str) -> Begins:
    """For a kind of which any part of a run that `regex` finds will do, but not an empty one."""
    runs = re.compile(regex).finditer

    def begins(path: str, ends: Places) -> Places:
        found = Places(len(ends))
        for run in runs(path):
            start = run.start()
            last = ends.rfind(1, start + 1, run.end() + 1)
            if last > start:
                found[start:last] = b"\1" * (last - start)
        return found

    return begins


def at_matches(regex: str) -> Begins:
    """For a kind that has one length, known where it begins."""
    matches = re.compile(f"(?=({regex}))").finditer

    def begins(path: str, ends: Places) -> Places:
        found = Places(len(ends))
        for match in matches(path):
            found[match.start()] = ends[match.end(1)]
        return found

    return begins


def anywhere(_path: str, ends: Places) -> Places:
    """For a kind that takes any text, even none."""
    return Places(b"\1" * (ends.rfind(1) + 1)).ljust(len(ends), b"\0")


_digits = in_runs("[0-9]+")


def in_numbers(path: str, ends: Places) -> Places:
    """For digits, perhaps with a fraction."""
    whole = _digits(path, ends)
    with_fraction = _digits(path, _before(".", path, whole))
    return Places(map(max, whole, with_fraction))
