"""Applications whose lifespan does not go as it should: the plugin's start and stop say so."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from plugkeep import Host, isolate, load
from plugkeep.channel import workers
from plugkeep.errors import PluginError
from plugkeep.lifecycle import State

SOURCE = f"file:{Path(__file__).with_name('naughty.py')}:Live"

Make = Callable[..., Host]


@pytest.fixture(autouse=True)
def _impatient_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have idle threads end at once, so that no test has to wait for that."""
    monkeypatch.setattr(workers._shared, "_idle_for", 0.02)


@pytest.fixture(params=["in-process", "sandboxed"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def make(kind: str) -> Make:
    """Return a function that makes a host with a plugin whose lifespan goes as told."""

    def make(start: float = 30.0, stop: float = 30.0, **config: str) -> Host:
        host = Host()
        if kind == "sandboxed":
            limits = {"start_timeout": start, "stop_timeout": stop}
            plugin: Any = isolate(SOURCE, name="live", config=config, **limits)
        else:
            plugin = load(SOURCE)()
            plugin.config = config
            plugin.start_timeout, plugin.stop_timeout = start, stop
        host.registry.register(plugin)
        host.routes  # noqa: B018  # who serves nothing needs no lifespans either
        return host

    return make


def texts(errors: list[PluginError]) -> str:
    return "\n".join(map(str, errors))


async def started(host: Host) -> str:
    """Return what goes wrong with the start of a host, which is then stopped."""
    problems = texts(await host.astart())
    assert host.registry.state("live") in (State.FAILED, State.STOPPED)
    await host.astop()
    return problems


@pytest.mark.parametrize(
    ("step", "pattern"),
    [
        ("fail", r"startup.*'live'.*the startup is not to be"),
        ("fail without a word", r"startup.*'live' failed"),
    ],
)
def test_a_startup_that_fails(step: str, pattern: str, make: Make) -> None:
    assert re.search(pattern, asyncio.run(started(make(startup=step))), re.DOTALL)


@pytest.mark.parametrize("kind", ["in-process"], indirect=True)
def test_what_waits_on_after_its_startup_has_failed_is_ended(make: Make) -> None:
    async def main() -> set[str]:
        await started(make(startup="fail without a word"))
        return {task.get_name() for task in asyncio.all_tasks()}

    assert "plugkeep-lifespan-live" not in asyncio.run(main())


def test_a_startup_that_hangs(make: Make) -> None:
    problems = asyncio.run(started(make(start=1.0, startup="hang")))
    assert "live" in problems
    assert re.search(r"1(\.0)? ?s", problems), problems


@pytest.mark.parametrize("step", ["raise", "return"])
def test_an_application_without_a_lifespan(step: str, make: Make) -> None:
    """It raises, or just returns: servers take that for none."""

    async def live(host: Host) -> tuple[list[PluginError], State, list[PluginError]]:
        return await host.astart(), host.registry.state("live"), await host.astop()

    assert asyncio.run(live(make(startup=step))) == ([], State.RUNNING, [])


@pytest.mark.parametrize(
    ("step", "pattern"),
    [
        ("fail", r"shutdown.*'live'.*the shutdown is not to be"),
        ("fail without a word", r"shutdown.*'live' failed"),
    ],
)
def test_a_shutdown_that_fails(step: str, pattern: str, make: Make) -> None:
    async def live(host: Host) -> list[PluginError]:
        assert not await host.astart()
        return await host.astop()

    assert re.search(pattern, texts(asyncio.run(live(make(shutdown=step)))), re.DOTALL)


@pytest.mark.parametrize("step", ["raise", "return"])
def test_a_shutdown_that_ends_otherwise(step: str, make: Make) -> None:
    async def live(host: Host) -> list[PluginError]:
        assert not await host.astart()
        return await host.astop()

    assert not asyncio.run(live(make(shutdown=step)))


def test_a_shutdown_that_hangs(make: Make) -> None:
    async def live(host: Host) -> tuple[list[PluginError], State]:
        assert not await host.astart()
        problems = await host.astop()
        return problems, host.registry.state("live")

    problems, state = asyncio.run(live(make(stop=0.1, shutdown="hang")))
    assert "live" in texts(problems)
    assert state in (State.FAILED, State.STOPPED)


def test_the_plugin_is_stopped_whose_application_cannot_start(
    kind: str, make: Make, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level("INFO")
    asyncio.run(started(make(startup="fail")))
    said = caplog.text if kind == "sandboxed" else capsys.readouterr().out
    assert said.count("the plugin was stopped") == 1


def test_plain_start_and_stop_have_the_lifespan_as_well(kind: str, make: Make) -> None:
    """A sandbox has its own event loop; in process there is none to run it on."""
    host = make(shutdown="fail")
    problems = host.start()
    if kind == "in-process":
        host.stop()
        return
    assert not problems
    assert "the shutdown is not to be" in texts(host.stop())
