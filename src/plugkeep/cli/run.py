"""``plugkeep run``: start all, wait, stop all."""

from __future__ import annotations

import click

from plugkeep.cli._app import FAILED, examples, file_argument, json_option, reporting
from plugkeep.cli._output import claim_stdout, endless, log_to_stderr


@click.command(
    short_help="Start all plugins, wait for a signal, stop them.",
    epilog=examples(
        "plugkeep run",
        "plugkeep run shop.toml --workers 4",
        "plugkeep run --strict --log-level warning",
        "plugkeep run --json",
    ),
)
@file_argument
@click.option(
    "--workers",
    type=click.IntRange(1, 1024),
    help="How many plugins may start side by side; instead of what the file says.",
)
@click.option("--strict", is_flag=True, help="End at once if a plugin does not start.")
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="What of the log to show, on stderr; what plugins print is info, or warning from stderr.",
)
@json_option
def command(file: str, *, workers: int | None, strict: bool, log_level: str, as_json: bool) -> None:
    """Start the plugins of a host in order, and stop them in reverse order on Ctrl-C, SIGTERM or
    SIGHUP.

    Plugins that fail do not keep the others from running, unless --strict. When none is running,
    it ends. Another Ctrl-C gives up the plugin that is stopping just then, and goes on with the
    next.

    Exit status: 0 all started and stopped; 1 a plugin failed to start or stop; 2 the command line
    or the configuration does not fit, and nothing was started.
    """
    if as_json:
        claim_stdout()
    endless()
    log_to_stderr(log_level)
    with reporting(as_json=as_json):
        status = _run(file, workers, strict=strict, as_json=as_json)
    raise click.exceptions.Exit(status)


def _run(file: str, workers: int | None, *, strict: bool, as_json: bool) -> int:
    from plugkeep.cli._story import JsonStory, Story, TextStory
    from plugkeep.config import read_config
    from plugkeep.errors import ConfigError
    from plugkeep.host import Host
    from plugkeep.lifecycle import UP

    config = read_config(file)
    if not config.plugins:
        raise ConfigError(f"{file} has no plugins: there is nothing to run", path=file)
    host = Host.from_config(config)
    if workers is not None:
        host.registry.workers = workers
    registry = host.registry
    width = max(map(len, registry))
    story: Story = JsonStory() if as_json else TextStory(width)
    registry.subscribe(story)

    def when_started() -> None:
        up = [name for name in registry if registry.state(name) in UP]
        story.running(up, len(registry))

    status = FAILED
    try:
        status = FAILED if host.run(strict=strict, when_started=when_started) else 0
    finally:
        story.ended(status)
    return status
