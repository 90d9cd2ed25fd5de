"""Plugins that say how they are, that say it late or not at all, and what comes of that."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from plugkeep import ExecSandbox, Host, PluginSpec, RestartPolicy, UnresponsiveError, Watchdog
from plugkeep.errors import CallTimeoutError, NotStartedError
from plugkeep.events import Degraded, Failed, Recovered, Started
from plugkeep.lifecycle import State

#: Says what is in a file beside it: None where that is empty or missing; some words are orders.
MOODY = """
import ctypes, os, signal, threading, time
from pathlib import Path
from plugkeep import expose

MOOD = Path(__file__).with_name("mood")

class PluginFactory:
    name = "moody"
    def start(self): ...
    def stop(self): ...

    {asynchronous}def health(self):
        mood = MOOD.read_text() if MOOD.exists() else ""
        if mood == "raise":
            raise OSError("no pulse")
        if mood == "hang":
            MOOD.with_name("gate").read_text()
        if mood == "number":
            return 7
        return mood or None

    @expose
    def pid(self) -> int:
        return os.getpid()

    @expose
    def freeze(self) -> None:
        os.kill(os.getpid(), signal.SIGSTOP)

    @expose
    def hang(self, path: str) -> None:
        Path(path).read_text()
"""


class Moody:
    """A host with one such plugin."""

    def __init__(self, folder: Path, isolation: str, period: float, timeout: float | None) -> None:
        self.mood = folder / "mood"
        (folder / "moody.py").write_text(MOODY.replace("{asynchronous}", ""))
        self.host = Host()
        self.host.add(
            PluginSpec(
                name="moody",
                source="file:moody.py",
                base=str(folder),
                isolation=isolation,  # type: ignore[arg-type]
                restart=RestartPolicy(when="permanent", delay=0),
                watchdog=Watchdog(period, timeout),
            )
        )


@pytest.fixture(params=["none", "process"])
def moody(request, tmp_path, watched):
    return watched(Moody(tmp_path, request.param, 0.02, 30.0))


def test_one_that_says_why_is_degraded_and_well_again_when_it_does_not(moody):
    assert not moody.host.start()
    moody.mood.write_text("low on memory")
    moody.seen.wait_for(Degraded)
    assert moody.host.registry.state("moody") is State.DEGRADED
    assert moody.host.registry.degradation("moody") == "low on memory"
    assert moody.host.registry.capability("moody", object) is not None, "it can be used"
    moody.mood.write_text("out of memory")
    moody.seen.wait_for(Degraded, 2)
    moody.mood.write_text("")
    moody.seen.wait_for(Recovered)
    assert moody.host.registry.degradation("moody") is None
    assert [event.reason for event in moody.seen.of(Degraded)] == [
        "low on memory",
        "out of memory",
    ]


@pytest.mark.parametrize(
    ("mood", "reason"),
    [
        ("raise", "health() raised OSError: no pulse"),
        ("number", "health() returned a int; it is to return None, or a text"),
    ],
)
def test_one_whose_health_does_not_work_is_degraded_and_not_punished(moody, mood, reason):
    moody.mood.write_text(mood)
    assert not moody.host.start()
    moody.seen.wait_for(Degraded)
    assert str(moody.host.registry.degradation("moody")).startswith(reason)
    assert moody.seen.count(Failed) == 0


def test_the_same_degradation_is_told_once(moody):
    moody.mood.write_text("tired")
    assert not moody.host.start()
    moody.seen.wait_for(Degraded)
    moody.mood.write_text("")
    moody.seen.wait_for(Recovered)
    assert moody.seen.count(Degraded) == 1


def test_one_that_hangs_is_killed_and_comes_back(tmp_path, watched):
    moody = watched(Moody(tmp_path, "process", 0.05, 0.3))
    os.mkfifo(tmp_path / "gate")
    assert not moody.host.start()
    sandbox: Any = moody.host.registry["moody"]
    before = sandbox.call("pid")
    moody.mood.write_text("hang")
    moody.seen.wait_for(Failed)
    moody.mood.write_text("")
    moody.seen.wait_for(Started, 2)
    assert sandbox.call("pid") != before
    (failed, *_) = moody.seen.of(Failed)
    assert isinstance(failed.error, UnresponsiveError)
    assert "has not answered for 0.3 s, and was killed" in str(failed.error)


def test_one_that_is_stopped_by_a_signal_is_killed_and_its_calls_fail(tmp_path, watched):
    moody = watched(Moody(tmp_path, "process", 0.05, 0.3))
    assert not moody.host.start()
    sandbox: Any = moody.host.registry["moody"]
    with pytest.raises(UnresponsiveError):
        sandbox.call("freeze")
        sandbox.call("pid")
    moody.seen.wait_for(Started, 2)


def test_one_that_only_works_for_long_is_left_alone(tmp_path, watched):
    """A plain method keeps the main thread busy; that the process lives is answered beside it."""
    moody = watched(Moody(tmp_path, "process", 0.02, 5.0))
    (tmp_path / "moody.py").write_text(
        MOODY.replace("{asynchronous}", "").replace("def health", "def unhealthy")
    )
    os.mkfifo(tmp_path / "gate")
    assert not moody.host.start()
    sandbox: Any = moody.host.registry["moody"]
    asked = threading.Event()
    health = sandbox.health

    def count(timeout: float | None = None) -> str | None:
        reason = health(timeout)
        asked.set()
        return reason

    sandbox.health = count
    calling = threading.Thread(target=lambda: sandbox.call("hang", str(tmp_path / "gate")))
    calling.start()
    with (tmp_path / "gate").open("w"):
        asked.clear()
        assert asked.wait(60), "it has not answered meanwhile"
    calling.join(60)
    assert moody.seen.count(Failed) == 0


def test_one_in_the_host_that_hangs_is_degraded_until_it_answers(tmp_path, watched):
    moody = watched(Moody(tmp_path, "none", 0.02, 0.05))
    os.mkfifo(tmp_path / "gate")
    moody.mood.write_text("hang")
    assert not moody.host.start()
    moody.seen.wait_for(Degraded)
    assert "has not returned for 0.05 s" in str(moody.host.registry.degradation("moody"))
    moody.mood.write_text("")
    with (tmp_path / "gate").open("w"):
        pass
    moody.seen.wait_for(Recovered)


def test_a_host_that_was_held_up_itself_kills_nobody(tmp_path):
    """It is stopped, with its plugin, for longer than the plugin has for an answer."""
    import subprocess
    import sys

    (tmp_path / "moody.py").write_text(MOODY.replace("{asynchronous}", ""))
    code = f"""
import sys
from plugkeep import Host, PluginSpec, Watchdog
host = Host()
host.add(PluginSpec(name="moody", source="file:moody.py", base={str(tmp_path)!r},
                    isolation="process", watchdog=Watchdog(0.01, 0.2)))
failed = []
host.registry.subscribe(lambda event: failed.append(event) if event.error else None)
with host:
    print(host.registry["moody"].pid, flush=True)
    sys.stdin.readline()
    print(host.registry.state("moody"), host.registry["moody"].health(), failed)
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        plugin = int(process.stdout.readline())
        for _ in range(5):
            os.kill(plugin, signal.SIGSTOP)
            os.kill(process.pid, signal.SIGSTOP)
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.6)  # longer than the plugin's time
            os.kill(process.pid, signal.SIGCONT)
            os.kill(plugin, signal.SIGCONT)
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "running None []\n"


def test_it_can_be_asked_at_any_time(tmp_path, watched):
    moody = watched(Moody(tmp_path, "process", 3600.0, 30.0))
    os.mkfifo(tmp_path / "gate")
    sandbox: Any = moody.host.registry["moody"]
    with pytest.raises(NotStartedError):
        moody.host.health("moody")
    assert not moody.host.start()
    assert moody.host.health("moody") is None
    moody.mood.write_text("so so")
    assert (moody.host.health("moody"), sandbox.health()) == ("so so", "so so")
    moody.mood.write_text("hang")
    with pytest.raises(CallTimeoutError, match="moody"):
        moody.host.health("moody", timeout=0.1)
    with (tmp_path / "gate").open("w"):
        pass


def test_one_without_a_health_is_well_as_long_as_it_answers(make):
    host, _ = make(mayfly='isolation = "process"\n', here="")
    assert not host.start()
    assert (host.health("mayfly"), host.health("here")) == (None, None)


def test_a_program_at_level_0_is_well_as_long_as_it_runs():
    with ExecSandbox("sh", "-c", "echo '{\"ready\": true}'; read line") as sandbox:
        assert sandbox.health(1.0) is None


def test_one_that_is_asynchronous_is_asked_in_the_hosts_loop(tmp_path, watched):
    moody = watched(Moody(tmp_path, "none", 0.02, 30.0))
    (tmp_path / "moody.py").write_text(MOODY.replace("{asynchronous}", "async "))
    moody.host.reload("moody")

    async def main() -> None:
        async with moody.host:
            moody.mood.write_text("tired")
            await asyncio.to_thread(moody.seen.wait_for, Degraded)
            moody.mood.write_text("")
            await asyncio.to_thread(moody.seen.wait_for, Recovered)

    asyncio.run(main())
    assert moody.seen.of(Degraded)[0].reason == "tired"
