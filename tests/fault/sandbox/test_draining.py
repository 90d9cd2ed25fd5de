"""What becomes of calls under way when their plugin is stopped, and of a stop in a hurry."""

from __future__ import annotations

import asyncio
import os
import select
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from plugkeep import ExecSandbox, Registry, Sandbox, isolate
from plugkeep.deadlines import stopping_by
from plugkeep.errors import NotStartedError, PluginError, StopIgnoredError

READER = """
from pathlib import Path
from plugkeep import expose

class PluginFactory:
    name = "reader"
    def start(self): ...
    def stop(self): ...
    @expose(threaded=True)
    def read(self, path):
        return Path(path).read_text()
    @expose
    def count(self, upto: int):
        yield from range(upto)
    @expose
    def echo(self, value):
        return value
"""

Make = Callable[..., Sandbox]


@pytest.fixture
def reader(tmp_path: Path) -> Make:
    (tmp_path / "reader.py").write_text(READER)
    return lambda **options: isolate("file:reader.py", base=tmp_path, **options)


class Call(threading.Thread):
    """A call on a thread of its own, and what it comes to."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        super().__init__()
        self._function, self._args = function, args
        self.outcome: Any = None
        self.start()

    def run(self) -> None:
        try:
            self.outcome = self._function(*self._args)
        except Exception as error:
            self.outcome = error

    def result(self) -> Any:
        self.join(60)
        assert not self.is_alive(), "it hangs"
        return self.outcome


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "gate")
    return tmp_path / "gate"


def refused(sandbox: Sandbox) -> str:
    """Wait until calls are refused; return how."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            sandbox.call("echo", 1)
        except NotStartedError as error:
            return str(error)
    raise AssertionError("calls are still answered")


def test_calls_under_way_are_answered_and_no_new_ones_begin(reader, gate):
    sandbox = reader(drain_timeout=60)
    sandbox.start()
    calling = Call(sandbox.call, "read", str(gate))
    with gate.open("w") as file:  # opened by the plugin, so the call is under way
        stopping = Call(sandbox.stop)
        assert "is being stopped, and takes no more calls" in refused(sandbox)
        with pytest.raises(NotStartedError):
            next(sandbox.stream("count", 3))
        with pytest.raises(NotStartedError):
            next(sandbox.map("echo", [1]))
        with pytest.raises(NotStartedError):
            asyncio.run(_acall(sandbox))
        file.write("all of it")
    assert calling.result() == "all of it"
    assert stopping.result() is None


async def _acall(sandbox: Sandbox) -> None:
    await sandbox.acall("echo", 1)


def test_a_stream_and_a_map_come_to_their_ends(reader):
    sandbox = reader(drain_timeout=60)
    sandbox.start()
    stream, mapped = sandbox.stream("count", 500), sandbox.using(window=2).map("echo", range(500))
    assert (next(stream), next(mapped)) == (0, 0)
    stopping = Call(sandbox.stop)
    refused(sandbox)
    assert list(stream) == list(range(1, 500))
    assert list(mapped) == list(range(1, 500))
    assert stopping.result() is None


@pytest.mark.parametrize("drain_timeout", [0, 0.05])
def test_what_takes_longer_is_cut_off(reader, gate, drain_timeout):
    sandbox = reader(drain_timeout=drain_timeout)
    sandbox.start()
    calling = Call(sandbox.call, "read", str(gate))
    with gate.open("w"):
        assert Call(sandbox.stop).result() is None
        assert isinstance(calling.result(), PluginError)


def test_a_process_that_ends_meanwhile_is_told_as_such(reader, gate):
    sandbox = reader(drain_timeout=60)
    sandbox.start()
    calling = Call(sandbox.call, "read", str(gate))
    with gate.open("w"):
        stopping = Call(sandbox.stop)
        refused(sandbox)
        os.kill(sandbox.pid, 9)
        assert "SIGKILL" in str(stopping.result())
        assert "SIGKILL" in str(calling.result())


# --- in a hurry -----------------------------------------------------------------------------------


IGNORING = """\
    trap '' TERM
    echo '{"ready": true}'
    while :; do read line || sleep 0.05; done
"""


def test_each_step_has_its_time():
    polite = 'trap "exit 7" TERM; echo \'{"ready": true}\'; while :; do sleep 0.02; done'
    sandbox = ExecSandbox("sh", "-c", polite, name="p", stop_timeout=0.05, term_timeout=30)
    sandbox.start()
    with pytest.raises(StopIgnoredError, match="sent SIGTERM, it exited with status 7"):
        sandbox.stop()
    sandbox = ExecSandbox("sh", "-c", IGNORING, name="p", stop_timeout=0.05, term_timeout=0)
    sandbox.start()
    with pytest.raises(StopIgnoredError, match="nor after SIGTERM; it was ended by SIGKILL"):
        sandbox.stop()


def test_a_deadline_is_kept_whatever_the_plugins_own_limits():
    sandbox = ExecSandbox("sh", "-c", IGNORING, name="p", stop_timeout=None, term_timeout=3600)
    sandbox.start()
    with stopping_by(time.monotonic() + 0.2), pytest.raises(StopIgnoredError, match="SIGKILL"):
        sandbox.stop()
    assert sandbox.pid is None


def test_a_registry_that_stops_in_time_leaves_no_process():
    registry = Registry()
    for number in range(12):
        script = IGNORING if number % 4 == 0 else "echo '{\"ready\": true}'; read line"
        registry.register(
            ExecSandbox("sh", "-c", script, name=f"p{number}", stop_timeout=3600, term_timeout=1)
        )
    assert registry.start_all() == []
    pids = [registry[name].pid for name in registry]
    errors = registry.stop_all(timeout=2.0)
    assert [error.plugin for error in errors] == ["p8", "p4", "p0"]
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_stop_that_nobody_waits_for_any_more_leaves_no_process():
    """As when a Ctrl-C comes, or a host's own limit is over: the thread that stops it goes on."""
    registry = Registry()
    sandbox = ExecSandbox("sh", "-c", IGNORING, name="p", stop_timeout=3600, term_timeout=3600)
    sandbox.stop_timeout = 0.1  # the registry's, which gives up before the sandbox does
    registry.register(sandbox)
    assert registry.start_all() == []
    pid = os.pidfd_open(sandbox.pid)
    try:
        (error,) = registry.stop_all()
        assert "did not stop within 0.1 s" in str(error)
        assert select.select([pid], [], [], 60)[0], "it still runs"
    finally:
        os.close(pid)
    while registry.unreturned():
        time.sleep(0.001)
