from __future__ import annotations

import threading
from typing import Any

import pytest

from plugkeep import Registry, StartTimeoutError, State, StillBusyError, StopTimeoutError, events

#: Seconds after which a test gives up; nothing takes anywhere near as long.
PATIENCE = 30


class Gate:
    """Holds a plugin's method until the test opens it."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self.entered = threading.Event()

    def __call__(self) -> None:
        self.entered.set()
        assert self._open.wait(PATIENCE)

    def open(self) -> None:
        self._open.set()


def late_returns(registry: Registry) -> Any:
    """Returns a function that waits for the next plugin to return late."""
    came = threading.Semaphore(0)
    seen: list[events.LateReturn] = []

    def listen(event: events.Event) -> None:
        if isinstance(event, events.LateReturn):
            seen.append(event)
            came.release()

    registry.subscribe(listen)

    def wait() -> events.LateReturn:
        assert came.acquire(timeout=PATIENCE), "nothing returned late"
        return seen.pop()

    return wait


def test_one_that_exceeds_its_limit_is_failed_and_the_others_go_on(record: Any) -> None:
    gate = Gate()
    registry = Registry(start_timeout=0.02)
    late = late_returns(registry)
    registry.register(record.plugin("slow", on_start=gate))
    registry.register(record.plugin("next"))
    (error,) = registry.start_all()

    assert isinstance(error, StartTimeoutError)
    assert isinstance(error, TimeoutError)
    assert error.plugin == "slow"
    assert error.timeout == 0.02
    assert "did not start within 0.02 s" in str(error)
    assert registry.state("slow") is State.FAILED
    assert registry.state("next") is State.RUNNING
    gate.open()
    assert late().plugin == "slow"
    registry.stop_all()


def test_it_cannot_start_again_until_the_method_has_returned(record: Any) -> None:
    gate = Gate()
    registry = Registry()
    late = late_returns(registry)
    registry.register(record.plugin("slow", on_start=gate, start_timeout=0.02))
    registry.start_all()
    (error,) = registry.start_all()
    assert isinstance(error, StillBusyError)
    assert record.lines == ["+slow"]

    gate.open()
    late()
    registry["slow"].start_timeout = None
    assert registry.start_all() == []
    assert registry.state("slow") is State.RUNNING
    registry.stop_all()


def test_a_start_that_succeeds_late_is_stopped_there_and_then(record: Any) -> None:
    gate = Gate()
    registry = Registry(start_timeout=0.02)
    late = late_returns(registry)
    registry.register(record.plugin("slow", on_start=gate))
    registry.start_all()
    gate.open()
    event = late()
    assert event.error is None
    assert event.duration is not None
    assert event.duration >= 0.02
    assert record.lines == ["+slow", "-slow"]
    assert record.threads["-slow"] is record.threads["+slow"]
    assert registry.state("slow") is State.FAILED
    assert registry.stop_all() == []


def test_a_start_that_fails_late_is_not_stopped(record: Any) -> None:
    gate = Gate()

    def fail_late() -> None:
        gate()
        raise OSError("after all")

    registry = Registry(start_timeout=0.02)
    late = late_returns(registry)
    registry.register(record.plugin("slow", on_start=fail_late))
    registry.start_all()
    gate.open()
    assert isinstance(late().error, OSError)
    assert record.lines == ["+slow"]


def test_a_stop_that_exceeds_its_limit(record: Any) -> None:
    gate = Gate()
    registry = Registry(stop_timeout=0.02)
    late = late_returns(registry)
    registry.register(record.plugin("a"))
    registry.register(record.plugin("slow", on_stop=gate))
    registry.start_all()
    (error,) = registry.stop_all()
    assert isinstance(error, StopTimeoutError)
    assert error.plugin == "slow"
    assert registry.state("a") is State.STOPPED
    assert registry.state("slow") is State.FAILED
    (busy,) = registry.start_all()
    assert isinstance(busy, StillBusyError)
    gate.open()
    late()
    assert registry.start_all() == []
    assert record.lines.count("-slow") == 1
    registry["slow"].stop_timeout = PATIENCE
    registry.stop_all()


def test_the_plugins_own_limit_goes_before_the_registrys(record: Any) -> None:
    gate = Gate()
    registry = Registry(start_timeout=PATIENCE)
    late = late_returns(registry)
    registry.register(record.plugin("slow", on_start=gate, start_timeout=0.02))
    (error,) = registry.start_all()
    assert isinstance(error, StartTimeoutError)
    gate.open()
    late()


@pytest.mark.parametrize("which", ["start_timeout", "stop_timeout"])
@pytest.mark.parametrize("limit", [0, -3, "5s", float("nan"), True, 10**400])
def test_a_limit_of_the_plugins_that_is_none_fails_it(record: Any, limit: Any, which: str) -> None:
    registry = Registry()
    registry.register(record.plugin("a", **{which: limit}))
    registry.register(record.plugin("b"))
    (error,) = registry.start_all()
    assert f"{which} of plugin 'a' is" in str(error)
    assert record.lines == ["+b"]
    assert registry.state("a") is State.FAILED


class Treacherous:
    """Each attribute that is named raises when it is read, once the plugin is registered."""

    name = "bad"
    registered = False

    def __init__(self, *attributes: str) -> None:
        self.attributes = attributes
        self.lines: list[str] = []

    def __getattribute__(self, attribute: str) -> Any:
        mine = object.__getattribute__(self, "__dict__")
        if mine.get("registered") and attribute in mine["attributes"]:
            raise OSError(f"{attribute} is gone")
        return object.__getattribute__(self, attribute)

    def start(self) -> None:
        self.lines.append("+")

    def stop(self) -> None:
        self.lines.append("-")


@pytest.mark.parametrize("attribute", ["start_timeout", "stop_timeout", "thread_bound", "start"])
@pytest.mark.parametrize("workers", [None, 2])
def test_an_attribute_that_raises_fails_that_plugin_alone(
    record: Any, attribute: str, workers: Any
) -> None:
    registry = Registry(workers=workers)
    bad = Treacherous(attribute)
    registry.register(record.plugin("a"))
    registry.register(bad)
    registry.register(record.plugin("c"))
    bad.registered = True
    (error,) = registry.start_all()
    assert error.plugin == "bad"
    assert f"{attribute} is gone" in str(error)
    assert [registry.state(name) for name in registry] == ["running", "failed", "running"]
    assert registry.stop_all() == []


@pytest.mark.parametrize("attribute", ["stop_timeout", "thread_bound", "stop"])
@pytest.mark.parametrize("limit", [None, PATIENCE])
def test_one_that_raises_only_later_keeps_nobody_from_being_stopped(
    record: Any, attribute: str, limit: Any, caplog: pytest.LogCaptureFixture
) -> None:
    registry = Registry(stop_timeout=limit)
    bad = Treacherous(attribute)
    registry.register(record.plugin("a"))
    registry.register(bad)
    registry.register(record.plugin("c"))
    assert registry.start_all() == []
    bad.registered = True
    errors = registry.stop_all()
    assert [error.plugin for error in errors] == (["bad"] if attribute == "stop" else [])
    assert bad.lines == (["+"] if attribute == "stop" else ["+", "-"])
    assert record.lines == ["+a", "+c", "-c", "-a"]


def test_without_a_limit_methods_run_on_the_callers_thread(record: Any) -> None:
    registry = Registry()
    registry.register(record.plugin("a"))
    with registry:
        pass
    assert record.threads["+a"] is record.threads["-a"] is threading.current_thread()


def test_with_a_limit_they_run_on_daemon_threads_of_their_own(record: Any) -> None:
    registry = Registry(start_timeout=PATIENCE, stop_timeout=PATIENCE)
    registry.register(record.plugin("a"))
    registry.register(record.plugin("b"))
    with registry:
        pass
    here = threading.current_thread()
    assert here not in record.threads.values()
    assert all(thread.daemon for thread in record.threads.values())
    assert record.threads["+a"] is not record.threads["+b"]


@pytest.mark.parametrize("limits", [{}, {"start_timeout": PATIENCE, "stop_timeout": PATIENCE}])
def test_a_thread_bound_plugin_starts_and_stops_on_one_thread(
    record: Any, limits: dict[str, float]
) -> None:
    registry = Registry(**limits)
    registry.register(record.plugin("a", thread_bound=True))
    registry.register(record.plugin("b", thread_bound=True))
    for _ in range(2):
        with registry:
            during = set(threading.enumerate())
            assert record.threads["+a"] in during
    assert record.threads["+a"] is record.threads["-a"]
    assert record.threads["+b"] is record.threads["-b"]
    assert record.threads["+a"] is not record.threads["+b"]


def test_a_thread_bound_plugin_that_fails_leaves_no_thread(record: Any) -> None:
    def fail() -> None:
        raise OSError

    registry = Registry()
    registry.register(record.plugin("a", on_start=fail, thread_bound=True))
    assert len(registry.start_all()) == 1
    record.threads["+a"].join(PATIENCE)
    assert not record.threads["+a"].is_alive()


def test_a_thread_bound_plugin_that_hangs_is_stopped_late_on_its_thread(record: Any) -> None:
    gate = Gate()
    registry = Registry(start_timeout=0.25)
    late = late_returns(registry)
    registry.register(record.plugin("a", on_start=gate, thread_bound=True))
    registry.start_all()
    gate.open()
    late()
    assert record.threads["+a"] is record.threads["-a"]
    record.threads["+a"].join(PATIENCE)
    assert not record.threads["+a"].is_alive()


def test_an_interrupt_that_lands_in_a_limited_start_propagates(record: Any) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    registry = Registry(start_timeout=PATIENCE)
    registry.register(record.plugin("a"))
    registry.register(record.plugin("b", on_start=interrupt))
    registry.register(record.plugin("c"))
    with pytest.raises(KeyboardInterrupt):
        registry.start_all()
    assert [registry.state(name) for name in "abc"] == ["running", "failed", "registered"]
    registry.stop_all()


def test_context_variables_of_the_caller_are_seen_in_the_threads(record: Any) -> None:
    from contextvars import ContextVar

    where: ContextVar[str] = ContextVar("where", default="nowhere")
    seen: list[str] = []
    registry = Registry(start_timeout=PATIENCE)
    registry.register(record.plugin("a", on_start=lambda: seen.append(where.get())))
    where.set("here")
    with registry:
        assert seen == ["here"]
