"""Plugins whose processes end by themselves, under a host that starts them again, or does not."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from plugkeep import Host, ProcessExitedError
from plugkeep.events import Event, Failed, Restarting, Started
from plugkeep.lifecycle import State
from plugkeep.restart import INTENSITY

PLUGIN = """
import os
from plugkeep import expose

class Plugin:
    name = "mayfly"
    def start(self): ...
    def stop(self): ...
    @expose
    def pid(self) -> int:
        return os.getpid()
    @expose
    def leave(self, status: int) -> None:
        os._exit(status)

PluginFactory = Plugin
"""


class Seen:
    """The events of a host, and waiting for them."""

    def __init__(self, host: Host) -> None:
        self.events: list[Event] = []
        self._more = threading.Condition()
        host.registry.subscribe(self._note)

    def _note(self, event: Event) -> None:
        with self._more:
            self.events.append(event)
            self._more.notify_all()

    def count(self, kind: type[Event]) -> int:
        return sum(isinstance(event, kind) for event in self.events)

    def wait_for(self, kind: type[Event], times: int) -> None:
        with self._more:
            said = self._more.wait_for(lambda: self.count(kind) >= times, 60)
        assert said, f"{kind.__name__} came {self.count(kind)} times, not {times}: {self.events}"


def make_host(folder: Path, restart: str) -> tuple[Host, Seen]:
    (folder / "mayfly.py").write_text(PLUGIN)
    config = folder / "plugkeep.toml"
    config.write_text(
        "[plugins.mayfly]\n"
        'source = "file:mayfly.py"\n'
        'isolation = "process"\n'
        f'restart = "{restart}"\n'
    )
    host = Host.from_file(config)
    return host, Seen(host)


@pytest.fixture
def permanent(tmp_path: Path) -> Iterator[tuple[Host, Seen]]:
    host, seen = make_host(tmp_path, "permanent")
    try:
        assert not host.start()
        yield host, seen
    finally:
        host.stop()


def leave(host: Host, status: int = 3) -> None:
    sandbox: Any = host.registry["mayfly"]
    with pytest.raises(ProcessExitedError):
        sandbox.call("leave", status)


def test_it_is_started_again_and_answers(permanent):
    host, seen = permanent
    before = host.registry["mayfly"].call("pid")
    os.kill(before, signal.SIGKILL)
    seen.wait_for(Started, 2)
    assert host.registry["mayfly"].call("pid") != before
    assert host.registry.state("mayfly") is State.RUNNING
    (restarting,) = (event for event in seen.events if isinstance(event, Restarting))
    assert "SIGKILL" in str(restarting.error)


def test_an_end_with_status_0_counts_too(permanent):
    host, seen = permanent
    leave(host, status=0)
    seen.wait_for(Started, 2)


def test_past_the_intensity_it_is_left_failed(permanent, caplog):
    host, seen = permanent
    for turn in range(INTENSITY + 1):
        seen.wait_for(Started, turn + 1)
        leave(host)
    seen.wait_for(Failed, 1)
    assert host.registry.state("mayfly") is State.FAILED
    assert seen.count(Started) == 1 + INTENSITY
    end = time.monotonic() + 60
    while "is not started again" not in caplog.text:  # which is said right after the event
        assert time.monotonic() < end, "it is not said in the log"
    host.registry.start("mayfly")  # by hand it can be
    assert host.registry["mayfly"].call("pid")


@pytest.mark.parametrize(("status", "comes_back"), [(0, False), (3, True)])
def test_transient_comes_back_after_an_abnormal_end(tmp_path, status, comes_back):
    host, seen = make_host(tmp_path, "transient")
    try:
        assert not host.start()
        leave(host, status)
        if comes_back:
            seen.wait_for(Started, 2)
        else:
            seen.wait_for(Failed, 1)
    finally:
        host.stop()


def test_temporary_is_failed_at_once_and_nothing_is_left_to_stop(tmp_path):
    host, seen = make_host(tmp_path, "temporary")
    assert not host.start()
    leave(host)
    seen.wait_for(Failed, 1)
    assert host.registry.state("mayfly") is State.FAILED
    assert host.stop() == []
    assert seen.count(Started) == 1


def test_what_is_stopped_does_not_come_back(permanent):
    host, seen = permanent
    begun, go_on = threading.Event(), threading.Event()

    def hold(event: Event) -> None:
        if isinstance(event, Restarting):
            begun.set()
            assert go_on.wait(60)

    unsubscribe = host.registry.subscribe(hold)
    leave(host)
    assert begun.wait(60)
    host.stop()
    assert host.registry.state("mayfly") is State.FAILED
    go_on.set()
    unsubscribe()
    host.stop()
    assert seen.count(Started) == 1


def test_a_host_that_is_stopped_while_it_crashes_leaves_nothing(tmp_path):
    for _ in range(5):
        host, _ = make_host(tmp_path, "permanent")
        assert not host.start()
        os.kill(host.registry["mayfly"].pid, signal.SIGKILL)
        host.stop()
        assert host.registry.state("mayfly") in (State.FAILED, State.STOPPED)
        host.stop()


# --- plugins that require one another -----------------------------------------------------------


def make_pair(folder: Path) -> tuple[Host, Seen]:
    """Return a host in which "user" requires "base"; both come back."""
    (folder / "mayfly.py").write_text(PLUGIN)
    config = folder / "plugkeep.toml"
    both = 'source = "file:mayfly.py"\nisolation = "process"\nrestart = "permanent"\n'
    config.write_text(f'[plugins.base]\n{both}[plugins.user]\n{both}requires = ["base"]\n')
    host = Host.from_file(config)
    return host, Seen(host)


def test_one_that_has_come_back_still_stops_after_those_that_require_it(tmp_path):
    host, seen = make_pair(tmp_path)
    assert not host.start()
    os.kill(host.registry["base"].pid, signal.SIGKILL)
    seen.wait_for(Started, 3)
    stopped: list[str] = []
    host.registry.subscribe(lambda event: stopped.append(event.plugin))
    host.stop()
    assert list(dict.fromkeys(stopped)) == ["user", "base"]


def test_two_that_end_at_the_same_moment_both_come_back(tmp_path):
    host, seen = make_pair(tmp_path)
    try:
        assert not host.start()
        for turn in range(3):
            for name in ("base", "user"):
                os.kill(host.registry[name].pid, signal.SIGKILL)
            seen.wait_for(Started, 4 + 2 * turn)
        assert {str(host.registry.state(name)) for name in ("base", "user")} == {"running"}
    finally:
        host.stop()


def test_what_requires_a_plugin_that_is_stopped_does_not_bring_it_back(tmp_path):
    host, seen = make_pair(tmp_path)
    begun, go_on = threading.Event(), threading.Event()

    def hold(event: Event) -> None:
        if isinstance(event, Restarting):
            begun.set()
            assert go_on.wait(60)

    try:
        assert not host.start()
        unsubscribe = host.registry.subscribe(hold)
        os.kill(host.registry["user"].pid, signal.SIGKILL)
        assert begun.wait(60)
        host.registry.stop("base")
        go_on.set()
        unsubscribe()
        assert host.registry.state("user") is State.FAILED
        assert host.registry.state("base") is State.STOPPED
    finally:
        go_on.set()
        host.stop()
    assert seen.count(Started) == 2
