"""What the value of each key may be. Each reader returns the value, or raises ValueError."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping
from datetime import date, datetime, time
from typing import Any, cast, get_args

from plugkeep.errors import did_you_mean
from plugkeep.health import Watchdog
from plugkeep.names import check_name
from plugkeep.restart import Dependents, Restart, RestartPolicy
from plugkeep.spec import MOST_CALLS, Isolation, OnReload
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


def a_max(least: int) -> Reader:
    """How many calls there may be; false: any number."""

    def read(value: object) -> int | None:
        if value is False:
            return None
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        if not is_whole or not least <= cast("int", value) <= MOST_CALLS:
            raise Misfit(f"a whole number from {least} to {MOST_CALLS}, or false", value)
        return cast("int", value)

    return read


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


def a_pause(value: object) -> float:
    try:
        return parse_duration(value)
    except ValueError:
        raise Misfit('a duration, such as "100ms", "2s" or 0', value) from None


def an_intensity(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise Misfit("how many restarts there may be within the period, 0 or more", value)
    return value


def a_part(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise Misfit("a number from 0 to 1", value)
    return float(value)


def fields_of(table: dict[str, Any], readers: Mapping[str, Reader]) -> dict[str, Any]:
    """Return the values of an inline table; the first that does not fit is told with its key."""
    values = {}
    for name, value in table.items():
        if name not in readers:
            hint = did_you_mean(name, readers) or f"; there are: {', '.join(readers)}"
            raise ValueError(f"has the unknown key {name!r}{hint}")
        try:
            values[name] = readers[name](value)
        except ValueError as misfit:
            raise ValueError(f"{name}: {misfit}") from None
    return values


def a_restart(value: object) -> Restart | RestartPolicy:
    """Read a word, such as "permanent", or a table with the whole policy."""
    if isinstance(value, dict):
        return RestartPolicy(**fields_of(value, RESTART))
    if value not in get_args(Restart):
        words = ", ".join(f'"{word}"' for word in get_args(Restart))
        raise Misfit(f'{words}, or a table such as {{ when = "permanent" }}', value)
    return cast("Restart", value)


def a_watchdog(value: object) -> Watchdog | None:
    """Read how often it is asked: a duration, or a table; false: never."""
    if value is False:
        return None
    if isinstance(value, dict):
        fields = fields_of(value, WATCHDOG)
        if "period" not in fields:
            raise ValueError('has no period; expected one, such as period = "5s"')
        return Watchdog(**fields)
    try:
        return Watchdog(a_timeout(value))
    except Misfit:
        raise Misfit('a duration above 0, such as "5s", a table, or false', value) from None


#: The keys of the tables within a plugin's.
RESTART: Mapping[str, Reader] = {
    "when": one_of(get_args(Restart)),
    "intensity": an_intensity,
    "period": a_timeout,
    "delay": a_pause,
    "max_delay": a_pause,
    "jitter": a_part,
    "dependents": one_of(get_args(Dependents)),
}
WATCHDOG: Mapping[str, Reader] = {"period": a_timeout, "timeout": a_timeout}

#: The keys of each table.
TOP: Mapping[str, Reader] = {"host": a_table, "plugins": a_table, "discover": a_table}
HOST: Mapping[str, Reader] = {
    "start_timeout": a_timeout,
    "stop_timeout": a_timeout,
    "shutdown_timeout": a_timeout,
    "workers": a_count,
    "preimport": modules,
    "restart": a_restart,
    "watchdog": a_watchdog,
    "max_calls": a_max(1),
    "max_waiting": a_max(0),
}
DISCOVER: Mapping[str, Reader] = {"entry_points": groups, "directories": texts}
PLUGIN: Mapping[str, Reader] = {
    "source": a_source,
    "config": a_table,
    "requires": names,
    "isolation": one_of(get_args(Isolation)),
    "restart": a_restart,
    "watchdog": a_watchdog,
    "on_reload": one_of(get_args(OnReload)),
    "start_timeout": a_timeout,
    "stop_timeout": a_timeout,
    "grants": names,
    "call_timeout": a_timeout,
    "drain_timeout": a_pause,
    "term_timeout": a_pause,
    "max_calls": a_max(1),
    "max_waiting": a_max(0),
    "env": variables,
    "cwd": a_text,
    "fork": a_bool,
    "enabled": a_bool,
}
