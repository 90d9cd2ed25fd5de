"""What gets in the way of supervision, and of stopping all: plugins in the middle of something."""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import Any

import pytest

from plugkeep import Host, Registry, RestartPolicy
from plugkeep.errors import StartError
from plugkeep.events import Event, Failed, Quarantined, Restarting, Started, Stopping
from plugkeep.registry.recovery import Recovery
from plugkeep.supervision import Supervisor

PROCESS = 'isolation = "process"\n'


class Plain:
    """A plugin in this process, whose start and stop do what they are given."""

    def __init__(self, name: str, start: Any = None, stop: Any = None, **more: Any) -> None:
        self.name = name
        self._start, self._stop = start, stop
        vars(self).update(more)

    def start(self) -> None:
        if self._start is not None:
            self._start()

    def stop(self) -> None:
        if self._stop is not None:
            self._stop()


class Supervised:
    """A registry whose plugins all come back at once."""

    def __init__(self, *plugins: Plain, **policy: Any) -> None:
        self.registry = Registry()
        for plugin in plugins:
            self.registry.register(plugin)
        self.policy = RestartPolicy(when="permanent", delay=0, **policy)
        self._supervisor = Supervisor(self.registry, lambda _: self.policy)
        self.registry.recovery.follow(self._supervisor.look_after)
        assert isinstance(self.registry.recovery, Recovery)
        self._heard = threading.Condition()
        self._events: list[str] = []
        self.registry.subscribe(self._hear)

    def _hear(self, event: Event) -> None:
        with self._heard:
            self._events.append(f"{type(event).__name__} {event.plugin}")
            self._heard.notify_all()

    def until(self, *told: str) -> None:
        with self._heard:
            found = self._heard.wait_for(lambda: all(each in self._events for each in told), 60)
        assert found, self._events


@pytest.mark.parametrize("timeout", [0, 0.2])
def test_a_stop_that_hangs_on_the_way_back_does_not_keep_all_from_being_stopped(timeout):
    gate, inside = threading.Event(), threading.Event()

    def hang() -> None:
        inside.set()
        gate.wait(60)

    stopped: list[str] = []
    one = Supervised(Plain("hangs", stop=hang), Plain("good", stop=lambda: stopped.append("good")))
    assert one.registry.start_all() == []
    one.registry.report_failure("hangs", OSError("no"))
    assert inside.wait(60)
    try:
        one.registry.stop_all(timeout=timeout)
        assert stopped == ["good"]
        assert str(one.registry.state("hangs")) in ("failed", "stopped")
    finally:
        gate.set()
        one.until("LateReturn hangs")
        one.registry.stop_all()


def test_a_start_that_hangs_on_the_way_back_does_not_either():
    gate, inside, again = threading.Event(), threading.Event(), threading.Event()

    def start() -> None:
        if again.is_set():
            inside.set()
            gate.wait(60)
        again.set()

    one = Supervised(Plain("hangs", start=start))
    assert one.registry.start_all() == []
    one.registry.report_failure("hangs", OSError("no"))
    assert inside.wait(60)
    try:
        one.registry.stop_all(timeout=0.2)
        assert str(one.registry.state("hangs")) in ("failed", "stopped")
    finally:
        gate.set()
        one.until("LateReturn hangs")
        one.registry.stop_all()


def test_what_fails_while_all_is_being_stopped_does_not_come_back():
    gate, inside = threading.Event(), threading.Event()

    def wait() -> None:
        inside.set()
        gate.wait(60)

    def fail() -> None:
        raise OSError("no stop either")

    one = Supervised(Plain("fails", stop=fail), Plain("slow", stop=wait))
    assert one.registry.start_all() == []
    stopping = threading.Thread(target=one.registry.stop_all)
    stopping.start()
    assert inside.wait(60)
    one.registry.report_failure("fails", OSError("no"))
    gate.set()
    stopping.join(60)
    one.until("StopFailed fails")
    # Whoever was to clear it up has had its turn after this one.
    one.registry.register(Plain("next"))
    one.registry.start("next")
    one.registry.stop("next")
    assert one.registry.state("fails") == "failed"


def test_a_sys_exit_of_a_user_keeps_nobody_from_coming_back():
    one = Supervised(Plain("base"), Plain("user", stop=lambda: sys.exit(3), requires=("base",)))
    assert one.registry.start_all() == []
    one.registry.report_failure("base", OSError("no"), ended=True)
    one.until("Started user", "Restarting user")
    end = time.monotonic() + 60
    while {str(one.registry.state(name)) for name in one.registry} != {"running"}:
        assert time.monotonic() < end, "they do not come back"
    with pytest.raises(SystemExit):
        one.registry.stop_all()
    one.registry.stop_all()


def test_a_sys_exit_in_its_start_is_a_failure_like_any_other():
    again = threading.Event()

    def start() -> None:
        if again.is_set():
            sys.exit(3)
        again.set()

    one = Supervised(Plain("base", start=start), Plain("user", requires=("base",)), intensity=2)
    assert one.registry.start_all() == []
    one.registry.report_failure("base", OSError("no"), ended=True)
    one.until("Quarantined base", "Failed user")
    assert (one.registry.state("base"), one.registry.state("user")) == ("quarantined", "failed")


def test_those_that_are_up_are_stopped_when_what_they_require_is_given_up(make):
    host, seen = make(
        base=PROCESS + 'restart = { when = "permanent", delay = 0, intensity = 1 }',
        user='requires = ["base"]',
    )
    assert not host.start()
    for turn in range(2):
        seen.wait_for(Started, turn + 1, "user")
        seen.leave("base")
    seen.wait_for(Quarantined)
    seen.until(lambda: seen.count(Failed, "user"), "user failed")
    assert (seen.state("base"), seen.state("user")) == ("quarantined", "failed")
    assert seen.count(Stopping, "user") == 2


def test_what_it_reports_while_it_starts_counts_when_it_is_up():
    registry = Registry()
    plugin = Plain("early", start=lambda: registry.report_failure("early", OSError("too soon")))
    registry.register(plugin)
    registry.start_all()
    assert registry.state("early") == "failed"
    assert "too soon" in str(registry.failure("early"))
    registry.stop_all()


def test_whoever_holds_on_to_a_sandbox_has_it_after_a_reload_of_one_that_was_down(make):
    host, seen = make(
        mayfly=PROCESS + 'restart = { when = "permanent", delay = "1h", max_delay = "1h" }'
    )
    assert not host.start()
    held: Any = host.registry["mayfly"]
    seen.leave("mayfly")
    seen.wait_for(Restarting)
    host.reload("mayfly")
    assert held.call("pid") != os.getpid()
    assert host.registry["mayfly"] is held


def test_an_old_one_that_ends_while_the_new_one_is_refused_comes_back(make):
    host, seen = make(mayfly=PROCESS + 'restart = { when = "permanent", delay = 0 }')
    assert not host.start()
    old = host.registry["mayfly"].pid

    def refuse(_name: str, plugin: Any) -> None:
        if plugin.pid != old:
            os.kill(old, 9)
            raise ValueError("it does not fit")

    undo = host.registry.admit(refuse)
    with pytest.raises(StartError, match="it does not fit"):
        host.reload("mayfly")
    undo()
    seen.wait_for(Started, 2)
    assert host.registry["mayfly"].call("pid") != old


def test_a_listener_that_exits_keeps_nobody_from_hearing():
    heard: list[str] = []
    registry = Registry()
    registry.register(Plain("one"))
    registry.subscribe(lambda event: sys.exit(1) if isinstance(event, Started) else None)
    registry.subscribe(lambda event: heard.append(type(event).__name__))
    with pytest.raises(SystemExit):
        registry.start_all()
    assert "Started" in heard
    registry.stop_all()


def test_a_health_that_exits_is_a_reason_like_any_other():
    host = Host()
    host.registry.register(Plain("odd", health=lambda: sys.exit(3)))
    with host:
        assert host.health("odd", timeout=60) == "health() raised SystemExit: 3"
        assert host.registry.state("odd") == "degraded"
