"""From a TOML file to a `HostConfig`, or to the list of everything that does not fit."""

from __future__ import annotations

import os
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plugkeep.config import _values
from plugkeep.config._lines import key_lines
from plugkeep.config.model import HostConfig, Key, Problem, problem_at, rejected
from plugkeep.errors import InvalidNameError, RequirementError, did_you_mean
from plugkeep.names import check_name
from plugkeep.order import check_requirements
from plugkeep.spec import PluginSpec
from plugkeep.units import format_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from plugkeep.config._values import Reader

#: More than anybody writes by hand; less than what /dev/zero would give.
_LIMIT = 2**20


def read_config(path: str | os.PathLike[str], *, known: Iterable[str] = ()) -> HostConfig:
    """Return what the TOML file at `path` says.

    `known` are names of plugins that the host registers by itself, so plugins of the file may
    require them. Nothing of any plugin is loaded. Raises ConfigError listing every problem.
    """
    config, problems = examine(path, known=known)
    if problems:
        raise rejected(config.path, problems)
    return config


def examine(
    path: str | os.PathLike[str], *, known: Iterable[str] = ()
) -> tuple[HostConfig, list[Problem]]:
    """Return what fits of the file at `path`, and a problem for each thing that does not."""
    file = os.fspath(path)
    try:
        text = _read(file)
        tables = _parse(text)
    except _UnreadableError as error:
        return HostConfig(path=file), [Problem(file, str(error), error.line)]
    examination = _Examination(file, key_lines(text))
    config = examination.whole(tables, known)
    return config, sorted(examination.problems, key=lambda problem: problem.line or 0)


class _UnreadableError(Exception):
    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


def _read(file: str) -> str:
    try:
        with Path(file).open("rb") as stream:
            content = stream.read(_LIMIT + 1)
    except FileNotFoundError:
        raise _UnreadableError("there is no such file") from None
    except IsADirectoryError:
        raise _UnreadableError("is a directory; expected a TOML file in it, by name") from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        reason = getattr(error, "strerror", None) or str(error)
        raise _UnreadableError(f"cannot be read: {reason}") from None
    if len(content) > _LIMIT:
        raise _UnreadableError(f"is larger than {format_size(_LIMIT)}; expected a configuration")
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        byte = f"byte 0x{content[error.start]:02x}"
        raise _UnreadableError(f"is not UTF-8: found {byte}; save it as UTF-8", line) from None


def _parse(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise _UnreadableError("is nested too deeply to be read") from None
    except tomllib.TOMLDecodeError as error:
        message = str(error)
    except ValueError:  # from int(), which bounds the digits that it takes
        raise _UnreadableError("holds a number of too many digits") from None
    place = re.search(r" \(at line (\d+), column \d+\)$", message)
    line = int(place[1]) if place else text.count("\n") + 1
    complaint = message[: place.start()] if place else message.replace(" (at end of document)", "")
    if "Cannot overwrite" in message or "twice" in message:
        complaint = "a key or table is given a second time here"
    raise _UnreadableError(f"is not TOML: {complaint}", line)


@dataclass(slots=True)
class _Examination:
    """One pass over one file; what does not fit is noted, and the pass goes on."""

    file: str
    lines: Mapping[Key, int]
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)

    def whole(self, tables: dict[str, Any], known: Iterable[str]) -> HostConfig:
        top = self.fit((), tables, _values.TOP)
        host = self.fit(("host",), top.get("host", {}), _values.HOST)
        written: dict[str, Any] = top.get("plugins", {})
        specs = [self.plugin(name, value) for name, value in written.items()]
        plugins = [spec for spec in specs if spec]
        disabled = [name for name, value in written.items() if _is_disabled(value)]
        # Including those with problems of their own, which are no reason to report others.
        known = [name for name in (*written, *known) if name not in disabled]
        self.requirements(plugins, known, disabled)
        return HostConfig(
            path=self.file,
            plugins=tuple(plugins),
            warnings=tuple(self.warnings),
            lines=self.lines,
            **host,
        )

    def note(self, key: Key, message: str) -> None:
        self.problems.append(problem_at(self.file, self.lines, key, message))

    def fit(self, at: Key, table: dict[str, Any], readers: Mapping[str, Reader]) -> dict[str, Any]:
        """Return the values of `table` that fit; note the others, and keys that nobody reads."""
        values = {}
        for name, value in table.items():
            if name not in readers:
                self.note((*at, name), _unknown(at, name, value, readers))
                continue
            try:
                values[name] = readers[name](value)
            except _values.Misfit as misfit:
                self.note((*at, name), str(misfit))
        return values

    def plugin(self, name: str, value: object) -> PluginSpec | None:
        at = ("plugins", name)
        try:
            check_name(name)
        except InvalidNameError as error:
            self.note(at, str(error))
            return None
        if not isinstance(value, dict):
            self.note(at, str(_values.Misfit("a table with a source", value)))
            return None
        values = self.fit(at, value, _values.PLUGIN)
        if not values.pop("enabled", True):
            return None
        if "source" not in value:
            self.note(at, f'has no source; expected source = "...", {_values.SOURCE_HELP}')
        if "source" not in values:
            return None
        self.isolation(at, values)
        base = Path(self.file).absolute().parent
        return PluginSpec(name=name, base=str(base), origin=self.file, **values)

    def isolation(self, at: Key, values: dict[str, Any]) -> None:
        isolation = values.get("isolation", "none")
        is_program = values["source"].startswith("exec:")
        if isolation != "none" and not (is_program and isolation == "process"):
            self.note(
                (*at, "isolation"),
                f'"{isolation}" is not available in this version for this source; leave it out, '
                "or make the plugin a program of its own (an exec: source)",
            )
        if values.get("restart", "temporary") != "temporary":
            key = (*at, "restart")
            message = f'"{values["restart"]}" fits, but nothing restarts plugins in this version'
            self.warnings.append(problem_at(self.file, self.lines, key, message))

    def requirements(self, specs: list[PluginSpec], known: list[str], disabled: list[str]) -> None:
        edges: dict[str, list[str]] = {name: [] for name in known}
        for spec in specs:
            edges[spec.name] = [each for each in spec.requires if each in known]
            for missing in (each for each in spec.requires if each not in known):
                why = "is disabled" if missing in disabled else "is not among the plugins"
                near = "" if missing in disabled else did_you_mean(missing, known)
                key = ("plugins", spec.name, "requires")
                self.note(key, f"requires {missing!r}, which {why}{near}")
        try:
            check_requirements(edges)
        except RequirementError as error:
            for cycle in error.cycles:
                round_trip = " requires ".join(map(repr, (*cycle, cycle[0])))
                self.note(("plugins", cycle[0], "requires"), f"a cycle: {round_trip}")


def _is_disabled(value: object) -> bool:
    return isinstance(value, dict) and value.get("enabled") is False


def _unknown(at: Key, name: str, value: object, readers: Iterable[str]) -> str:
    if isinstance(value, dict) and "source" in value:
        if at[:1] == ("plugins",):
            return f'unknown key; for a plugin named "{at[-1]}.{name}" quote the name'
        if not at:
            return f"unknown table; for a plugin write [plugins.{name}]"
    hint = did_you_mean(name, readers) or f"; there are: {', '.join(readers)}"
    return f"unknown key{hint}"
