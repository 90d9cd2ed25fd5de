"""From a factory to a plugin, with what a factory can do wrong told apart."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Coroutine
from typing import cast

from plugkeep.errors import FactoryFailedError, LoadError, NoPluginError
from plugkeep.plugin import Plugin, lacks


def create(factory: Callable[[], object], *, source: str, plugin: str | None = None) -> Plugin:
    """Call `factory` and return the plugin that it makes.

    `source` says in errors where the factory came from, `plugin` whose it is, where known.

    Raises FactoryFailedError when it raises, NoPluginError when it returns anything else; a
    LoadError of its own passes, for it says already what could not be loaded.
    """
    try:
        made = factory()
    except LoadError as error:
        error.plugin = error.plugin or plugin
        raise
    except (Exception, SystemExit) as error:  # a plugin must not be able to end its host
        raise FactoryFailedError(
            f"the factory of {source} raised {type(error).__name__}: {error}",
            source=source,
            plugin=plugin,
        ) from error
    if isinstance(made, Coroutine):
        made.close()  # nobody will await it
    if lack := lacks(made):
        raise NoPluginError(
            f"the factory of {source} returned {describe(made)}, which is no plugin: {lack}",
            source=source,
            plugin=plugin,
        )
    return cast("Plugin", made)


def describe(value: object) -> str:
    """Return `value` as it can be read in an error, in bounded length."""
    if value is None or isinstance(value, type):
        return "None" if value is None else f"class {value.__name__}"
    return f"{type(value).__name__} {reprlib.repr(value)}"
