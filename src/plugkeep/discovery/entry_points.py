"""Plugins that installed distributions declare as entry points, found without importing any."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from time import time_ns

from plugkeep.discovery._cache import cache_folder, load, store
from plugkeep.discovery._listing import Line, Listing, normalise, read_listing
from plugkeep.discovery._path_entry import warn
from plugkeep.errors import InvalidNameError
from plugkeep.spec import PluginSpec

#: The group in which distributions declare plugins unless a host names one of its own.
GROUP = "plugkeep.plugins"

_DOTTED = r"[^\W\d]\w*(?:\.[^\W\d]\w*)*"
_object_reference = re.compile(
    rf"(?P<module>{_DOTTED})\s*(?::\s*(?P<attr>{_DOTTED})\s*)?(?:\[.*\]\s*)?"
).fullmatch


def discover_entry_points(
    group: str = GROUP, *, path: Sequence[str | os.PathLike[str]] | None = None, cache: bool = True
) -> list[PluginSpec]:
    """Return a spec for each plugin that an installed distribution declares in `group`.

    Nothing of a plugin is imported. The order is that of `path` (by default `sys.path`), then by
    the distribution's name, then as its file has it. As in an import, a distribution hides others
    of its name further down the path, and of two plugins of one name the first is taken.

    What is left out is logged as a warning that names the distribution: a name that no plugin
    can have, a value that is not ``module`` or ``module:attribute``, a name that is taken.

    What was found is kept in the user's cache folder unless `cache` is false, and used again
    while the folders and files that decide it have not changed. Installing, upgrading and
    removing a distribution is seen by the next call, in any process. The folder is
    ``$XDG_CACHE_HOME/plugkeep``, by default ``~/.cache/plugkeep``, or what ``PLUGKEEP_CACHE_DIR``
    says; empty, that means no cache.
    """
    if isinstance(path, str):
        raise TypeError(f"path is {path!r}, not a sequence of them; write ({path!r},)")
    found: dict[str, PluginSpec] = {}
    for line, file in _visible(group, path, cache_folder() if cache else None):
        spec = _spec(line, file)
        if spec is None:
            continue
        first = found.setdefault(spec.name, spec)
        if first is not spec:
            warn(
                "plugin %r in group %r of %s is skipped: %s has one of that name",
                *(spec.name, group, spec.origin, first.origin),
            )
    return list(found.values())


def _visible(
    group: str, path: Sequence[str | os.PathLike[str]] | None, folder: str | None
) -> Iterator[tuple[Line, str]]:
    """Yield the lines of `group`, each with its file, of distributions that none before hides."""
    hidden: set[str] = set()
    for entry in _entries(sys.path if path is None else path):
        listing = _listing(entry, group, folder)
        for line in listing.lines:
            if line.group == group and normalise(line.distribution) not in hidden:
                yield line, f"{entry}/{line.file}"
        hidden.update(listing.distributions)


def _entries(path: Iterable[object]) -> dict[str, None]:
    """Return the entries that can be, absolute, each once."""
    try:
        here = os.getcwd()
    except FileNotFoundError:  # it has been removed
        here = ""
    texts = (os.fspath(entry) for entry in path if isinstance(entry, (str, os.PathLike)))
    entries = (os.path.join(here, text) for text in texts if isinstance(text, str))
    return dict.fromkeys(entry.rstrip("/") or "/" for entry in entries if entry.startswith("/"))


def _listing(entry: str, group: str, folder: str | None) -> Listing:
    listing = load(folder, entry, group) if folder else None
    if listing is None:
        listing = read_listing(entry, time_ns())
        if folder and listing.keep:
            store(folder, entry, listing)
    return listing


def _spec(line: Line, file: str) -> PluginSpec | None:
    origin = f"{line.distribution} {line.version}".rstrip()
    reference = _object_reference(line.value)
    if reference is None:
        warn(
            "%s: %r of %s is skipped: it is not written name = module or name = module:attribute",
            *(file, f"{line.name} = {line.value}" if line.value else line.name, origin),
        )
        return None
    module, attr = reference["module"], reference["attr"]
    try:
        return PluginSpec(
            name=line.name,
            source=f"python:{module}:{attr}" if attr else f"python:{module}",
            version=line.version or None,
            origin=origin,
        )
    except InvalidNameError as error:
        warn("%s: %r of %s is skipped: %s", file, line.name, origin, error)
        return None
