"""Each fault, in a process of the plugin's own, is what it says: as a host sees it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from plugkeep.errors import (
    CallTimeoutError,
    ExitedBeforeReadyError,
    InvalidReadyError,
    PluginError,
    ProcessExitedError,
    ProtocolViolationError,
    ReadyTimeoutError,
    RemoteError,
    StopIgnoredError,
)
from plugkeep.testing import faults

Check = Callable[..., None]


# --- what a host sees -------------------------------------------------------------------------


def fails_to_start(kind: type[Exception], match: str | None = None, **how: Any) -> Check:
    def check(make: Any, fault: str, **_: Any) -> None:
        sandbox = make(fault, **how)
        with pytest.raises(kind, match=match):
            sandbox.start()
        assert sandbox.pid is None

    return check


def ends_by_itself(match: str) -> Check:
    def check(make: Any, fault: str, gone: Any, **_: Any) -> None:
        sandbox = make(fault)
        sandbox.start()
        with suppress(AssertionError):
            gone(sandbox.pid)
        with pytest.raises(ProcessExitedError, match=match):
            sandbox.stop()

    return check


def fails_a_call(
    kind: type[Exception], match: str | None = None, limit: float | None = None
) -> Check:
    def check(make: Any, fault: str, **_: Any) -> None:
        sandbox = make(fault, stop_timeout=0.2 if limit else 30)
        sandbox.start()
        assert sandbox.call("pid") == sandbox.pid
        with pytest.raises(kind, match=match):
            sandbox.call("echo", 1, timeout=limit)
        with suppress(PluginError):  # what has hung or ended says so again
            sandbox.stop()

    return check


def fails_to_stop(kind: type[Exception], match: str | None = None, **how: Any) -> Check:
    def check(make: Any, fault: str, **_: Any) -> None:
        sandbox = make(fault, **how)
        sandbox.start()
        assert sandbox.call("echo", 1) == 1
        with pytest.raises(kind, match=match):
            sandbox.stop()

    return check


def is_answered(sandbox: Any, limit: float) -> bool:
    try:
        sandbox.call("echo", 1, timeout=limit)
    except PluginError:
        return False
    return True


def is_deaf(kind: type[Exception]) -> Check:
    """Sooner or later after its start no call is answered any more."""

    def check(make: Any, fault: str, **_: Any) -> None:
        sandbox = make(fault, stop_timeout=0.2)
        sandbox.start()
        while is_answered(sandbox, 0.2) or is_answered(sandbox, 1.0):  # it was only slow
            pass
        with pytest.raises(kind):
            sandbox.stop()

    return check


def takes_its_time(step: str) -> Check:
    def check(make: Any, fault: str, **_: Any) -> None:
        took = {}
        sandbox = make(fault)
        for name, act in {
            "start": sandbox.start,
            "call": lambda: sandbox.call("echo", 1),
            "stop": sandbox.stop,
        }.items():
            began = time.monotonic()
            act()
            took[name] = time.monotonic() - began
        assert took[step] >= 0.19

    return check


def says(text: str, count: int = 1) -> Check:
    def check(make: Any, fault: str, records: Any, **_: Any) -> None:
        with make(fault) as sandbox:
            assert sandbox.call("echo", 1) == 1
            records.wait_for(text, count)

    return check


def has_grown(read: Callable[[int], int], by: int) -> Check:
    """What `read` says of the process grows at a start with the fault, and is as usual without."""

    def check(make: Any, fault: str, **_: Any) -> None:
        with make() as sane:
            sane.call("echo", 1)
            usual = read(sane.pid)
        with make(fault) as sandbox:
            for _ in range(3):
                assert sandbox.call("echo", 1) == 1
            assert read(sandbox.pid) >= usual + by
            sandbox.call("behave")

    return check


def leaves_files(make: Any, fault: str, monkeypatch: Any, tmp_path: Any, **_: Any) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with make(fault, count=3) as sandbox:
        assert len(list(tmp_path.glob("leaked-*"))) == 3
        sandbox.call("behave")
        assert not list(tmp_path.iterdir())


def multiplies(*, detached: bool) -> Check:
    def check(make: Any, fault: str, gone: Any, records: Any, **_: Any) -> None:
        with make(fault, count=2) as sandbox:
            pids = sandbox.call("spawned")
            assert len(pids) == 2
            records.wait_for("spawned", 2)
            for pid in pids:
                assert (os.getsid(pid) != os.getsid(sandbox.pid)) is detached
            holds = [Path(f"/proc/{pids[0]}/fd/{n}").exists() for n in (1, 2)]
            assert holds == [True, True]
            sandbox.call("behave")
            for pid in pids:
                gone(pid)

    return check


def is_unwell(expected: str | None) -> Check:
    def check(make: Any, fault: str, **_: Any) -> None:
        with make(fault) as sandbox:
            assert sandbox.call("health") == expected
            sandbox.call("behave")
            assert sandbox.call("health") is None

    return check


def fails_to_tell_its_health(kind: type[Exception]) -> Check:
    def check(make: Any, fault: str, **_: Any) -> None:
        sandbox = make(fault, stop_timeout=0.2)
        sandbox.start()
        assert sandbox.call("echo", 1) == 1
        with pytest.raises(kind):
            sandbox.call("health", timeout=0.2)
        with suppress(StopIgnoredError):
            sandbox.stop()

    return check


def lies(make: Any, fault: str, **_: Any) -> None:
    with make(fault) as sandbox:
        assert sandbox.call("health") is None
        with pytest.raises(RemoteError):
            sandbox.call("echo", 1)


def one_answer_is_lost_or_all(make: Any, fault: str, **_: Any) -> None:
    sandbox = make(fault)
    sandbox.start()
    with pytest.raises(PluginError):  # at level 1 of one answer, at level 2 of all
        while True:
            sandbox.call("echo", 1, timeout=0.3)
    with suppress(ProtocolViolationError):
        sandbox.stop()


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def threads(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


CHECKS: dict[str, Check] = {
    "exit-before-ready": fails_to_start(ExitedBeforeReadyError, "status 3 before"),
    "kill-before-ready": fails_to_start(ExitedBeforeReadyError, "SIGKILL before"),
    "exit-in-ready": fails_to_start(ExitedBeforeReadyError, "status 3 before"),
    "exit-in-start": fails_to_start(ProcessExitedError, "status 3 before its own start"),
    "kill-in-start": fails_to_start(ProcessExitedError, "SIGKILL before its own start"),
    "exit-after-ready": ends_by_itself("status 3"),
    "kill-after-ready": ends_by_itself("SIGKILL"),
    "exit-in-call": fails_a_call(ProcessExitedError, "status 3"),
    "kill-in-call": fails_a_call(ProcessExitedError, "SIGKILL"),
    "exit-in-stop": fails_to_stop(ProcessExitedError, "status 3"),
    "kill-in-stop": fails_to_stop(ProcessExitedError, "SIGKILL"),
    "raise-in-factory": fails_to_start(ExitedBeforeReadyError, "as it was told to"),
    "raise-in-start": fails_to_start(RemoteError, "'start' raised .*FaultError: as it was told"),
    "raise-in-call": fails_a_call(RemoteError, "'echo' raised .*FaultError: as it was told to"),
    "raise-in-stop": fails_to_stop(RemoteError, "'stop' raised .*FaultError: as it was told to"),
    "hang-before-ready": fails_to_start(ReadyTimeoutError, start_timeout=0.3),
    "hang-in-start": fails_to_start(ReadyTimeoutError, start_timeout=1.0),
    "hang-in-call": fails_a_call(CallTimeoutError, limit=0.2),
    "hang-in-stop": fails_to_stop(StopIgnoredError, "sent SIGTERM", stop_timeout=0.2),
    "slow-before-ready": takes_its_time("start"),
    "slow-start": takes_its_time("start"),
    "slow-call": takes_its_time("call"),
    "slow-stop": takes_its_time("stop"),
    "hold-gil": fails_a_call(CallTimeoutError, limit=0.2),
    "ignore-stop": fails_to_stop(StopIgnoredError, "ended by SIGTERM", stop_timeout=0.2),
    "ignore-stop-and-sigterm": fails_to_stop(
        StopIgnoredError, "ended by SIGKILL", stop_timeout=0.2
    ),
    "freeze": is_deaf(StopIgnoredError),
    "stop-reading": is_deaf(StopIgnoredError),
    "close-wire": is_deaf(ProtocolViolationError),
    "garbage-before-ready": fails_to_start(InvalidReadyError, "no message"),
    "garbage-after-ready": one_answer_is_lost_or_all,
    "flood-stdout": says("flood flood", 1000),
    "flood-stderr": says("flood flood", 1000),
    "flood-line": says("xxxxxxxx"),
    "flood-log": says("flood ", 1000),
    "leak-descriptors": has_grown(descriptors, 8),
    "leak-threads": has_grown(threads, 1),  # an idle thread of the runner's may have ended
    "leak-files": leaves_files,
    "leak-memory": has_grown(resident, 2 << 20),
    "eat-memory": has_grown(resident, 60 << 20),
    "spawn": multiplies(detached=False),
    "spawn-detached": multiplies(detached=True),
    "spawn-holding-pipes": multiplies(detached=True),
    "degraded": is_unwell("only half of it works"),
    "health-raises": fails_to_tell_its_health(RemoteError),
    "health-blocks": fails_to_tell_its_health(CallTimeoutError),
    "health-lies": lies,
}


def test_every_fault_has_its_test() -> None:
    assert set(CHECKS) == {each.name for each in faults()}


@pytest.mark.parametrize("name", [each.name for each in faults("program")])
def test_as_a_program(
    name: str, program: Any, gone: Any, records: Any, monkeypatch: Any, tmp_path: Any
) -> None:
    CHECKS[name](
        program, name, gone=gone, records=records, monkeypatch=monkeypatch, tmp_path=tmp_path
    )


@pytest.mark.parametrize("name", [each.name for each in faults("process")])
def test_in_a_python_process(
    name: str, process: Any, gone: Any, records: Any, monkeypatch: Any, tmp_path: Any
) -> None:
    CHECKS[name](
        process, name, gone=gone, records=records, monkeypatch=monkeypatch, tmp_path=tmp_path
    )


# --- the sane side, and what comes on demand --------------------------------------------------


@pytest.fixture(params=["program", "process"])
def make(request: pytest.FixtureRequest) -> Any:
    """Return a function that makes a sandbox, of the program and of the plugin."""
    return request.getfixturevalue(request.param)


def test_without_a_fault_nothing_is_wrong(make: Any) -> None:
    sandbox = make()
    for _ in range(2):
        with sandbox:
            assert sandbox.call("echo", {"a": [1, None]}) == {"a": [1, None]}
            assert sandbox.call("add", 2, b=3) == 5
            assert sandbox.call("sleep", 0) is None
            assert sandbox.call("pid") == sandbox.pid
            assert sandbox.call("health") is None
            assert list(sandbox.using(window=2).stream("count", 100)) == list(range(100))
            assert list(sandbox.map("echo", range(500))) == list(range(500))


@contextmanager
def running(sandbox: Any) -> Any:
    """Start it, and stop it as well as can be."""
    sandbox.start()
    try:
        yield sandbox
    finally:
        with suppress(PluginError):
            sandbox.stop()


def test_on_demand_it_ends(make: Any) -> None:
    with running(make()) as sandbox, pytest.raises(ProcessExitedError, match="SIGSEGV"):
        sandbox.call("misbehave", "kill-in-call", signal="SIGSEGV")


def test_on_demand_it_ends_with_a_status(make: Any) -> None:
    with running(make()) as sandbox:
        with pytest.raises(ProcessExitedError) as caught:
            sandbox.call("misbehave", "exit-after-ready", status=7)
        assert caught.value.returncode == 7


def test_on_demand_it_fails_to_stop(make: Any) -> None:
    sandbox = make()
    sandbox.start()
    assert sandbox.call("misbehave", "raise-in-stop", text="no space left") is None
    with pytest.raises(RemoteError, match="no space left"):
        sandbox.stop()


def test_on_demand_it_spawns_and_says_what(make: Any, gone: Any) -> None:
    with make() as sandbox:
        pids = sandbox.call("misbehave", "spawn-detached", count=2)
        assert [os.kill(pid, 0) for pid in pids] == [None, None]
        sandbox.call("behave")
        for pid in pids:
            gone(pid)


def test_what_is_no_fault_is_refused_on_demand(make: Any) -> None:
    with make() as sandbox:
        for args, match in [
            (("explode",), "'explode' is none; there are: .*hang-in-call"),
            (("exit-before-ready",), "too late"),
        ]:
            with pytest.raises(PluginError, match=match):
                sandbox.call("misbehave", *args)
        with pytest.raises(PluginError, match="takes no 'size'; it takes status"):
            sandbox.call("misbehave", "exit-in-call", size=3)
        with pytest.raises(PluginError, match="it can be 0 to"):
            sandbox.call("misbehave", "eat-memory", size=1 << 40)
        assert sandbox.call("echo", 1) == 1


def test_from_the_nth_call_on(make: Any) -> None:
    with make("raise-in-call", from_call=3) as sandbox:
        assert [sandbox.call("echo", n) for n in (1, 2)] == [1, 2]
        for _ in range(2):
            with pytest.raises(RemoteError):
                sandbox.call("echo", 3)
        sandbox.call("behave")
        assert sandbox.call("echo", 5) == 5


def test_in_the_nth_call_instead_of_at_its_moment(make: Any) -> None:
    with running(make("exit-after-ready", from_call=2, status=9)) as sandbox:
        assert sandbox.call("echo", 1) == 1
        with pytest.raises(ProcessExitedError, match="status 9"):
            sandbox.call("echo", 2)


def test_what_hangs_in_python_goes_on_when_it_is_told(process: Any) -> None:
    with process("hang-in-call") as sandbox:
        call = sandbox.using(timeout=0.2)
        with pytest.raises(CallTimeoutError):
            call.call("echo", 1)
        sandbox.call("behave")
        assert sandbox.call("echo", 2) == 2


def test_a_fault_that_is_none_fails_the_start(process: Any) -> None:
    with pytest.raises(PluginError, match="'explode' is none; there are"):
        process("explode").start()
    with pytest.raises(PluginError, match="cannot be had in a Python process"):
        process("stop-reading").start()
    with pytest.raises(PluginError, match="takes no 'status'; it takes seconds"):
        process("hang-in-call", status=2).start()


# --- the program by itself --------------------------------------------------------------------

LEVEL_0 = ["exit-before-ready", "exit-in-ready", "kill-before-ready", "garbage-before-ready"]


@pytest.mark.parametrize("name", LEVEL_0)
def test_at_level_0_before_it_is_ready(program: Any, name: str) -> None:
    with pytest.raises((ExitedBeforeReadyError, InvalidReadyError)):
        program(name, level=0).start()


def test_at_level_0_in_its_start_and_stop(program: Any, gone: Any) -> None:
    with program(level=0) as sandbox:
        assert sandbox.methods is None
    with pytest.raises(ExitedBeforeReadyError, match="as it was told to"):
        program("raise-in-start", level=0).start()
    sandbox = program("exit-in-stop", level=0, status=4)
    sandbox.start()
    with pytest.raises(PluginError, match="status 4"):
        sandbox.stop()
    sandbox = program("exit-after-ready", level=0)
    sandbox.start()
    if (pid := sandbox.pid) is not None:  # else it has gone already
        gone(pid)
    with pytest.raises(ProcessExitedError, match="status 3"):
        sandbox.stop()


def test_it_needs_nothing_of_plugkeep(tmp_path: Path, program: Any, monkeypatch: Any) -> None:
    import shutil

    from plugkeep.testing import faulty_program

    copy = tmp_path / "copy"
    shutil.copytree(faulty_program(), copy, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "__init__.py").unlink()
    monkeypatch.setitem(program.__globals__, "faulty_program", lambda: str(copy))
    with program() as sandbox:
        assert sandbox.call("add", 1, 2) == 3


def test_its_command_line(tmp_path: Path) -> None:
    import subprocess
    import sys

    from plugkeep.testing import faulty_program

    def run(*args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-I", "-S", faulty_program(), *args],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )

    listed = run("--list")
    assert listed.stdout.splitlines() == [f"{f.name}: {f.does}" for f in faults("program")]
    refused = run("--fault", "explode")
    assert refused.returncode == 2
    assert "'explode' is none" in refused.stderr
    assert run("--fault", "exit-before-ready", "--status", "9").returncode == 9
    killed = run("--fault", "kill-before-ready", "--signal", "SIGSEGV")
    assert killed.returncode == -signal.SIGSEGV
