"""What a plugin's name and its requirements may look like."""

from __future__ import annotations

import re
from collections.abc import Iterable

from plugkeep.errors import InvalidNameError, InvalidPluginError

NAME_PATTERN = r"[A-Za-z0-9][\w.-]*"

_fits = re.compile(NAME_PATTERN).fullmatch


def check_name(name: object, what: str = "plugin name") -> str:
    """Return `name` if it can be one, else raise InvalidNameError saying what is wrong with it."""
    if isinstance(name, str) and _fits(name):
        return name
    if not isinstance(name, str):
        found = f"is {type(name).__name__} {name!r}, not a string"
    elif not name:
        found = "is empty"
    else:
        found = f"is {name!r}"
    raise InvalidNameError(
        f"{what} {found}; a name begins with a letter or digit and goes on with letters, digits, "
        f"'_', '.' or '-'",
        plugin=name if isinstance(name, str) else None,
    )


def check_requires(name: str, requires: object, what: str = "requires") -> tuple[str, ...]:
    """Return `requires`, without repetitions, in the order given; `name` is who requires.

    `what` is what they are in errors. Raises InvalidPluginError where it is no collection of names.
    """
    if requires == ():
        return ()
    if isinstance(requires, str) or not isinstance(requires, Iterable):
        hint = f"; write ({requires!r},)" if isinstance(requires, str) else ""
        raise InvalidPluginError(
            f"{what} of plugin {name!r} is {requires!r}, not a collection of names{hint}",
            plugin=name,
        )
    return tuple(
        dict.fromkeys(check_name(each, f"a name in {what} of plugin {name!r}") for each in requires)
    )
