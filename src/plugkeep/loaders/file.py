"""``file:PATH[:ATTRIBUTE]``: a Python file, executed afresh each time that it is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plugkeep.loaders._files import check_file
from plugkeep.loaders._modules import FreshLoader, factory_from, unique_name
from plugkeep.loaders.python import is_dotted
from plugkeep.plugin import FACTORY_SYMBOL

if TYPE_CHECKING:
    from pathlib import Path

    from plugkeep.loaders._factory import LoadedFactory
    from plugkeep.loaders._source import Source


def load(source: Source) -> LoadedFactory:
    """Return the factory in the Python file that `source` names."""
    path, attribute = check(source)
    loader = FreshLoader(unique_name(path), str(path))
    return factory_from(loader, path, attribute, f"file {str(path)!r}", source)


def check(source: Source) -> tuple[Path, str]:
    """Return the path and the attribute that `source` names; raise unless the file is there."""
    text, attribute = _split(source.rest)
    path = source.path(text)
    check_file(path, source.text)
    return path, attribute


def _split(rest: str) -> tuple[str, str]:
    """Return the path and the attribute; a colon may be part of the path."""
    path, _, attribute = rest.rpartition(":")
    if path and not rest.endswith(".py") and is_dotted(attribute):
        return path, attribute
    return rest, FACTORY_SYMBOL
