"""What a configuration file says, as frozen data, and what is wrong with one that does not fit."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from plugkeep.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from plugkeep.health import Watchdog
    from plugkeep.restart import Restart, RestartPolicy
    from plugkeep.spec import PluginSpec

#: The parts of a dotted key: ``plugins.clock.source`` is ``("plugins", "clock", "source")``.
Key = tuple[str, ...]

_bare = re.compile(r"[A-Za-z0-9_-]+").fullmatch


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that does not fit; as text ``FILE:LINE: KEY: MESSAGE``, as compilers write it."""

    file: str
    message: str
    line: int | None = None
    key: str = ""

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return ": ".join(part for part in (place, self.key, self.message) if part)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostConfig:
    """A configuration that fits."""

    #: The file, as it was given.
    path: str
    #: In the order of the file, then what was discovered.
    plugins: tuple[PluginSpec, ...] = ()
    #: Seconds, for plugins that do not say otherwise; None: no limit.
    start_timeout: float | None = None
    stop_timeout: float | None = None
    #: Seconds that stopping all plugins may take, whatever they say themselves.
    shutdown_timeout: float | None = None
    #: How many plugins may start side by side; None: one after another, on the host's thread.
    workers: int | None = None
    #: For plugins that do not say otherwise; it is in their specs already.
    restart: Restart | RestartPolicy | None = None
    watchdog: Watchdog | None = None
    max_calls: int | None = None
    max_waiting: int | None = None
    #: Modules that are imported before plugins are forked; None: the file does not say.
    preimport: tuple[str, ...] | None = None
    #: What fits but will not do what its author may expect.
    warnings: tuple[Problem, ...] = ()
    #: On which line each key stands, as far as it was found.
    lines: Mapping[Key, int] = field(default_factory=dict, repr=False, hash=False)

    def problem(self, spec: PluginSpec, key: Key, message: str) -> Problem:
        """Return a problem with a key of a plugin's table, on its line if it is in this file."""
        return problem_with(self.path, self.lines, spec, key, message)


def problem_with(
    file: str, lines: Mapping[Key, int], spec: PluginSpec, key: Key, message: str
) -> Problem:
    """Return a problem with a key of a plugin's table, in `file` or wherever the spec is from."""
    if spec.origin == file:
        return problem_at(file, lines, ("plugins", spec.name, *key), message)
    return Problem(spec.origin or spec.source, message, key=dotted((spec.name, *key)))


def problem_at(file: str, lines: Mapping[Key, int], key: Key, message: str) -> Problem:
    """Return a problem with `key`, on the line of the key or of the nearest table around it."""
    around = (lines.get(key[:depth]) for depth in range(len(key), 0, -1))
    return Problem(file, message, next(filter(None, around), None), dotted(key))


def dotted(key: Key) -> str:
    """Return `key` as it is written in TOML."""
    return ".".join(part if _bare(part) else _quoted(part) for part in key)


_QUOTES = str.maketrans({'"': '\\"', "\\": "\\\\"})


def _quoted(part: str) -> str:
    """Return a part of a key as a text in TOML, in which no character steers a terminal."""
    shown = (each if each.isprintable() else _escaped(each) for each in part.translate(_QUOTES))
    return f'"{"".join(shown)}"'


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def rejected(path: str, problems: Iterable[Problem]) -> ConfigError:
    """Return the error that lists all `problems` of the file at `path`."""
    lines = tuple(map(str, problems))
    if len(lines) == 1:
        message = lines[0]
    else:
        message = "\n  ".join((f"{path} has {len(lines)} problems; nothing has started:", *lines))
    return ConfigError(message, path=path, problems=lines)
