"""``plugkeep run``: start all, wait, stop all."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from plugkeep.cli._app import (
    FAILED,
    examples,
    file_argument,
    json_option,
    load_host,
    reporting,
)
from plugkeep.cli._late import ignoring_late_signals
from plugkeep.cli._output import claim_stdout, endless, incidental, log_to_stderr
from plugkeep.cli._serving import Address, Size, WebServer
from plugkeep.events import Stopping

if TYPE_CHECKING:
    from plugkeep.cli._reloading import Reloading
    from plugkeep.cli._story import Story
    from plugkeep.cli._timeline import Timeline
    from plugkeep.config import HostConfig
    from plugkeep.events import Event
    from plugkeep.host import Host

log = logging.getLogger("plugkeep.cli")


@click.command(
    short_help="Start all plugins, wait for a signal, stop them.",
    epilog=examples(
        "plugkeep run",
        "plugkeep run shop.toml --workers 4",
        "plugkeep run --strict --log-level warning",
        "plugkeep run --serve 127.0.0.1:0",
        "plugkeep run --reload",
        "plugkeep run --timeline start.svg",
        "plugkeep run --json",
    ),
)
@file_argument
@click.option(
    "--workers",
    type=click.IntRange(1, 1024),
    help="How many plugins may start side by side; instead of what the file says.",
)
@click.option(
    "--serve",
    type=Address(),
    metavar="HOST:PORT",
    help="Serve the plugins' routes there, or end; port 0 is any that is free.",
)
@click.option(
    "--max-body",
    type=Size(),
    metavar="SIZE",
    help="With --serve: refuse requests whose body has more, such as 10MiB.",
)
@click.option(
    "--timeline",
    type=click.Path(dir_okay=False, writable=True),
    metavar="FILE",
    help="Draw how long each plugin took to start, and write that there (SVG).",
)
@click.option(
    "--reload",
    "reloads",
    is_flag=True,
    help="Reload plugins whose files change, and go by the file of the host as it changes.",
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
def command(
    file: str,
    *,
    workers: int | None,
    serve: tuple[str, int] | None,
    max_body: int | None,
    timeline: str | None,
    reloads: bool,
    strict: bool,
    log_level: str,
    as_json: bool,
) -> None:
    """Start the plugins of a host in order, and stop them in reverse order on Ctrl-C, SIGTERM or
    SIGHUP.

    Plugins that fail do not keep the others from running, unless --strict. When none is running,
    it ends, unless --reload. Another Ctrl-C gives up the plugin that is stopping just then, and
    goes on with the next.

    Exit status: 0 all started and stopped; 1 a plugin failed to start or stop; 2 the command line
    or the configuration does not fit, and nothing was started.
    """
    if as_json:
        claim_stdout()
    log_to_stderr(log_level)
    with reporting(as_json=as_json):
        if timeline is not None and not Path(timeline).parent.is_dir():
            raise click.BadParameter(
                f"there is no folder {str(Path(timeline).parent)!r}", param_hint="--timeline"
            )
        if max_body is not None and serve is None:
            raise click.BadParameter(
                "it is for --serve, which is not given", param_hint="--max-body"
            )
        config = _read(file)
        host = _make_host(config, workers)
        server = WebServer(host, serve, max_body) if serve else None
        if server:
            host.registry.register(server)
        with ignoring_late_signals(host.registry):
            duty = _reloading(host, config) if reloads else None
            status = _run(host, server, timeline, strict=strict, as_json=as_json, duty=duty)
    raise click.exceptions.Exit(status)


def _read(file: str) -> HostConfig:
    from plugkeep.config import read_config
    from plugkeep.errors import ConfigError

    config = read_config(file)
    if not config.plugins:
        raise ConfigError(f"{file} has no plugins: there is nothing to run", path=file)
    return config


def _make_host(config: HostConfig, workers: int | None) -> Host:
    host = load_host(config)
    if workers is not None:
        host.registry.workers = workers
    return host


def _reloading(host: Host, config: HostConfig) -> Callable[[Story], Reloading]:
    from plugkeep.cli._reloading import Reloading

    return partial(Reloading, host, config, lambda: _read(config.path))


def _run(
    host: Host,
    server: WebServer | None,
    timeline: str | None,
    *,
    strict: bool,
    as_json: bool,
    duty: Callable[[Story], Reloading] | None,
) -> int:
    from plugkeep.cli._story import JsonStory, TextStory
    from plugkeep.cli._timeline import Timeline
    from plugkeep.host.running import Interrupted
    from plugkeep.lifecycle import UP

    registry = host.registry
    width = max(map(len, registry))
    story: Story = JsonStory() if as_json else TextStory(width)
    registry.subscribe(story)
    started = Timeline(registry)
    unsubscribe = registry.subscribe(started)
    endless(until_signal=True)
    incidental()
    registry.subscribe(_note_the_end)

    def when_started() -> None:
        unsubscribe()
        if timeline is not None:
            _draw(started, timeline)
        up = [name for name in registry if registry.state(name) in UP]
        if server and server.name not in up:  # what was asked for cannot be had; said already
            raise Interrupted
        story.running(up, len(registry), server.url if server and server.name in up else None)

    status = FAILED
    try:
        with duty(story) if duty else nullcontext() as attending:
            errors = host.run(strict=strict, when_started=when_started, duty=attending)
        status = FAILED if errors else 0
    finally:
        story.ended(status)
    return status


def _draw(started: Timeline, file: str) -> None:
    from plugkeep.cli._timeline import svg

    try:
        Path(file).write_text(svg(started.bars), encoding="utf-8")
    except OSError as error:  # what has been started is worth more than a drawing
        log.error("the timeline could not be written to %s: %s", file, error.strerror)  # noqa: TRY400


def _note_the_end(event: Event) -> None:
    if isinstance(event, Stopping):  # then no signal is needed any more to bring it about
        endless(until_signal=False)
