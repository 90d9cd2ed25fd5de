"""``python:MODULE[:ATTRIBUTE]``: a module that can be imported."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING

from plugkeep.errors import ImportFailedError, InvalidSourceError, SourceNotFoundError, did_you_mean
from plugkeep.loaders._factory import factory_in, import_for
from plugkeep.loaders._source import FORMS
from plugkeep.loaders.ownership import note_first_import
from plugkeep.plugin import FACTORY_SYMBOL

if TYPE_CHECKING:
    from plugkeep.loaders._factory import LoadedFactory
    from plugkeep.loaders._source import Source


def load(source: Source) -> LoadedFactory:
    """Return the factory in the module that `source` names."""
    module, attribute = check(source)
    return load_module(source, module, attribute, f"module {module}")


def check(source: Source) -> tuple[str, str]:
    """Return the module and the attribute that `source` names; import nothing."""
    module, colon, attribute = source.rest.partition(":")
    check_names(source, module, attribute := attribute if colon else FACTORY_SYMBOL)
    return module, attribute


def load_module(source: Source, name: str, attribute: str, what: str) -> LoadedFactory:
    """Return the factory that `attribute` of the module `name` is; `what` is its name in errors."""
    check_names(source, name, attribute)
    note_first_import(name)
    try:
        module = import_for(source, what, lambda: import_module(name))
    except ImportFailedError as error:
        missing = _missing_part(name, error.__cause__)
        if not missing:
            raise
        raise SourceNotFoundError(
            f"there is no {what}: {error.__cause__}{_near_modules(missing)}", source=source.text
        ) from error.__cause__
    return factory_in(module, attribute, what, source)


def check_names(source: Source, *names: str) -> None:
    """Raise InvalidSourceError for what can be the name of no module or attribute."""
    for name in names:
        if not is_dotted(name):
            raise InvalidSourceError(
                f"source {source.text!r}: {name!r} is no name in Python; "
                f"it is written {FORMS['python']}",
                source=source.text,
            )


def is_dotted(text: str) -> bool:
    """Say whether `text` is a name in Python, or several with dots between."""
    return all(part.isidentifier() for part in text.split("."))


def _missing_part(name: str, error: BaseException | None) -> str | None:
    """Return the module that `error` says is missing, if it is `name` or a package that holds it.

    Any other is one that the module itself tried to import, and failed.
    """
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    return missing if missing and f"{name}.".startswith(f"{missing}.") else None


def _near_modules(missing: str) -> str:
    from pkgutil import iter_modules

    package, _, last = missing.rpartition(".")
    folders = getattr(sys.modules.get(package), "__path__", ()) if package else None
    return did_you_mean(last, (module.name for module in iter_modules(folders)))
