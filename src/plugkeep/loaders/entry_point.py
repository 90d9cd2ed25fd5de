"""``entry-point:GROUP/NAME``: an entry point of an installed distribution."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

from plugkeep.errors import InvalidSourceError, SourceNotFoundError, did_you_mean
from plugkeep.loaders._source import FORMS
from plugkeep.loaders.python import load_module
from plugkeep.plugin import FACTORY_SYMBOL

if TYPE_CHECKING:
    from plugkeep.loaders._factory import LoadedFactory
    from plugkeep.loaders._source import Source


def load(source: Source) -> LoadedFactory:
    """Return the factory that the entry point in `source` leads to.

    Where several distributions have the same, the first on ``sys.path`` counts.
    """
    entry = find(source)
    module, attribute = target(entry)
    what = f"module {module} of entry point {source.rest}{_distribution(entry)}"
    return load_module(source, module, attribute, what)


def find(source: Source) -> EntryPoint:
    """Return the entry point that `source` names, or raise SourceNotFoundError."""
    group, name = check(source)
    entry = next((entry for entry in entry_points(group=group) if entry.name == name), None)
    if entry is None:
        raise SourceNotFoundError(_none_of(group, name), source=source.text)
    return entry


def target(entry: EntryPoint) -> tuple[str, str]:
    """Return the module and the attribute that an entry point names."""
    value = entry.value.partition("[")[0]  # without extras
    module, colon, attribute = (part.strip() for part in value.partition(":"))
    return module, attribute if colon else FACTORY_SYMBOL


def check(source: Source) -> tuple[str, str]:
    """Return the group and the name in `source`; look for nothing."""
    group, _, name = source.rest.partition("/")
    if not group or not name:
        raise InvalidSourceError(
            f"source {source.text!r} is not written {FORMS['entry-point']}", source=source.text
        )
    return group, name


def _none_of(group: str, name: str) -> str:
    every = entry_points()
    if group not in every.groups:
        return (
            f"no installed distribution has entry points in group {group!r}"
            f"{did_you_mean(group, every.groups)}"
        )
    near = did_you_mean(name, every.select(group=group).names)
    return f"no installed distribution has an entry point {name!r} in group {group!r}{near}"


def _distribution(entry: EntryPoint) -> str:
    return f" of {entry.dist.name} {entry.dist.version}" if entry.dist else ""
