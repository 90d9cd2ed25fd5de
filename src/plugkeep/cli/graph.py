"""``plugkeep graph``: what requires what, drawn."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from plugkeep.cli._app import examples, file_argument, load_host, reporting
from plugkeep.cli._output import as_json, claim_stdout, write

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from plugkeep.cli._drawing import Graph


@click.command(
    short_help="Draw what requires what.",
    epilog=examples(
        "plugkeep graph",
        "plugkeep graph --format svg -o plugins.svg",
        "plugkeep graph shop.toml --format dot",
        "plugkeep graph --load --json",
    ),
)
@file_argument
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "dot", "svg", "json"]),
    default="text",
    show_default=True,
    help="A tree, a graph for Graphviz, a drawing, or data for programs.",
)
@click.option("--json", "form", flag_value="json", help="The same as --format json.")
@click.option("-o", "--output", type=click.Path(dir_okay=False), help="Write to this file.")
@click.option("--load", is_flag=True, help="Load the plugins, to ask them what they require.")
def command(file: str, *, form: str, output: str | None, load: bool) -> None:
    """Draw what requires what, in the order in which plugins start; start none.

    The numbers say in which order they start. What a plugin's own code requires is known only
    with --load.
    """
    with reporting(as_json=form == "json"):
        drawn = _draw(_graph(file, load=load), form)
        if output is None:
            write(drawn)
        else:
            _save(output, drawn)


def _graph(file: str, *, load: bool) -> Graph:
    from plugkeep.cli._drawing import Graph
    from plugkeep.config import read_config
    from plugkeep.order import start_order

    config = read_config(file)
    requirements: Mapping[str, Sequence[str]]
    if load:
        claim_stdout()
        requirements = _with_strangers(load_host(config).registry.requirements())
    else:
        requirements = {spec.name: spec.requires for spec in config.plugins}
    sources = {spec.name: spec.source for spec in config.plugins}
    return Graph(requirements, start_order(requirements), sources)


def _with_strangers(requirements: Mapping[str, Sequence[str]]) -> dict[str, Sequence[str]]:
    """Add the plugins that are required and not in the file: the host registers them by code."""
    required = (name for names in requirements.values() for name in names)
    return {**{name: () for name in required if name not in requirements}, **requirements}


def _draw(graph: Graph, form: str) -> str:
    from plugkeep.cli import _drawing

    return {
        "text": _drawing.text,
        "dot": _drawing.dot,
        "svg": _drawing.svg,
        "json": _json,
    }[form](graph)


def _json(graph: Graph) -> str:
    plugins = [
        {"name": name, "source": graph.sources.get(name), "requires": graph.requirements[name]}
        for name in graph.order
    ]
    return as_json({"plugins": plugins})


def _save(file: str, drawn: str) -> None:
    try:
        Path(file).write_text(drawn, encoding="utf-8")
    except OSError as error:
        raise click.FileError(file, error.strerror) from error
