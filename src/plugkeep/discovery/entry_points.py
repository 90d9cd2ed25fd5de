"""Plugins that installed distributions declare as entry points, found without importing any."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import MISSING, fields
from time import time_ns

from plugkeep.discovery._cache import cache_folder, load, store
from plugkeep.discovery._listing import BETWEEN, Listing, read_listing
from plugkeep.discovery._path_entry import warn
from plugkeep.spec import PluginSpec

#: The group in which distributions declare plugins unless a host names one of its own.
GROUP = "plugkeep.plugins"


def discover_entry_points(
    group: str = GROUP, *, path: Sequence[str | os.PathLike[str]] | None = None, cache: bool = True
) -> list[PluginSpec]:
    """Return a spec for each plugin that an installed distribution declares in `group`.

    Nothing of a plugin is imported. The order is that of `path` (by default `sys.path`), then by
    the distribution's name, then as its file has it. As in an import, a distribution hides others
    of its name further down the path, and of two plugins of one name the first is taken.

    What is left out is logged as a warning that names the distribution: a name that no plugin
    can have, a value that is not ``module`` or ``module:attribute``, a name that is taken.

    What was found is kept on disk unless `cache` is false, and used again while the folders and
    files that decide it have not changed: whatever an installer does is seen by the next call, in
    any process. It is kept in ``$XDG_CACHE_HOME/plugkeep``, by default ``~/.cache/plugkeep``, or
    where ``PLUGKEEP_CACHE_DIR`` says; set to nothing, that turns it off.
    """
    if isinstance(path, str):
        raise TypeError(f"path is {path!r}, not a sequence of them; write ({path!r},)")
    found: dict[str, PluginSpec] = {}
    for name, source, version, origin in _visible(group, path, cache_folder() if cache else None):
        if name in found:
            warn(
                "plugin %r in group %r of %s is skipped: %s has one of that name",
                *(name, group, origin, found[name].origin),
            )
            continue
        found[name] = _spec(name, source, version or None, origin)
    return list(found.values())


def _visible(
    group: str, path: Sequence[str | os.PathLike[str]] | None, folder: str | None
) -> Iterator[tuple[str, str, str, str]]:
    """Yield name, source, version and origin of the plugins that no earlier entry hides.

    Complaints that none hides are logged.
    """
    before: list[str] = []
    for entry in _entries(sys.path if path is None else path):
        listing = _listing(entry, group, folder)
        for key, complaint in listing.complaints:
            if not _is_among(before, key):
                warn("%s", complaint)
        for key, name, source, version, origin in listing.declared:
            if not (before and _is_among(before, key)):
                yield name, source, version, origin
        if listing.distributions:
            before.append(listing.distributions)


_DEFAULTS = tuple(
    (field.name, field.default) for field in fields(PluginSpec) if field.default is not MISSING
)


def _spec(name: str, source: str, version: str | None, origin: str) -> PluginSpec:
    """Return the spec without its checks, in a third of the time; they were made before."""
    spec = object.__new__(PluginSpec)
    put = object.__setattr__
    for attribute, default in _DEFAULTS:
        put(spec, attribute, default)
    put(spec, "name", name)
    put(spec, "source", source)
    put(spec, "version", version)
    put(spec, "origin", origin)
    put(spec, "config", {})
    put(spec, "env", {})
    return spec


def _is_among(several: list[str], key: str) -> bool:
    return any(f"{BETWEEN}{key}{BETWEEN}" in distributions for distributions in several)


def _entries(path: Iterable[object]) -> dict[str, None]:
    """Return the entries that can be, absolute, each once."""
    try:
        here = os.getcwd()
    except OSError:  # it has been removed
        here = ""
    texts = (os.fspath(entry) for entry in path if isinstance(entry, (str, os.PathLike)))
    entries = (os.path.join(here, text) for text in texts if isinstance(text, str))
    return dict.fromkeys(entry.rstrip("/") or "/" for entry in entries if entry.startswith("/"))


def _listing(entry: str, group: str, folder: str | None) -> Listing:
    listing = load(folder, entry, group) if folder else None
    if listing is None:
        listing = read_listing(entry, group, time_ns())
        if folder and listing.keep:
            store(folder, entry, group, listing)
    return listing
