"""From a TOML file to a `HostConfig`, or to the list of everything that does not fit."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plugkeep.config import _values
from plugkeep.config._lines import key_lines
from plugkeep.config.model import HostConfig, Key, Problem, problem_at, problem_with, rejected
from plugkeep.errors import (
    ConfigError,
    ConfigNotFoundError,
    InvalidNameError,
    InvalidSourceError,
    RequirementError,
    did_you_mean,
)
from plugkeep.loaders import kind_of
from plugkeep.names import check_name
from plugkeep.order import check_requirements
from plugkeep.restart import RestartPolicy
from plugkeep.spec import PluginSpec
from plugkeep.toml_files import DEAD_LINK, NO_FILE, UnreadableError, parse, read_text

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping

    from plugkeep.config._values import Reader


def read_config(path: str | os.PathLike[str], *, known: Iterable[str] = ()) -> HostConfig:
    """Return what the TOML file at `path` says.

    `known` are names of plugins that the host registers by itself, so plugins of the file may
    require them. Nothing of any plugin is loaded.

    Raises ConfigError listing every problem; ConfigNotFoundError, which is one, for no file.
    """
    config, problems = examine(path, known=known)
    if not problems:
        return config
    if problems[0].message in (NO_FILE, DEAD_LINK):
        raise ConfigNotFoundError(str(problems[0]), path=config.path, problems=(str(problems[0]),))
    raise rejected(config.path, problems)


def examine(
    path: str | os.PathLike[str], *, known: Iterable[str] = ()
) -> tuple[HostConfig, list[Problem]]:
    """Return what fits of the file at `path`, and a problem for each thing that does not."""
    file = os.fspath(path)
    try:
        text = read_text(file)
        tables = parse(text)
    except UnreadableError as error:
        return HostConfig(path=file), [Problem(file, str(error), error.line)]
    examination = _Examination(file, key_lines(text))
    config = examination.whole(tables, known)
    return config, sorted(examination.problems, key=lambda problem: problem.line or 0)


@dataclass(slots=True)
class _Examination:
    """One pass over one file; what does not fit is noted, and the pass goes on."""

    file: str
    lines: Mapping[Key, int]
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    #: What the host says of all plugins that do not say otherwise.
    common: dict[str, Any] = field(default_factory=dict)

    def whole(self, tables: dict[str, Any], known: Iterable[str]) -> HostConfig:
        top = self.fit((), tables, _values.TOP)
        host = self.fit(("host",), top.get("host", {}), _values.HOST)
        self.common = {key: host[key] for key in _COMMON if key in host}
        written: dict[str, Any] = top.get("plugins", {})
        search = self.fit(("discover",), top.get("discover", {}), _values.DISCOVER)
        settled = {name for name, value in written.items() if _settles(value)}
        found = self.discovered(search, settled)
        specs = [self.plugin(name, value, found.pop(name, None)) for name, value in written.items()]
        common = _completed({}, self.common)
        plugins = [*filter(None, specs), *(replace(spec, **common) for spec in found.values())]
        for spec in plugins:
            self.available(spec)
        # Including those with problems of their own, which are no reason to report others.
        names = dict.fromkeys((*written, *(spec.name for spec in plugins), *known))
        disabled = {name for name, value in written.items() if _is_disabled(value)}
        self.requirements(plugins, [name for name in names if name not in disabled], disabled)
        return HostConfig(
            path=self.file,
            plugins=tuple(plugins),
            warnings=tuple(self.warnings),
            lines=self.lines,
            **host,
        )

    @property
    def folder(self) -> Path:
        """Where relative paths in the file start from."""
        return Path(self.file).absolute().parent

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
            except ValueError as misfit:
                self.note((*at, name), str(misfit))
        return values

    def plugin(self, name: str, value: object, found: PluginSpec | None) -> PluginSpec | None:
        """Return what the table of a plugin says, on top of what was `found` elsewhere of it."""
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
        values = _completed(values, self.common)
        is_limited = values.get("max_calls") is not None or value.get("max_calls", False)
        if values.get("max_waiting") is not None and not is_limited:
            self.note((*at, "max_waiting"), "is of no use without max_calls: no call would wait")
            return None
        if found and "source" not in value:
            return replace(found, **values)
        if "source" not in value:
            self.note(at, f'has no source; expected source = "...", {_values.SOURCE_HELP}')
        if "source" not in values:
            return None
        return PluginSpec(name=name, base=str(self.folder), origin=self.file, **values)

    def discovered(
        self, search: Mapping[str, Iterable[str]], settled: Container[str]
    ) -> dict[str, PluginSpec]:
        """Return what is found where the file says to look, but for what the file has settled."""
        from plugkeep.discovery import discover_entry_points

        found: dict[str, PluginSpec] = {}
        specs = [spec for path in search.get("directories", ()) for spec in self.in_folder(path)]
        for group in search.get("entry_points", ()):
            specs += discover_entry_points(group)
        for spec in (spec for spec in specs if spec.name not in settled):
            first = found.setdefault(spec.name, spec)
            if first is not spec:
                self.note(
                    ("discover",),
                    f"finds two plugins named {spec.name!r}, {first.origin} and {spec.origin}; "
                    f"say which with a source in [plugins.{spec.name}]",
                )
        return found

    def in_folder(self, path: str) -> list[PluginSpec]:
        from plugkeep.discovery import discover_directory

        try:
            return discover_directory(self.folder / Path(path).expanduser())
        except ConfigError as error:
            for problem in error.problems:  # each begins with the manifest's own name
                manifest, _, message = problem.partition(": ")
                self.problems.append(Problem(manifest, message))
            if not error.problems:
                self.note(("discover", "directories"), str(error))
        except RuntimeError as error:  # ~nobody
            self.note(("discover", "directories"), str(error))
        return []

    def available(self, spec: PluginSpec) -> None:
        """Note what fits, but is not to be had in this version."""
        try:
            has_process = kind_of(spec) == "exec" or spec.isolation != "none"
        except InvalidSourceError as error:
            self.problems.append(self.problem(spec, "source", str(error)))
            return
        for key in _OF_PROCESS if not has_process else ():
            if getattr(spec, key) not in (None, {}, self.common.get(key)):
                message = (
                    "is about a process of the plugin's own, and it runs in the host's; add "
                    'isolation = "process", or leave it out'
                )
                self.problems.append(self.problem(spec, key, message))
        policy = spec.restart
        if isinstance(policy, RestartPolicy) and policy.when == "temporary":
            message = (
                'fits, but without a when it is "temporary": never started again; '
                'add when = "permanent" or "transient"'
            )
            self.warnings.append(self.problem(spec, "restart", message))

    def problem(self, spec: PluginSpec, key: str, message: str) -> Problem:
        return problem_with(self.file, self.lines, spec, (key,), message)

    def requirements(
        self, specs: Iterable[PluginSpec], known: Iterable[str], disabled: Container[str]
    ) -> None:
        edges: dict[str, list[str]] = {name: [] for name in known}
        for spec in specs:
            edges[spec.name] += [each for each in spec.requires if each in edges]
            wanted = [(key, name) for key in ("requires", "grants") for name in getattr(spec, key)]
            for key, missing in (each for each in wanted if each[1] not in edges):
                gone = missing in disabled
                why = "is disabled" if gone else f"is no plugin here{did_you_mean(missing, edges)}"
                self.problems.append(self.problem(spec, key, f"{key} {missing!r}, which {why}"))
        try:
            check_requirements(edges)
        except RequirementError as error:
            for cycle in error.cycles:
                round_trip = " requires ".join(map(repr, (*cycle, cycle[0])))
                self.note(("plugins", cycle[0], "requires"), f"a cycle: {round_trip}")


#: What is about a process of a plugin's own.
_OF_PROCESS = (
    *("call_timeout", "drain_timeout", "term_timeout", "max_calls", "max_waiting"),
    *("env", "cwd"),
)
#: What the host may say of all its plugins.
_COMMON = ("restart", "watchdog", "max_calls", "max_waiting")


def _completed(values: dict[str, Any], common: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a plugin's table says, and what the host says of all where it says nothing.

    Where it has only a word for when it is to be restarted, the rest of the policy is the host's.
    """
    whole, word = {**common, **values}, values.get("restart")
    if isinstance(word, str) and isinstance(common.get("restart"), RestartPolicy):
        whole["restart"] = replace(common["restart"], when=word)
    if whole.get("max_calls") is None and "max_waiting" not in values:
        whole.pop("max_waiting", None)
    return whole


def _settles(value: object) -> bool:
    """Say whether a plugin's table leaves nothing to be found elsewhere."""
    return not isinstance(value, dict) or "source" in value or _is_disabled(value)


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
