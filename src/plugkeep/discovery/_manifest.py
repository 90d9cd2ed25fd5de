"""One ``plugin.toml``: what a plugin in a folder of its own says of itself."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from plugkeep.errors import did_you_mean
from plugkeep.spec import PluginSpec
from plugkeep.toml_files import UnreadableError, parse, read_text
from plugkeep.units import parse_duration

MANIFEST = "plugin.toml"

#: A sentence that begins with the file and the key that do not fit.
Problem = str


def read_manifest(file: Path, problems: list[Problem]) -> PluginSpec | None:
    """Return what the manifest says; where it does not fit, None, and add to `problems`."""
    try:
        table = parse(read_text(str(file)))
    except UnreadableError as error:
        line = f"line {error.line} " if error.line else ""
        problems.append(f"{file}: {line}{error}")
        return None
    fields = {"name": file.parent.name, **table}
    found = [f"{file}: {problem}" for problem in _problems(fields, file.parent)]
    if found:
        problems += found
        return None
    values = {key: _KEYS[key](value) for key, value in fields.items()}
    return PluginSpec(base=str(file.parent.absolute()), origin=str(file), **values)


def _text_value(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected a text in quotes, found {value!r}")
    return value


def _table_value(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"expected a table, found {value!r}")
    return value


def _seconds_value(value: object) -> float:
    seconds = parse_duration(value)
    if not seconds:
        raise ValueError(f"expected a duration above 0, found {value!r}")
    return seconds


def _names_value(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise TypeError(f'expected an array of names, such as ["database"], found {value!r}')
    return tuple(value)


#: The keys, and what makes of each value that of the spec's field of the same name.
_KEYS: Mapping[str, Callable[[object], Any]] = {
    "name": _text_value,
    "source": _text_value,
    "version": _text_value,
    "description": _text_value,
    "requires": _names_value,
    "config": _table_value,
    "isolation": _text_value,
    "restart": _text_value,
    "start_timeout": _seconds_value,
    "stop_timeout": _seconds_value,
}


def _problems(fields: Mapping[str, Any], folder: Path) -> Iterator[str]:
    """Yield each thing that does not fit, beginning with its key."""
    if "source" not in fields:
        yield 'source: is missing; expected a source, such as "file:./plugin.py"'
    # Each is put among good ones, so that the spec, which has the rules, judges it.
    good = {"name": "plugin", "source": "python:plugin"}
    for key, value in fields.items():
        if key not in _KEYS:
            hint = did_you_mean(key, _KEYS) or f"; there are: {', '.join(_KEYS)}"
            yield f"{key}: unknown key{hint}"
        elif misfit := _misfit(key, value, good, folder):
            yield f"{key}: {misfit}"
        elif key == "name":  # it comes first, so the sentences about others can give it
            good["name"] = value


def _misfit(key: str, value: object, good: Mapping[str, Any], folder: Path) -> str:
    """Return what keeps `value` from being that of `key`, "" if nothing."""
    try:
        fields = {**good, key: _KEYS[key](value)}
        PluginSpec(**fields)
        return _way_out(fields["source"], folder)
    except (
        TypeError,
        ValueError,
        RuntimeError,
    ) as error:  # RuntimeError: links in a circle, ~nobody
        return str(error)


def _way_out(source: str, folder: Path) -> str:
    """Return how the path in `source` leads out of `folder`, "" if it does not."""
    path = _path_in(source)
    if path is None:
        return ""
    home = folder.resolve()
    # A file's attribute comes after its path: the link must be found under either reading.
    for text in {path, path.rpartition(":")[0] or path}:
        target = (home / Path(text).expanduser()).resolve()
        if not target.is_relative_to(home):
            return f"{source!r} leads out of the plugin's folder, to {target}"
    return ""


def _path_in(source: str) -> str | None:
    """Return the path that `source` holds, None if it is of a kind that has none."""
    kind, colon, rest = source.partition(":")
    if not colon or "/" in kind:
        return source
    if kind in ("python", "entry-point"):
        return None
    if kind != "exec":
        return rest
    program = next(iter(shlex.split(rest)), "")
    return program if "/" in program else None  # else it is looked for on PATH
