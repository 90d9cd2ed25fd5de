"""What the options of a sandbox may be."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import TypedDict

from plugkeep.errors import ConfigError
from plugkeep.lifecycle import check_pause, check_timeout
from plugkeep.spec import check_max_calls


class Limits(TypedDict):
    """How long things may take, in seconds, and how many calls there may be."""

    start_timeout: float
    stop_timeout: float
    call_timeout: float | None
    drain_timeout: float
    term_timeout: float
    max_calls: int | None
    max_waiting: int | None


def check_limits(
    of: str,
    *,
    start_timeout: float | None,
    stop_timeout: float | None,
    call_timeout: float | None,
    drain_timeout: float,
    term_timeout: float,
    max_calls: int | None,
    max_waiting: int | None,
) -> Limits:
    check_max_calls(of, max_calls, max_waiting)
    return Limits(
        start_timeout=_seconds(f"start_timeout {of}", start_timeout),
        stop_timeout=_seconds(f"stop_timeout {of}", stop_timeout),
        call_timeout=check_timeout(f"call_timeout {of}", call_timeout),
        drain_timeout=check_pause(f"drain_timeout {of}", drain_timeout),
        term_timeout=check_pause(f"term_timeout {of}", term_timeout),
        max_calls=max_calls,
        max_waiting=max_waiting,
    )


def check_folder(of: str, cwd: str | os.PathLike[str] | None) -> str | None:
    return None if cwd is None else str(Path(check_text(f"cwd {of}", cwd)).absolute())


def check_text(what: str, value: object) -> str:
    if not isinstance(value, (str, bytes, os.PathLike)):
        raise TypeError(f"{what} is {value!r}; it takes a string or a path")
    text = os.fsdecode(value)
    if "\0" in text:
        raise ValueError(f"{what} is {text!r}; the system takes no NUL character there")
    return text


def check_program(what: str, value: object) -> str:
    """Return a bare name as it is, and any other path from here, whatever the program's `cwd`."""
    path = check_text(what, value)
    if not path:
        raise ValueError(f"{what} is empty")
    return str(Path(path).absolute()) if "/" in path else path


def check_table(plugin: str, config: object) -> None:
    """Raise ConfigError for what cannot be the configuration of a plugin in Python."""
    kind = type(config)
    if config is not None and not (
        isinstance(config, Mapping) or is_dataclass(kind) or hasattr(kind, "__struct_fields__")
    ):
        raise ConfigError(
            f"config of plugin {plugin!r} is {config!r:.200}; it takes a mapping with texts as "
            "keys, a dataclass, or a Struct of msgspec's",
            plugin=plugin,
        )


def check_grants(plugin: str, grants: object, level: int) -> None:
    """Raise TypeError, or ValueError where a plugin cannot be told of what it is granted."""
    if not (isinstance(grants, Mapping) or hasattr(grants, "find")):
        raise TypeError(
            f"grants of plugin {plugin!r} is {grants!r:.200}; it takes a mapping, of names to what "
            "they stand for"
        )
    if not level:
        raise ValueError(
            f"grants of plugin {plugin!r} are of no use: wire is 0, a level without any calls"
        )


def check_environment(of: str, env: object) -> dict[str, str]:
    if not isinstance(env, Mapping):
        raise TypeError(f"env {of} is {env!r:.200}; it takes a mapping of strings to strings")
    for key, value in env.items():
        if not (isinstance(key, str) and isinstance(value, str)):
            raise TypeError(f"env {of} has {key!r}: {value!r}; it takes strings")
        if not key or "=" in key or "\0" in key + value:
            raise ValueError(f"env {of} has {key!r}: {value!r}, which the system does not take")
    return dict(env)


def check_level(what: str, value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value in (0, 1, 2):
        return value
    raise ValueError(f"{what} is {value!r}; it can be 0, 1 or 2")


def _seconds(what: str, value: float | None) -> float:
    seconds = check_timeout(what, value)
    return math.inf if seconds is None else seconds
