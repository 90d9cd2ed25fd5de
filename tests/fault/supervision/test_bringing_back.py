"""Plugins that fail, under a host that starts them again, or does not."""

from __future__ import annotations

import logging
import threading
import time

import pytest

from plugkeep import Registry
from plugkeep.errors import ProcessExitedError, RequirementFailedError, StartError
from plugkeep.events import (
    Event,
    Failed,
    Quarantined,
    Restarting,
    Started,
    StartFailed,
    Stopped,
)
from plugkeep.lifecycle import State

PROCESS = 'isolation = "process"\n'
PERMANENT = PROCESS + 'restart = "permanent"\n'
#: Without pauses, for tests that are about something else.
AT_ONCE = PROCESS + 'restart = { when = "permanent", delay = 0 }\n'


def test_it_is_started_again_and_answers(make):
    host, seen = make(mayfly=PERMANENT)
    assert not host.start()
    before = host.registry["mayfly"].call("pid")
    seen.kill("mayfly")
    seen.wait_for(Started, 2)
    assert host.registry["mayfly"].call("pid") != before
    assert host.registry.state("mayfly") is State.RUNNING
    (failed,), (restarting,) = seen.of(Failed), seen.of(Restarting)
    assert "SIGKILL" in str(failed.error)
    assert 0.08 <= restarting.delay <= 0.1
    assert host.registry.failure("mayfly") is None


def test_an_end_with_status_0_counts_too(make):
    host, seen = make(mayfly=PERMANENT)
    assert not host.start()
    seen.leave("mayfly", status=0)
    seen.wait_for(Started, 2)


def test_past_the_intensity_it_is_quarantined_with_all_that_is_known(make, caplog):
    host, seen = make(mayfly=AT_ONCE)
    assert not host.start()
    for turn in range(6):
        seen.wait_for(Started, turn + 1)
        host.registry["mayfly"].call("say", f"turn {turn}")
        seen.leave("mayfly")
    seen.wait_for(Quarantined)
    assert host.registry.state("mayfly") is State.QUARANTINED
    assert seen.count(Started) == 6
    error = host.registry.failure("mayfly")
    assert isinstance(error, ProcessExitedError)
    assert error.returncode == 3
    assert seen.of(Quarantined)[0].error is error
    assert sorted(error.log) == [
        "stderr: turn 5 complained",
        "stdout: turn 5",
        "warning: turn 5 logged",
    ]
    end = time.monotonic() + 60
    while "quarantined; restart it by hand" not in caplog.text:  # said right after the event
        assert time.monotonic() < end, "it is not said in the log"
    assert "; the last that it logged:\n" in caplog.text
    assert "\n    stdout: turn 5" in caplog.text
    host.restart("mayfly")
    assert host.registry["mayfly"].call("pid")


def test_whoever_restarts_it_by_hand_begins_anew(make):
    host, seen = make(mayfly=PROCESS + 'restart = { when = "permanent", delay = 0, intensity = 1 }')
    assert not host.start()
    seen.leave("mayfly")
    seen.wait_for(Started, 2)
    seen.leave("mayfly")
    seen.wait_for(Quarantined)
    host.restart("mayfly")
    seen.leave("mayfly")
    seen.wait_for(Started, 4)


@pytest.mark.parametrize(("status", "comes_back"), [(0, False), (3, True)])
def test_transient_comes_back_after_an_abnormal_end(make, status, comes_back):
    host, seen = make(mayfly=PROCESS + 'restart = "transient"')
    assert not host.start()
    seen.leave("mayfly", status)
    if comes_back:
        seen.wait_for(Started, 2)
    else:
        seen.wait_for(Failed, 1)
        assert host.registry.state("mayfly") is State.FAILED


def test_temporary_is_failed_at_once_and_nothing_is_left_to_stop(make):
    host, seen = make(mayfly=PROCESS)
    assert not host.start()
    seen.leave("mayfly")
    seen.wait_for(Failed, 1)
    assert host.registry.state("mayfly") is State.FAILED
    assert host.stop() == []
    assert seen.count(Started) == 1


def test_what_is_stopped_does_not_come_back(make):
    host, seen = make(mayfly=PERMANENT)
    assert not host.start()
    begun, go_on = threading.Event(), threading.Event()

    def hold(event: Event) -> None:
        if isinstance(event, Restarting):
            begun.set()
            assert go_on.wait(60)

    unsubscribe = host.registry.subscribe(hold)
    seen.leave("mayfly")
    assert begun.wait(60)
    host.stop()
    assert host.registry.state("mayfly") is State.STOPPED
    go_on.set()
    unsubscribe()
    seen.wait_for(Stopped)
    host.stop()
    assert seen.count(Started) == 1


def test_a_host_that_is_stopped_while_it_crashes_leaves_nothing(make):
    for _ in range(5):
        host, seen = make(mayfly=PERMANENT)
        assert not host.start()
        seen.kill("mayfly")
        host.stop()
        assert seen.state("mayfly") in ("failed", "stopped")
        host.stop()


# --- starts that fail -----------------------------------------------------------------------------


def test_a_start_that_fails_is_tried_again(make, broken):
    host, seen = make(mayfly='restart = { when = "permanent", delay = 0, intensity = 1000 }')
    file = broken("mayfly")
    (error,) = host.start()
    assert "it is broken" in str(error)
    seen.wait_for(StartFailed, 3)
    file.unlink()
    seen.wait_for(Started)
    assert host.registry.state("mayfly") is State.RUNNING


@pytest.mark.parametrize("isolation", ["", PROCESS])
def test_a_start_that_fails_again_and_again_ends_in_quarantine(make, broken, isolation, caplog):
    broken("mayfly")
    host, seen = make(mayfly=isolation + 'restart = { when = "transient", delay = 0 }')
    assert len(host.start()) == 1
    seen.wait_for(Quarantined)
    assert seen.count(StartFailed) == 6
    assert isinstance(host.registry.failure("mayfly"), StartError if not isolation else Exception)
    assert "it is broken" in caplog.text
    with pytest.raises(Exception, match="it is broken"):
        host.restart("mayfly")  # which is a failure like any other
    seen.wait_for(Quarantined, 2)


def test_a_start_that_fails_on_the_way_back_counts_as_a_restart(make, broken):
    host, seen = make(mayfly=PROCESS + 'restart = { when = "permanent", delay = 0, intensity = 3 }')
    assert not host.start()
    broken("mayfly")
    seen.leave("mayfly")
    seen.wait_for(Quarantined)
    assert (seen.count(Restarting), seen.count(StartFailed)) == (3, 3)


def test_a_strict_start_brings_nothing_back(make, broken):
    broken("mayfly")
    host, seen = make(other=PROCESS, mayfly='restart = { when = "permanent", delay = "1h", '
                      'max_delay = "1h" }')  # fmt: skip
    with pytest.raises(ExceptionGroup), host:
        pass
    assert (seen.state("other"), seen.state("mayfly")) == ("stopped", "stopped")


# --- plugins that require one another -------------------------------------------------------------


def chain(requirement: str = AT_ONCE) -> dict[str, str]:
    """Return the tables of three that require one another, and of one that stands beside."""
    return {
        "base": requirement,
        "user": 'requires = ["base"]',
        "beside": PROCESS,
        "top": PROCESS + 'requires = ["user"]',
    }


def test_those_that_require_it_are_stopped_in_reverse_and_come_back_in_order(make):
    host, seen = make(**chain())
    assert not host.start()
    del seen.events[:]
    seen.leave("base")
    seen.wait_for(Started, 1, "top")
    assert seen.story() == [
        "Failed base",
        "Restarting base",
        "Stopping top",
        "Stopped top",
        "Stopping user",
        "Stopped user",
        "Restarting user",
        "Restarting top",
        "Starting base",
        "Started base",
        "Starting user",
        "Started user",
        "Starting top",
        "Started top",
    ]
    error = seen.of(Restarting, "user")[0].error
    assert isinstance(error, RequirementFailedError)
    assert "'base', which it requires, is restarting" in str(error)
    assert [str(e.plugin) for e in seen.of(Restarting) if e.delay is None] == ["user", "top"]


def test_or_they_stay_up(make):
    keep = PROCESS + 'restart = { when = "permanent", delay = 0, dependents = "keep" }'
    host, seen = make(**chain(keep))
    assert not host.start()
    del seen.events[:]
    seen.leave("base")
    seen.wait_for(Started, 1, "base")
    assert seen.story("user", "top", "beside") == []
    stopped: list[str] = []
    host.registry.subscribe(lambda event: stopped.append(event.plugin))
    host.stop()
    assert list(dict.fromkeys(stopped)) == ["top", "beside", "user", "base"]


def test_those_that_require_one_that_is_given_up_do_not_run_without_it(make, broken):
    host, seen = make(**chain(PROCESS + 'restart = { when = "permanent", delay = 0 }'))
    assert not host.start()
    file = broken("base")
    seen.leave("base")
    seen.wait_for(Quarantined)
    seen.until(lambda: seen.count(Failed, "top"), "top failed")
    assert {name: seen.state(name) for name in host.registry} == {
        "base": "quarantined", "user": "failed", "beside": "running", "top": "failed",
    }  # fmt: skip
    assert "'base', which it requires, is quarantined" in str(host.registry.failure("user"))
    file.unlink()
    host.restart("base")
    assert {seen.state(name) for name in host.registry} == {"running"}


def test_a_start_that_is_skipped_is_made_up_for(make, broken):
    file = broken("base")
    base = PROCESS + 'restart = { when = "permanent", delay = "100ms", intensity = 1000 }'
    host, seen = make(**chain(base))
    assert len(host.start()) == 3
    assert {name: seen.state(name) for name in ("user", "top", "beside")} == {
        "user": "restarting", "top": "restarting", "beside": "running",
    }  # fmt: skip
    file.unlink()
    seen.wait_for(Started, 1, "top")
    assert {seen.state(name) for name in host.registry} == {"running"}


def test_one_that_fails_to_come_back_with_it_is_left_to_its_own_policy(make, broken):
    host, seen = make(**chain())
    assert not host.start()
    broken("user")
    seen.leave("base")
    seen.wait_for(StartFailed, 1, "user")
    seen.until(lambda: seen.state("top") == "failed", "top failed")
    assert (seen.state("base"), seen.state("user")) == ("running", "failed")


def test_two_that_end_at_the_same_moment_both_come_back(make):
    host, seen = make(base=PERMANENT, user=PERMANENT + 'requires = ["base"]')
    assert not host.start()
    for turn in range(3):
        for name in ("base", "user"):
            seen.kill(name)
        up = 2 + turn
        seen.until(
            lambda up=up: seen.count(Started, "base") >= up and seen.count(Started, "user") >= up,
            "both up again",
        )
        seen.until(lambda: seen.state("user") == "running", "user running")
        seen.until(lambda: seen.state("base") == "running", "base running")


def test_what_requires_a_plugin_that_is_stopped_does_not_bring_it_back(make):
    slow = PROCESS + 'restart = { when = "permanent", delay = "1h", max_delay = "1h" }\n'
    host, seen = make(base=slow, user=slow + 'requires = ["base"]')
    assert not host.start()
    seen.kill("user")
    seen.wait_for(Restarting, 1, "user")
    host.registry.stop("base")
    assert (seen.state("base"), seen.state("user")) == ("stopped", "stopped")


def test_whoever_starts_all_does_not_wait_for_the_pause(make):
    slow = PROCESS + 'restart = { when = "permanent", delay = "1h", max_delay = "1h" }\n'
    host, seen = make(base=slow, user='requires = ["base"]')
    assert not host.start()
    seen.kill("base")
    seen.wait_for(Restarting, 1, "user")
    assert host.start() == []
    assert {seen.state(name) for name in host.registry} == {"running"}


def test_one_that_is_taken_out_leaves_nobody_waiting_for_it(make):
    slow = PROCESS + 'restart = { when = "permanent", delay = "1h", max_delay = "1h" }\n'
    host, seen = make(base=slow, user='requires = ["base"]')
    assert not host.start()
    seen.kill("base")
    seen.wait_for(Restarting, 1, "user")
    host.registry.unregister("base")
    seen.until(lambda: seen.state("user") == "failed", "user failed")
    assert "'base', which it requires, is not registered any more" in str(
        host.registry.failure("user")
    )


# --- in the host's own process --------------------------------------------------------------------


def test_one_in_the_host_says_that_it_has_failed_is_stopped_and_started_again(make, tmp_path):
    host, seen = make(mayfly='restart = { when = "permanent", delay = 0 }')
    assert not host.start()
    del seen.events[:]
    assert host.registry.report_failure("mayfly", OSError("the disk is gone"))
    seen.wait_for(Started)
    assert seen.story() == [
        "Failed mayfly",
        "Stopping mayfly",
        "ClearedUp mayfly",
        "Restarting mayfly",
        "Starting mayfly",
        "Started mayfly",
    ]
    (failed,) = seen.of(Failed)
    assert str(failed.error) == "plugin 'mayfly' has failed: OSError: the disk is gone"
    assert isinstance(failed.error.__cause__, OSError)
    assert (tmp_path / "stopped").read_text() == "mayfly\n"


@pytest.mark.parametrize("isolation", ["", PROCESS])
def test_a_plugin_says_itself_that_it_cannot_go_on(make, isolation):
    host, seen = make(mayfly=isolation + 'restart = { when = "permanent", delay = 0 }')
    assert not host.start()
    mayfly = host.registry["mayfly"]
    if isolation:
        with pytest.raises(ProcessExitedError, match="OSError: worn out"):
            mayfly.call("give_up", "worn out")
    else:
        mayfly.give_up("worn out")
    seen.wait_for(Started, 2)
    assert "OSError: worn out" in str(seen.of(Failed)[0].error)


def test_one_that_is_not_to_come_back_is_stopped_all_the_same(make, tmp_path):
    host, seen = make(mayfly="")
    assert not host.start()
    assert host.registry.report_failure("mayfly", OSError("the disk is gone"))
    seen.until(lambda: seen.story()[-1] == "ClearedUp mayfly", "cleared up")
    assert host.registry.state("mayfly") is State.FAILED
    assert not host.registry.report_failure("mayfly", OSError("again"))
    assert (tmp_path / "stopped").read_text() == "mayfly\n"
    assert host.stop() == []
    assert (tmp_path / "stopped").read_text() == "mayfly\n"


def test_a_registry_without_a_supervisor_stops_it_first():
    told: list[str] = []

    class Plugin:
        name = "plain"

        def start(self):
            told.append("start")

        def stop(self):
            told.append("stop")

    registry = Registry()
    registry.register(Plugin())
    registry.start_all()
    assert registry.report_failure("plain", ValueError("bad"))
    (error,) = registry.start_all()
    assert "its stop has not been called since; stop it first" in str(error)
    assert registry.stop_all() == []
    assert registry.start_all() == []
    assert told == ["start", "stop", "start"]


def test_what_is_said_in_the_log(make, caplog):
    caplog.set_level(logging.INFO, "plugkeep.supervisor")
    host, seen = make(base=AT_ONCE, user='requires = ["base"]')
    assert not host.start()
    seen.leave("base")
    seen.wait_for(Started, 2, "user")
    text = "\n".join(
        record.getMessage() for record in caplog.records if record.name == "plugkeep.supervisor"
    )
    assert (
        "plugin 'base' is started again in 0ms (restart 1 of at most 5 within 10s): "
        "plugin 'base' ended by itself: it exited with status 3"
    ) in text
    assert "plugin 'user' comes back with what it requires" in text
    assert "plugin 'base' is up again" in text
