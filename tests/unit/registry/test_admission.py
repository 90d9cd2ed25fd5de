"""What the host has a say in: whether a plugin that has started fits in."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from plugkeep import Registry, State, StopTimeoutError

PATIENCE = 30

#: Every way of running a plain plugin's methods.
FORMS: dict[str, tuple[dict[str, Any], Any]] = {
    "on the caller's thread": ({}, lambda registry: registry.start_all()),
    "with limits": (
        {"start_timeout": PATIENCE, "stop_timeout": PATIENCE},
        lambda registry: registry.start_all(),
    ),
    "with workers": ({}, lambda registry: registry.start_all(workers=2)),
    "on an event loop": ({}, lambda registry: asyncio.run(registry.astart_all())),
}


def refuse(name: str, plugin: object) -> None:
    if name.startswith("bad"):
        raise LookupError(f"no room for {name}")


@pytest.mark.parametrize("form", FORMS)
def test_what_is_refused_is_stopped_again_and_its_start_fails(record: Any, form: str) -> None:
    limits, start = FORMS[form]
    registry = Registry(**limits)
    registry.admit(refuse)
    registry.register(record.plugin("good"))
    registry.register(record.plugin("bad"))
    registry.register(record.plugin("needs", ["bad"]))
    errors = start(registry)
    assert [error.plugin for error in errors] == ["bad", "needs"]
    assert str(errors[0]) == "plugin 'bad' failed to start: LookupError: no room for bad"
    assert isinstance(errors[0].__cause__, LookupError)
    assert registry.state("bad") is State.FAILED
    assert sorted(record.lines) == ["+bad", "+good", "-bad"]
    assert registry.stop_all() == []
    assert record.lines.count("-bad") == 1


def test_an_asynchronous_one_is_stopped_in_its_own_task(record: Any) -> None:
    tasks: list[Any] = []

    async def note_task() -> None:
        tasks.append(asyncio.current_task())

    async def main() -> None:
        registry = Registry()
        registry.admit(refuse)
        registry.register(record.async_plugin("bad", on_start=note_task, on_stop=note_task))
        (error,) = await registry.astart_all()
        assert "no room for bad" in str(error)

    asyncio.run(main())
    assert record.lines == ["+bad", "-bad"]
    assert tasks[0] is tasks[1]


def test_it_is_asked_before_the_plugin_counts_as_running(record: Any) -> None:
    registry = Registry()
    seen: list[Any] = []
    registry.admit(lambda name, plugin: seen.append((name, plugin, registry.state(name))))
    plugin = record.plugin("a")
    registry.register(plugin)
    registry.start_all()
    assert seen == [("a", plugin, State.STARTING)]
    assert registry.state("a") is State.RUNNING


def test_each_returns_its_own_undo(record: Any) -> None:
    registry = Registry()
    undo = registry.admit(refuse)
    registry.register(record.plugin("bad"))
    assert len(registry.start_all()) == 1
    undo()
    undo()
    assert registry.start_all() == []


@pytest.mark.parametrize("form", FORMS)
def test_a_stop_that_fails_then_is_noted(record: Any, form: str) -> None:
    def fail() -> None:
        raise OSError("stuck")

    limits, start = FORMS[form]
    registry = Registry(**limits)
    registry.admit(refuse)
    registry.register(record.plugin("bad", on_stop=fail))
    (error,) = start(registry)
    assert "no room for bad" in str(error)
    notes = getattr(error, "__notes__", []) + getattr(error.__cause__, "__notes__", [])
    assert notes == ["plugin 'bad' failed to stop: OSError: stuck"]


def test_a_stop_that_hangs_then_holds_up_nobody(record: Any) -> None:
    import threading

    gate = threading.Event()
    registry = Registry(start_timeout=PATIENCE, stop_timeout=0.02)
    registry.admit(refuse)
    registry.register(record.plugin("bad", on_stop=lambda: gate.wait(PATIENCE)))
    registry.register(record.plugin("good"))
    (error,) = registry.start_all()
    assert "no room for bad" in str(error)
    assert any("did not stop within 0.02 s" in note for note in error.__notes__)
    assert not isinstance(error, StopTimeoutError)
    assert registry.state("good") is State.RUNNING
    gate.set()
