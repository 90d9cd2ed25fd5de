"""What the distributions on one entry of the search path declare, read without importing any.

A distribution is a folder named ``NAME-VERSION.dist-info`` or ``.egg-info``; its entry points are
the lines of the ``entry_points.txt`` in it. No METADATA is opened: parsing that of each
distribution takes ten times as long as all the rest.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from plugkeep.discovery._path_entry import ENTRY_POINTS, PKG_INFO, Archive, Folder, open_entry

#: A file system's clock ticks every few milliseconds, on some only every 2 s. So what changed
#: less than this long ago may change once more and look the same. (Git calls it racily clean.)
SETTLING_NS = 3_000_000_000

#: A folder with no distributions and no more names than this is read faster than looked up.
_FEW_NAMES = 100


class Line(NamedTuple):
    """One line of an ``entry_points.txt``, as it is written."""

    group: str
    name: str
    #: Empty where the line has no ``=``.
    value: str
    distribution: str
    #: Empty where it is not known.
    version: str
    #: Relative to the entry of the path.
    file: str


class Listing(NamedTuple):
    """What one entry of the path holds."""

    #: Normalised names, sorted. They hide the same names on later entries of the path, whether or
    #: not they have entry points.
    distributions: tuple[str, ...]
    #: By distribution, then as they are written.
    lines: tuple[Line, ...]
    #: What decides all this: files and folders, relative to the entry, and how each looked.
    stamps: Mapping[str, str]
    #: Whether it may be kept: every later change will show in the stamps, and it is worth it.
    keep: bool


NOTHING = Listing((), (), {}, keep=False)


class _Info(NamedTuple):
    key: str
    folder: str
    distribution: str
    version: str


def read_listing(path: str, now: int) -> Listing:
    """Read what one entry of the path holds; `now` is a time before, in nanoseconds.

    An entry that does not exist holds nothing; what cannot be read is logged and left out.
    """
    entry = open_entry(path)
    if entry is None:
        return NOTHING
    infos = _newest(entry, _infos(path, entry.names))
    lines = tuple(line for info in infos for line in _lines(entry, info))
    settled = entry.youngest < now - SETTLING_NS
    worth_it = bool(infos) or len(entry.names) > _FEW_NAMES or isinstance(entry, Archive)
    keys = tuple(info.key for info in infos)
    return Listing(keys, lines, entry.stamps, keep=settled and worth_it)


def _lines(entry: Folder | Archive, info: _Info) -> Iterator[Line]:
    text = entry.read(info.folder, ENTRY_POINTS)
    if text is None:
        return
    version = info.version or _version_in(entry.read(info.folder, PKG_INFO) or "")
    for group, name, value in parse(text):
        yield Line(group, name, value, info.distribution, version, f"{info.folder}/{ENTRY_POINTS}")


def parse(text: str) -> Iterator[tuple[str, str, str]]:
    """Yield (group, name, value) for each line; for a line without ``=`` the value is "".

    Whether a line is any good is judged by who asks for its group, so that one that nobody needs
    harms nobody.
    """
    group = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("[") and line.endswith("]"):
            group = line.strip("[]")
        elif group and line and line[0] not in "#;":
            name, _, value = line.partition("=")
            yield group, name.rstrip(), value.lstrip()


def normalise(name: str) -> str:
    """Return the form in which all spellings of a distribution's name are equal."""
    return re.sub(r"[-_.]+", "_", name).lower()


def _infos(path: str, names: Iterable[str]) -> Iterator[_Info]:
    egg = os.path.basename(path)
    in_egg = egg.lower().endswith(".egg")
    for name in names:
        low = name.lower()
        # pip renames what it is about to remove to begin with "~", and may leave that behind.
        if low.endswith((".dist-info", ".egg-info")) and not low.startswith("~"):
            yield _info(name, name.rpartition(".")[0])
        elif in_egg and low == "egg-info":
            yield _info(name, egg.rpartition(".")[0])


def _info(folder: str, stem: str) -> _Info:
    distribution, _, rest = stem.partition("-")
    # A dash in a wheel's version is an underscore; an egg's may be followed by "-py3.11-linux".
    version = rest.rpartition("-")[2] if folder.endswith(".dist-info") else rest.partition("-py")[0]
    return _Info(normalise(distribution), folder, distribution.replace("_", "-"), version)


def _newest(entry: Folder | Archive, infos: Iterable[_Info]) -> list[_Info]:
    """Return one of each distribution, by name; where an upgrade broke off, the last modified."""
    by_age = sorted(infos, key=lambda info: (entry.changed(info.folder), info.folder))
    newest = {info.key: info for info in by_age}
    return [newest[key] for key in sorted(newest)]


def _version_in(metadata: str) -> str:
    found = re.search(r"^Version:[ \t]*(\S+)", metadata.partition("\n\n")[0], re.MULTILINE)
    return found[1] if found else ""
