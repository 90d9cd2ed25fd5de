"""``plugkeep list``: which plugins are there, and where are they from?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from plugkeep.cli._app import examples, json_option, reporting
from plugkeep.cli._output import show_json, show_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from plugkeep.spec import PluginSpec

_COLUMNS = ("NAME", "VERSION", "SOURCE", "ISOLATION", "REQUIRES", "GRANTS", "FROM")
_DEFAULT = "plugkeep.toml"


@click.command(
    short_help="List plugins: name, version, source, where from.",
    epilog=examples(
        "plugkeep list",
        "plugkeep list shop.toml --json",
        "plugkeep list --entry-points",
        "plugkeep list --directory plugins",
    ),
)
@click.argument("file", required=False, type=click.Path())
@click.option("--entry-points", is_flag=True, help="Those that installed distributions declare.")
@click.option("--group", multiple=True, help="The same, in another group of entry points.")
@click.option("--directory", multiple=True, help="Those in this folder, each with a plugin.toml.")
@json_option
def command(
    file: str | None,
    *,
    entry_points: bool,
    group: tuple[str, ...],
    directory: tuple[str, ...],
    as_json: bool,
) -> None:
    """List plugins without loading any: those that FILE configures (./plugkeep.toml unless
    something else is asked for), and those that can be found elsewhere.
    """
    with reporting(as_json=as_json):
        groups = (*_default_group(entry_points), *group)
        if file is None and not groups and not directory:
            file = _DEFAULT
        specs = list(_found(file, directory, groups))
        if as_json:
            show_json({"plugins": [_describe(spec) for spec in specs]})
        else:
            show_table(_COLUMNS, map(_row, specs))


def _default_group(wanted: bool) -> tuple[str, ...]:
    from plugkeep.discovery import GROUP

    return (GROUP,) if wanted else ()


def _found(
    file: str | None, directories: Iterable[str], groups: Iterable[str]
) -> Iterator[PluginSpec]:
    from plugkeep.config import read_config
    from plugkeep.discovery import discover_directory, discover_entry_points

    if file is not None:
        yield from read_config(file).plugins
    for directory in directories:
        yield from discover_directory(Path(directory))
    for group in groups:
        yield from discover_entry_points(group)


def _row(spec: PluginSpec) -> tuple[str, ...]:
    has_process = spec.isolation == "none" and spec.source.startswith("exec:")
    isolation = "process" if has_process else spec.isolation
    names = (", ".join(spec.requires), ", ".join(spec.grants))
    return (spec.name, spec.version or "-", spec.source, isolation, *names, spec.origin)


def _describe(spec: PluginSpec) -> dict[str, object]:
    names = ("name", "version", "source", "base", "requires", "grants", "isolation")
    return {
        **{name: getattr(spec, name) for name in names},
        "restart": spec.restart_policy.when,
        "description": spec.description,
        "origin": spec.origin,
    }
