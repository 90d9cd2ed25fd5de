"""What the distributions on one entry of the search path declare, read without importing any.

A distribution is a folder named ``NAME-VERSION.dist-info`` or ``.egg-info``; its entry points are
the lines of the ``entry_points.txt`` in it. No METADATA is opened: parsing that of each
distribution takes ten times as long as all the rest.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from plugkeep.discovery._path_entry import ENTRY_POINTS, PKG_INFO, Archive, Folder, open_entry
from plugkeep.errors import InvalidNameError
from plugkeep.names import check_name

#: Stands around each of several texts in one. No text that `str.splitlines` gives has it.
BETWEEN = "\x1e"

#: A folder with no distributions and no more names than this is read faster than looked up.
_FEW_NAMES = 30

_DOTTED = r"[^\W\d]\w*(?:\.[^\W\d]\w*)*"
_object_reference = re.compile(rf"({_DOTTED})\s*(?::\s*({_DOTTED})\s*)?(?:\[.*\]\s*)?").fullmatch


#: A plugin: its distribution's normalised name, its own name, its source, the version, which may be
#: empty, and the origin. Plain tuples are made in a tenth of the time of any other.
Declared = tuple[str, str, str, str, str]

#: The normalised name of a distribution, and what is wrong with one of its lines.
Complaint = tuple[str, str]


class Listing(NamedTuple):
    """What one entry of the path holds for one group."""

    #: The normalised names of all distributions. They hide the same names on later entries of
    #: the path, whether or not they declare anything.
    distributions: str
    #: By distribution, then as they are written.
    declared: Sequence[Declared]
    complaints: Sequence[Complaint]
    #: What decides all this: files and folders, relative to the entry, and how each looked.
    stamps: Mapping[str, str]
    #: Whether it may be kept: every later change will show in the stamps, and it is worth it.
    keep: bool = True


NOTHING = Listing("", (), (), {}, keep=False)


class _Info(NamedTuple):
    key: str
    folder: str
    distribution: str
    version: str

    @property
    def origin(self) -> str:
        return f"{self.distribution} {self.version}".rstrip()


def read_listing(path: str, group: str, now: int) -> Listing:
    """Read what one entry of the path holds; `now` is a time before, in nanoseconds.

    An entry that does not exist holds nothing; what cannot be read is logged and left out.
    """
    entry = open_entry(path)
    if entry is None:
        return NOTHING
    declared: list[Declared] = []
    complaints: list[Complaint] = []
    infos = _newest(entry, _infos(path, entry.names))
    for info, name, value in (line for each in infos for line in _lines_of(each, entry, group)):
        if complaint := _complaint(name, value):
            place = f"{path}/{info.folder}/{ENTRY_POINTS}"
            complaints.append((info.key, f"{place} of {info.origin}: {complaint}"))
        else:
            declared.append((info.key, name, _source(value), info.version, info.origin))
    distributions = "".join(f"{BETWEEN}{info.key}{BETWEEN}" for info in infos)
    worth_it = bool(infos) or len(entry.names) > _FEW_NAMES or isinstance(entry, Archive)
    keep = worth_it and entry.settled(now)
    return Listing(distributions, tuple(declared), tuple(complaints), entry.stamps, keep)


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
    version = rest.rpartition("-")[2] if _is_installed(folder) else rest.partition("-py")[0]
    key = re.sub(r"[-_.]+", "_", distribution).lower()
    return _Info(key, folder, distribution.replace("_", "-"), version)


def _is_installed(folder: str) -> bool:
    """Say whether an installer made `folder`, and not a tool that builds in place."""
    return folder.endswith(".dist-info")


def _newest(entry: Folder | Archive, infos: Iterable[_Info]) -> list[_Info]:
    """Return one of each distribution, by name; where an upgrade broke off, the last modified."""
    by_age = sorted(infos, key=lambda info: (entry.changed(info.folder), info.folder))
    newest = {info.key: info for info in by_age}
    return [newest[key] for key in sorted(newest)]


def _lines_of(info: _Info, entry: Folder | Archive, group: str) -> Iterator[tuple[_Info, str, str]]:
    """Yield name and value for each line in the group, and the distribution, its version known."""
    file = f"{info.folder}/{ENTRY_POINTS}"
    text = entry.read(file)
    if text is None:
        # What an installer brings is there before these two. Without them, more may come.
        if not entry.has(f"{info.folder}/RECORD", f"{info.folder}/INSTALLER"):
            entry.watch(info.folder)
        return
    lines = [(name, value) for where, name, value in _lines(text) if where == group]
    if lines or not _is_installed(info.folder):  # what builds in place writes it again
        entry.watch(file)
    if lines and not info.version:
        info = info._replace(version=_version_in(entry, f"{info.folder}/{PKG_INFO}"))
    for name, value in lines:
        yield info, name, value


def _lines(text: str) -> Iterator[tuple[str, str, str]]:
    """Yield (group, name, value) for each line; for a line without ``=`` the value is ""."""
    group = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("[") and line.endswith("]"):
            group = line.strip("[]")
        elif group and line and line[0] not in "#;":
            name, _, value = line.partition("=")
            yield group, name.rstrip(), value.lstrip()


def _version_in(entry: Folder | Archive, file: str) -> str:
    header, _, _ = (entry.read(file) or "").partition("\n\n")
    entry.watch(file)
    found = re.search(r"^Version:[ \t]*(\S+)", header, re.MULTILINE)
    return found[1] if found else ""


def _complaint(name: str, value: str) -> str:
    """Return what keeps the line from naming a plugin, "" if nothing."""
    line = f"{name} = {value}" if value else name
    if not _object_reference(value):
        return f"{line!r} is skipped: it is not name = module or name = module:attribute"
    try:
        check_name(name)
    except InvalidNameError as error:
        return f"{line!r} is skipped: {error}"
    return ""


def _source(value: str) -> str:
    reference = _object_reference(value)
    parts = reference.groups() if reference else ()
    return ":".join(("python", *filter(None, parts)))
