"""Events, states and capabilities: how others see what the registry does."""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from typing import Any, Protocol, runtime_checkable

import pytest

from plugkeep import Registry, State, events
from plugkeep.errors import IllegalTransitionError
from plugkeep.lifecycle import TRANSITIONS, check_transition


def shown(seen: list[events.Event]) -> list[str]:
    return [f"{type(event).__name__} {event.plugin}" for event in seen]


def test_every_step_is_an_event(record: Any) -> None:
    cause = OSError("no")

    def fail() -> None:
        raise cause

    registry = Registry()
    seen: list[events.Event] = []
    registry.subscribe(seen.append)
    before = time.time()
    registry.register(record.plugin("a"))
    registry.register(record.plugin("bad", on_start=fail))
    registry.register(record.plugin("needs", ["bad"]))
    registry.start_all()
    registry.stop_all()
    registry.unregister("a")
    assert shown(seen) == [
        "Registered a",
        "Registered bad",
        "Registered needs",
        "Starting a",
        "Started a",
        "Starting bad",
        "StartFailed bad",
        "StartSkipped needs",
        "Stopping a",
        "Stopped a",
        "Unregistered a",
    ]
    assert all(before <= event.time <= time.time() for event in seen)
    started, failed, skipped = seen[4], seen[6], seen[7]
    assert started.duration is not None
    assert started.duration >= 0
    assert failed.error is not None
    assert failed.error.__cause__ is cause
    assert "'bad', which it requires" in str(skipped.error)


def test_events_are_frozen(record: Any) -> None:
    event = events.Started(plugin="a", time=0.0, duration=0.1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        event.plugin = "b"  # type: ignore[misc]
    assert event == events.Started(plugin="a", time=0.0, duration=0.1)
    assert event != events.Stopped(plugin="a", time=0.0, duration=0.1)
    assert "Started(plugin='a'" in repr(event)


def test_a_subscription_returns_its_own_undo(record: Any) -> None:
    registry = Registry()
    first: list[events.Event] = []
    second: list[events.Event] = []
    undo_first = registry.subscribe(first.append)
    registry.subscribe(second.append)
    registry.subscribe(second.append)
    registry.register(record.plugin("a"))
    undo_first()
    undo_first()
    registry.register(record.plugin("b"))
    assert shown(first) == ["Registered a"]
    assert shown(second) == ["Registered a"] * 2 + ["Registered b"] * 2


def test_a_listeners_exception_is_logged_and_harms_nobody(
    record: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(event: events.Event) -> None:
        raise ZeroDivisionError("listener")

    registry = Registry()
    seen: list[events.Event] = []
    registry.subscribe(broken)
    registry.subscribe(seen.append)
    registry.register(record.plugin("a"))
    with caplog.at_level(logging.ERROR, "plugkeep"):
        assert registry.start_all() == []
    assert shown(seen) == ["Registered a", "Starting a", "Started a"]
    assert "a listener failed on Starting of plugin 'a'" in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_what_a_plugin_raised_is_logged_with_its_traceback_for_debugging(
    record: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def fail_somewhere() -> None:
        raise OSError("no disk")

    registry = Registry()
    registry.register(record.plugin("a", on_start=fail_somewhere))
    with caplog.at_level(logging.DEBUG, "plugkeep"):
        registry.start_all()
    (logged,) = caplog.records
    assert logged.levelname == "DEBUG"
    assert "plugin 'a' failed to start" in caplog.text
    assert "in fail_somewhere" in caplog.text


def test_no_lock_is_held_while_listeners_run(record: Any) -> None:
    """A listener that waits for another thread which uses the registry gets its answer."""
    registry = Registry()
    states: list[State] = []

    def ask(event: events.Event) -> None:
        helper = threading.Thread(target=lambda: states.append(registry.state(event.plugin)))
        helper.start()
        helper.join(30)

    registry.subscribe(ask)
    registry.register(record.plugin("a"))
    registry.start_all()
    assert states == [State.REGISTERED, State.STARTING, State.RUNNING]


def test_events_come_on_the_thread_where_they_happen(record: Any) -> None:
    registry = Registry()
    threads: list[threading.Thread] = []
    registry.subscribe(lambda event: threads.append(threading.current_thread()))
    registry.register(record.plugin("a"))
    registry.start_all()
    assert set(threads) == {threading.current_thread()}


def test_an_interrupt_from_a_listener_leaves_no_plugin_in_between(record: Any) -> None:
    registry = Registry()

    def interrupt(event: events.Event) -> None:
        if isinstance(event, events.Starting):
            raise KeyboardInterrupt

    registry.register(record.plugin("a"))
    undo = registry.subscribe(interrupt)
    for form in ({}, {"workers": 1}):
        with pytest.raises(KeyboardInterrupt):
            registry.start_all(**form)
        assert registry.state("a") is State.FAILED
    undo()
    assert record.lines == []
    assert registry.start_all() == []


# --- states -----------------------------------------------------------------------------------


def test_the_states_are_text() -> None:
    assert State.RUNNING == "running"
    assert f"{State.FAILED}" == "failed"


def test_the_table_is_whole() -> None:
    assert set(TRANSITIONS) == set(State)
    reachable = {State.REGISTERED}
    for _ in State:
        reachable |= {new for old in reachable for new in TRANSITIONS[old]}
    assert reachable == set(State)
    assert all(old not in new for old, new in TRANSITIONS.items()), "a way from a state to itself"


def test_what_the_table_does_not_allow_is_refused_by_name() -> None:
    check_transition("a", State.REGISTERED, State.STARTING)
    with pytest.raises(IllegalTransitionError, match="'a' cannot go from registered to running"):
        check_transition("a", State.REGISTERED, State.RUNNING)


# --- capabilities -----------------------------------------------------------------------------


@runtime_checkable
class Greets(Protocol):
    def greet(self) -> str: ...


class NotRuntime(Protocol):
    def greet(self) -> str: ...


class Greeter:
    def __init__(self, name: str) -> None:
        self.name = name

    def start(self) -> None: ...
    def stop(self) -> None: ...

    def greet(self) -> str:
        return f"hello from {self.name}"


def test_providing_yields_running_plugins_that_implement_it_in_order(record: Any) -> None:
    registry = Registry()
    registry.register(Greeter("z"))
    registry.register(record.plugin("mute"))
    registry.register(Greeter("a"))
    registry.register(Greeter("idle"))
    assert list(registry.providing(Greets)) == []
    registry.start("a")
    registry.start("mute")
    registry.start("z")
    assert [each.greet() for each in registry.providing(Greets)] == [
        "hello from z",
        "hello from a",
    ]
    assert len(list(registry.providing(Greeter))) == 2
    registry.stop_all()
    assert list(registry.providing(Greets)) == []


def test_capability_of_one(record: Any) -> None:
    registry = Registry()
    registry.register(Greeter("a"))
    registry.register(record.plugin("mute"))
    assert registry.capability("a", Greets) is None
    registry.start_all()
    greeter = registry.capability("a", Greets)
    assert greeter is not None
    assert greeter.greet() == "hello from a"
    assert registry.capability("mute", Greets) is None
    assert registry.capability("nobody", Greets) is None


def test_a_protocol_that_cannot_be_asked_for_is_explained() -> None:
    registry = Registry()
    registry.register(Greeter("a"))
    registry.start_all()
    with pytest.raises(TypeError, match=r"@typing\.runtime_checkable"):
        list(registry.providing(NotRuntime))


def test_iteration_survives_changes() -> None:
    registry = Registry()
    for name in "abc":
        registry.register(Greeter(name))
    registry.start_all()
    seen = []
    for each in registry.providing(Greets):
        seen.append(each.greet())
        if len(seen) == 1:
            registry.stop("b")
            registry.unregister("b")
            registry.register(Greeter("d"))
    assert seen == ["hello from a", "hello from c"]
    assert list(registry) == ["a", "c", "d"]
