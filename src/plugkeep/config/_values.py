"""What the value of each key may be. Each reader returns the value, or raises ValueError."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping
from datetime import date, datetime, time
from typing import Any, get_args

from plugkeep.names import check_name
from plugkeep.spec import Isolation, Restart
from plugkeep.units import parse_duration

Reader = Callable[[object], Any]

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 60


class Misfit(ValueError):
    """Raised by a reader; the text says what was expected and what was found."""

    def __init__(self, expected: str, found: object) -> None:
        super().__init__(f"expected {expected}, found {describe(found)}")


def describe(value: object) -> str:
    """Return what `value` is, in the terms of TOML."""
    if isinstance(value, bool):
        return f"the boolean {str(value).lower()}"
    if isinstance(value, (datetime, date, time)):
        return f"the date or time {value}"
    kinds = {str: "the text ", int: "the number ", float: "the number "}
    names: dict[type, str] = {list: "an array", dict: "a table"}
    return names.get(type(value)) or kinds.get(type(value), "") + _short.repr(value)


def a_table(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Misfit("a table", value)
    return value


def a_bool(value: object) -> bool:
    if not isinstance(value, bool):
        raise Misfit("true or false", value)
    return value


#: What a source looks like.
SOURCE_HELP = 'such as "file:./clock.py", "python:shop.db" or "exec:./clock"'


def a_source(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise Misfit(f"a source, {SOURCE_HELP}", value)
    return value


def a_timeout(value: object) -> float:
    try:
        seconds = parse_duration(value)
    except ValueError:
        seconds = 0.0
    if not seconds:
        raise Misfit('a duration above 0, such as "5s", "500ms" or 2.5 (seconds)', value)
    return seconds


def a_count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 1024:
        raise Misfit("a whole number from 1 to 1024", value)
    return value


def texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) and each for each in value):
        raise Misfit('an array of texts, such as ["database"]', value)
    return tuple(dict.fromkeys(value))


def names(value: object) -> tuple[str, ...]:
    return tuple(check_name(each) for each in texts(value))


def modules(value: object) -> tuple[str, ...]:
    for module in texts(value):
        if not all(part.isidentifier() for part in module.split(".")):
            raise Misfit("names of modules", module)
    return texts(value)


def a_text(value: object) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise Misfit("a text", value)
    return value


def variables(value: object) -> dict[str, str]:
    """Environment variables."""
    for name, text in a_table(value).items():
        if not name or "=" in name or "\0" in name:
            raise Misfit("names of environment variables, without '='", name)
        if not isinstance(text, str) or "\0" in text:
            raise Misfit(f"a text for {name}", text)
    return a_table(value)


def groups(value: object) -> tuple[str, ...]:
    """Entry point groups; ``true`` is the group that plugkeep gives to everybody."""
    from plugkeep.discovery import GROUP

    if isinstance(value, bool):
        return (GROUP,) if value else ()
    if isinstance(value, str) and value:
        return (value,)
    try:
        return texts(value)
    except Misfit:
        raise Misfit("true, the name of a group, or an array of such names", value) from None


def one_of(choices: tuple[str, ...]) -> Reader:
    def read(value: object) -> str:
        if value not in choices:
            raise Misfit(" or ".join(f'"{choice}"' for choice in choices), value)
        return str(value)

    return read


#: The keys of each table.
TOP: Mapping[str, Reader] = {"host": a_table, "plugins": a_table, "discover": a_table}
HOST: Mapping[str, Reader] = {
    "start_timeout": a_timeout,
    "stop_timeout": a_timeout,
    "workers": a_count,
    "preimport": modules,
}
DISCOVER: Mapping[str, Reader] = {"entry_points": groups, "directories": texts}
PLUGIN: Mapping[str, Reader] = {
    "source": a_source,
    "config": a_table,
    "requires": names,
    "isolation": one_of(get_args(Isolation)),
    "restart": one_of(get_args(Restart)),
    "start_timeout": a_timeout,
    "stop_timeout": a_timeout,
    "grants": names,
    "call_timeout": a_timeout,
    "env": variables,
    "cwd": a_text,
    "fork": a_bool,
    "enabled": a_bool,
}
