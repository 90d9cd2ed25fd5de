"""What `load` returns, and how the symbol is found that it calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from plugkeep.creation import create, describe
from plugkeep.errors import (
    ImportFailedError,
    SymbolNotFoundError,
    WrongTypeError,
    did_you_mean,
)
from plugkeep.plugin import Plugin, is_plugin

if TYPE_CHECKING:
    from types import ModuleType

    from plugkeep.loaders._source import Source


class LoadedFactory:
    """A factory that was found in a source; calling it makes a plugin.

    Raises FactoryFailedError when what was found raises, NoPluginError when it returns no
    plugin.
    """

    __slots__ = ("_make", "_plugin", "source")

    def __init__(self, source: Source, make: Callable[[], object]) -> None:
        #: The text that was loaded.
        self.source = source.text
        self._plugin = source.plugin
        self._make = make

    def __call__(self) -> Plugin:
        return create(self._make, source=self.source, plugin=self._plugin)

    def __repr__(self) -> str:
        return f"<factory of {self.source}>"


def import_for(source: Source, what: str, importing: Callable[[], ModuleType]) -> ModuleType:
    """Return the module that `importing` returns; ImportFailedError when that raises."""
    try:
        return importing()
    except (Exception, SystemExit) as error:  # a plugin must not be able to end its host
        raise ImportFailedError(
            f"importing {what} raised {type(error).__name__}: {error}", source=source.text
        ) from error


def factory_in(module: ModuleType, attribute: str, what: str, source: Source) -> LoadedFactory:
    """Return the factory that `attribute`, which may have dots, of `module` is.

    Raises SymbolNotFoundError, naming near misses, and WrongTypeError.
    """
    found: object = module
    for part in attribute.split("."):
        found = _member(found, part, what, source)
        what = f"{part} in {what}"
    if problem := _misfit(found):
        raise WrongTypeError(
            f"{attribute} has wrong type: found {describe(found)} as {what}, {problem}",
            source=source.text,
        )
    assert callable(found)  # noqa: S101  # tells type checkers what _misfit has found out
    return LoadedFactory(source, found)


def _member(owner: object, name: str, what: str, source: Source) -> object:
    try:
        return getattr(owner, name)
    except AttributeError:
        raise SymbolNotFoundError(
            f"{what} has no {name}{did_you_mean(name, dir(owner))}", source=source.text
        ) from None
    except Exception as error:  # a module's own __getattr__ may import, and raise anything
        raise ImportFailedError(
            f"reading {name} of {what} raised {type(error).__name__}: {error}", source=source.text
        ) from error


def _misfit(found: object) -> str:
    """Return what keeps `found` from being a factory, as the end of a sentence; "" if nothing."""
    if type(found) is type and getattr(found, "__init__", None) is object.__init__:
        return ""  # as most are; to find out about others takes its time
    from inspect import iscoroutinefunction, signature

    if not callable(found):
        if is_plugin(found):
            return "which is a plugin already; it must be what makes one: a class or a function"
        return "which cannot be called"
    if iscoroutinefunction(found):
        return "which is async; a factory is a plain function"
    try:
        parameters = signature(found)
    except (TypeError, ValueError):  # not every callable made in C tells
        return ""
    try:
        parameters.bind()
    except TypeError as error:
        return f"which cannot be called without arguments: {error}"
    return ""
