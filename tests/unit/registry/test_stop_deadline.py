"""Stopping all within a certain time, whatever plugins do."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from plugkeep import Registry
from plugkeep.errors import StopTimeoutError
from plugkeep.events import LateReturn


class Plugins:
    """Plugins of which some hang in their stops, until they are let go."""

    def __init__(self) -> None:
        self.registry = Registry()
        self.begun: list[str] = []
        self.gate = threading.Event()
        self.returned = threading.Semaphore(0)
        self.registry.subscribe(
            lambda event: self.returned.release() if isinstance(event, LateReturn) else None
        )
        self.hanging = 0

    def add(
        self, name: str, *, hangs: bool = False, asynchronous: bool = False, **more: Any
    ) -> None:
        plugins = self
        self.hanging += hangs

        class Plugin:
            def start(self) -> None: ...

            def stop(self) -> None:
                plugins.begun.append(name)
                if hangs:
                    plugins.gate.wait(60)

        class Async(Plugin):
            async def stop(self) -> None:  # type: ignore[override]
                plugins.begun.append(name)
                if hangs:
                    await asyncio.Event().wait()

        plugin: Any = Async() if asynchronous else Plugin()
        plugin.name = name
        vars(plugin).update(more)
        self.registry.register(plugin)


@pytest.fixture
def plugins() -> Iterator[Plugins]:
    found = Plugins()
    yield found
    found.gate.set()
    for _ in range(found.hanging):
        assert found.returned.acquire(timeout=60)


def test_one_that_hangs_does_not_take_the_time_of_those_after_it(plugins):
    for number in range(10):
        plugins.add(f"p{number}", hangs=number in (4, 7))
    plugins.registry.start_all()
    errors = plugins.registry.stop_all(timeout=0.4)
    assert [error.plugin for error in errors] == ["p7", "p4"]
    assert all(isinstance(error, StopTimeoutError) for error in errors)
    assert plugins.begun == [f"p{number}" for number in reversed(range(10))]
    assert plugins.registry.state("p0") == "stopped"


def test_no_limit_of_its_own_gives_a_plugin_more_time(plugins):
    plugins.add("patient", hangs=True, stop_timeout=3600.0)
    plugins.add("last")
    plugins.registry.start_all()
    (error,) = plugins.registry.stop_all(timeout=0.1)
    assert error.plugin == "patient"


def test_its_own_shorter_limit_still_counts(plugins):
    plugins.add("first")
    plugins.add("hasty", hangs=True, stop_timeout=0.05)
    plugins.registry.start_all()
    (error,) = plugins.registry.stop_all(timeout=60)
    assert "within 0.05 s" in str(error)
    assert plugins.begun == ["hasty", "first"]


def test_without_any_time_all_are_told_to_stop_at_once(plugins):
    for number in range(20):
        plugins.add(f"p{number}", hangs=number % 2 == 0)
    plugins.registry.start_all()
    errors = plugins.registry.stop_all(timeout=0)
    assert len(plugins.begun) == 20
    assert {error.plugin for error in errors} == {f"p{number}" for number in range(0, 20, 2)}


@pytest.mark.parametrize("asynchronous", [False, True])
def test_in_an_event_loop(plugins, asynchronous):
    for number in range(6):
        plugins.add(f"p{number}", hangs=number == 3, asynchronous=asynchronous)

    async def main() -> None:
        await plugins.registry.astart_all()
        (error,) = await plugins.registry.astop_all(timeout=0.2)
        assert error.plugin == "p3"
        assert plugins.begun == [f"p{number}" for number in reversed(range(6))]

    asyncio.run(main())


@pytest.mark.parametrize(("timeout", "error"), [(-1, ValueError), ("5s", TypeError)])
def test_a_time_that_is_none_stops_nothing(plugins, timeout, error):
    plugins.add("a")
    plugins.registry.start_all()
    with pytest.raises(error, match="timeout is"):
        plugins.registry.stop_all(timeout=timeout)
    assert plugins.begun == []
