"""``plugkeep check``: does a configuration fit?"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click
from rich.text import Text

from plugkeep.cli._app import MISFIT, examples, file_argument, import_from_beside, json_option
from plugkeep.cli._output import claim_stdout, log_to_stderr, show, show_json
from plugkeep.config import Problem, examine

if TYPE_CHECKING:
    from plugkeep.config import HostConfig


@click.command(
    short_help="Check a configuration; start nothing.",
    epilog=examples(
        "plugkeep check",
        "plugkeep check shop.toml --load",
        "plugkeep check --json",
    ),
)
@file_argument
@click.option("--load", is_flag=True, help="Also load and configure the plugins, starting none.")
@json_option
def command(file: str, *, load: bool, as_json: bool) -> None:
    """Check a configuration, and name everything that does not fit with its line.

    Nothing is started. With --load the plugins' own code is imported, their configuration is
    converted to what they ask for, and what they require is looked for. What is to run in a
    process of its own is tried in one.

    Exit status: 0 all fits; 2 something does not.
    """
    config, problems = examine(file)
    if load and not problems:
        claim_stdout()
        log_to_stderr("WARNING")  # as plugins with processes of their own print and log
        import_from_beside(config)
        problems = _load(config)
    warnings = list(config.warnings)
    if not (problems or config.plugins):
        warnings.append(Problem(config.path, "has no plugins"))
    if as_json:
        _show_json(config, problems, warnings)
    else:
        _show(config, problems, warnings)
    raise click.exceptions.Exit(MISFIT if problems else 0)


def _load(config: HostConfig) -> list[Problem]:
    """Return what is wrong with the plugins themselves."""
    from plugkeep.errors import RequirementError
    from plugkeep.host.building import Fitting, populate
    from plugkeep.registry import Registry

    registry = Registry()
    fitting = Fitting(config, registry, rehearsing=True)
    populate(registry, config.plugins, fitting)
    if not fitting.problems:
        try:
            registry.start_order()
        except RequirementError as error:
            return [Problem(config.path, str(error))]
    return fitting.problems


def _show_json(config: HostConfig, problems: list[Problem], warnings: list[Problem]) -> None:
    show_json(
        {
            "file": config.path,
            "ok": not problems,
            "plugins": [spec.name for spec in config.plugins],
            "problems": [asdict(problem) for problem in problems],
            "warnings": [asdict(warning) for warning in warnings],
        }
    )


def _show(config: HostConfig, problems: list[Problem], warnings: list[Problem]) -> None:
    for kind, style, found in (("warning", "yellow", warnings), ("error", "red", problems)):
        for problem in found:
            show(Text.assemble((kind, f"bold {style}"), f": {problem}"))
    if problems:
        show(Text(f"{config.path} does not fit: {_count(len(problems), 'problem')}"))
    else:
        show(Text(f"{config.path} fits: {_count(len(config.plugins), 'plugin')}"))


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
