"""The faulty plugin in the host's own process, and the table of what it can do."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from plugkeep import ConfigError, Host, Registry, StartTimeoutError, State, StopTimeoutError
from plugkeep import testing as kit
from plugkeep.testing import FaultError, Faulty, Misconduct, faults
from plugkeep.testing.program.deeds import DEEDS

SRC = Path(__file__).parents[3] / "src"


@contextmanager
def running(plugin: Faulty) -> Any:
    plugin.start()
    try:
        yield plugin
    finally:
        plugin.behave()


# --- what each does here ----------------------------------------------------------------------


def test_it_raises_where_it_is_told_to() -> None:
    with pytest.raises(FaultError, match="as it was told to"):
        Faulty("raise-in-factory")
    with pytest.raises(FaultError, match="no disk"):
        Faulty("raise-in-start", text="no disk").start()
    with running(Faulty("raise-in-call")) as plugin:
        for call in (
            lambda: plugin.echo(1),
            lambda: plugin.add(1, 2),
            lambda: plugin.sleep(0),
            lambda: list(plugin.count(3)),
        ):
            with pytest.raises(FaultError):
                call()
        assert plugin.pid() == os.getpid()
    plugin = Faulty("raise-in-stop")
    plugin.start()
    with pytest.raises(FaultError):
        plugin.stop()


def test_what_hangs_exceeds_its_limit_and_ends_when_it_is_told() -> None:
    plugins = [Faulty("hang-in-start", name="start"), Faulty("hang-in-stop", name="stop")]
    registry = Registry(start_timeout=0.2, stop_timeout=0.2)
    for plugin in plugins:
        registry.register(plugin)
    assert [type(error) for error in registry.start_all()] == [StartTimeoutError]
    assert [type(error) for error in registry.stop_all()] == [StopTimeoutError]
    for plugin in plugins:
        plugin.behave()


@pytest.mark.parametrize("step", ["start", "call", "stop"])
def test_what_is_slow_gets_there(step: str) -> None:
    plugin = Faulty(f"slow-{step}", seconds=0.01)
    registry = Registry()
    registry.register(plugin)
    with registry:
        assert plugin.echo(1) == 1


def test_it_holds_the_interpreters_lock() -> None:
    with running(Faulty("hold-gil", seconds=0.2)) as plugin:
        ticks, over = [0], threading.Event()

        def tick() -> None:
            while not over.wait(0.005):
                ticks[0] += 1

        thread = threading.Thread(target=tick)
        thread.start()
        before = ticks[0]
        plugin.echo(1)
        passed = ticks[0] - before
        over.set()
        thread.join()
        assert passed <= 3, "others got on meanwhile"


def test_what_is_leaked_is_given_back_when_it_is_told(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    leaks = {
        "leak-descriptors": lambda: len(list(Path("/proc/self/fd").iterdir())),
        "leak-threads": threading.active_count,
        "leak-files": lambda: len(list(tmp_path.iterdir())),
        "spawn": lambda: len(_children()),
    }
    for fault, count in leaks.items():
        before = count()
        plugin = Faulty(fault, count=3)
        plugin.start()
        plugin.stop()
        assert count() == before + 3, fault
        plugin.behave()
        assert count() == before, fault


def _children() -> list[str]:
    tasks = Path("/proc/self/task").iterdir()
    return [pid for task in tasks for pid in (task / "children").read_text().split()]


def test_detached_grandchildren_are_of_another_session(gone: Any) -> None:
    with running(Faulty()) as plugin:
        (pid,) = plugin.misbehave("spawn-detached")
        assert os.getsid(pid) != os.getsid(0)
        assert plugin.spawned() == [pid]
    gone(pid)


def test_memory_is_kept_until_it_is_told_and_has_a_cap(monkeypatch: Any) -> None:
    monkeypatch.setattr("plugkeep.testing.program.deeds.MOST_MEMORY", 10 << 20)
    with running(Faulty("leak-memory", size=4 << 20)) as plugin:
        for _ in range(5):
            plugin.echo(1)
        assert sum(map(len, plugin._conduct.place._memory)) == 10 << 20
    assert not plugin._conduct.place._memory


def test_it_floods(capfd: Any, caplog: Any) -> None:
    with running(Faulty()) as plugin:
        plugin.misbehave("flood-stdout", size=200_000)
        plugin.misbehave("flood-stderr", size=100_000)
        plugin.misbehave("flood-line", size=300_000)
        plugin.misbehave("flood-log", count=50)
    out, err = capfd.readouterr()
    assert (len(out), len(err)) == (200_001, 400_002)
    assert max(map(len, err.splitlines())) >= 300_000
    assert [record.getMessage() for record in caplog.records] == [f"flood {n}" for n in range(50)]


def test_its_health() -> None:
    with running(Faulty()) as plugin:
        assert plugin.health() is None
        plugin.misbehave("degraded", text="slow disk")
        assert plugin.health() == "slow disk"
    with running(Faulty("health-raises")) as plugin, pytest.raises(FaultError):
        plugin.health()
    with running(Faulty("health-blocks", seconds=0.01)) as plugin:
        assert plugin.health() is None
    with running(Faulty("health-lies")) as plugin:
        assert plugin.health() is None
        with pytest.raises(FaultError):
            plugin.echo(1)


# --- what it refuses --------------------------------------------------------------------------


@pytest.mark.parametrize("name", [f.name for f in faults() if "in process" not in f.where])
def test_what_would_end_the_host_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be had in the host's process; there are: "):
        Faulty(name)
    with running(Faulty()) as plugin, pytest.raises(ValueError, match="cannot be had"):
        plugin.misbehave(name)


def test_a_host_that_knows_the_runner_is_a_host_all_the_same(monkeypatch: Any) -> None:
    import plugkeep.runner.runner  # noqa: F401

    monkeypatch.setenv("PLUGKEEP_FAULT", "exit-before-ready")
    with pytest.raises(ValueError, match="cannot be had in the host's process"):
        Faulty("exit-in-call")
    with running(Faulty()) as plugin:
        assert plugin.echo(1) == 1


def test_parameters_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="takes no 'size'; it takes seconds"):
        Faulty("hang-in-stop", size=3)
    with pytest.raises(ValueError, match="seconds without a fault"):
        Faulty(seconds=3.0)
    with pytest.raises(ValueError, match="count of the fault 'spawn' is 1000000; it can be 0 to"):
        Faulty("spawn", count=1_000_000)
    with pytest.raises(ValueError, match="from_call"):
        Faulty("hang-in-stop", from_call=2).start()
    with pytest.raises(ValueError, match="calls count from 1"):
        Faulty("raise-in-call", from_call=-1).start()
    with pytest.raises(ValueError, match="where is 'here'; it can be: 'in process'"):
        faults("here")


# --- as a host's plugin -----------------------------------------------------------------------

FILE = """
[plugins.good]
source = "python:plugkeep.testing.faulty"

[plugins.bad]
source = "python:plugkeep.testing.faulty"
isolation = "process"
config = { fault = "raise-in-call", from_call = 2, text = "from the file" }
"""


def test_a_file_configures_it(tmp_path: Path) -> None:
    path = tmp_path / "plugkeep.toml"
    path.write_text(FILE)
    with Host.from_file(path) as host:
        assert host.registry["good"].config == Misconduct()
        bad = host.registry["bad"]
        assert bad.call("echo", 1) == 1
        with pytest.raises(Exception, match="from the file"):
            bad.call("echo", 2)
        assert host.registry.state("good") is State.RUNNING


def test_a_file_that_asks_for_no_fault_there_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "plugkeep.toml"
    path.write_text(
        '[plugins.bad]\nsource = "python:plugkeep.testing.faulty"\nconfig = {fault = "explode"}\n'
    )
    with pytest.raises(ConfigError, match="the fault 'explode' is none; there are: raise-in-"):
        Host.from_file(path)


# --- the table --------------------------------------------------------------------------------


def test_every_fault_has_a_deed_and_every_deed_a_fault() -> None:
    assert {each.deed for each in faults()} == set(DEEDS)
    assert all(each.where and each.does for each in faults())
    assert sorted(f.name for f in faults("program")) == sorted(
        f.name for f in faults() if "program" in f.where
    )


def test_the_public_names() -> None:
    for name in kit.__all__:
        found = getattr(kit, name)
        assert getattr(found, "__name__", name) == name
    assert dir(kit) == sorted(kit.__all__)
    with pytest.raises(AttributeError, match="no attribute 'faulty_plugin'"):
        kit.faulty_plugin  # noqa: B018


def test_a_faulty_plugin_imports_no_suites_and_no_pytest() -> None:
    code = f"import sys; sys.path.insert(0, {str(SRC)!r}); import plugkeep.testing.faulty"
    shown = "print(*(m for m in sys.modules if 'suite' in m or 'pytest' in m or 'asyncio' in m))"
    result = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"{code}; {shown}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stdout.strip()) == (0, ""), result.stderr
