"""Host and keeper are killed at the same instant: what the keeper has launched goes with them."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Gone = Callable[[int], None]

#: What the children are makes no difference to the kernel; stopped, they cannot see to it.
HOST = """
plugin = isolate("file:" + sys.argv[1])
plugin.start()
program = ExecSandbox("sh", "-c", STAY)
program.start()
pids = {"fork": plugin.pid, "program": program.pid, "zygote": zygote(), "keeper": keeper()}
for pid in pids.values():
    os.kill(pid, signal.SIGSTOP)
say(*(f"{name}={pid}" for name, pid in pids.items()))
signal.pause()
"""


@pytest.fixture(params=["as it is", "ordinary"])
def family(request: pytest.FixtureRequest, begin_host: Any, source: Any) -> Any:
    """Return a host, and the numbers of what it has started."""
    with tempfile.TemporaryDirectory() as folder:  # pytest's own are for one user
        Path(folder).chmod(0o777)
        plugin = shutil.copy(source(), folder)
        where = {**os.environ, "TMPDIR": folder}
        host = begin_host(f"be({request.param!r})\n{HOST}", plugin, env=where)
        words = host.stdout.readline().split()
    pids = {name: int(pid) for name, _, pid in (word.partition("=") for word in words)}
    yield host, pids
    for pid in pids.values():
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def test_no_child_outlives_host_and_keeper_that_are_killed_together(
    family: Any, gone: Gone
) -> None:
    host, pids = family
    os.kill(pids["keeper"], signal.SIGKILL)
    host.kill()
    for pid in pids.values():
        gone(pid)


def test_children_of_a_keeper_are_tied_to_it_alone(family: Any, gone: Gone) -> None:
    """The fork's parent was another one before, and its forks are tied to nobody."""
    host, pids = family
    os.kill(pids["zygote"], signal.SIGKILL)
    gone(pids["zygote"])
    assert state(pids["fork"]) == state(pids["program"]) == "T"
    host.kill()
    os.kill(pids["keeper"], signal.SIGCONT)
    for pid in pids.values():
        gone(pid)


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]


def test_a_program_whose_keeper_dies_while_it_is_launched_does_not_run(
    run_host: Callable[..., str],
) -> None:
    """It has asked the kernel too late then, and has to look itself."""
    said = run_host(
        """
        import select
        from plugkeep.keeper import tether
        reader, writer = os.pipe()
        keeper = os.fork()
        if not keeper:
            me, watched = os.getpid(), os.pidfd_open(os.getpid())
            if not os.fork():
                select.select([watched], [], [])
                tether.die_with(me)
                os.write(writer, b"it runs")
            os._exit(0)
        os.close(writer)
        say(os.read(reader, 10))
        os.waitpid(keeper, 0)
        """
    )
    assert said == "b''\n"


def test_when_the_keeper_alone_dies_the_groups_of_its_plugins_do(
    run_host: Any, tmp_path: Path
) -> None:
    """The kernel kills only their leaders, maybe before the host hears of anything."""
    said = run_host(
        """
        import select
        from contextlib import suppress
        for _ in range(5):
            sandbox = ExecSandbox("sh", "-c", "sleep 600 & echo $! >" + sys.argv[1] + "; " + OBEY)
            sandbox.start()
            sleeper = os.pidfd_open(int(Path(sys.argv[1]).read_text()))
            os.kill(keeper(), signal.SIGKILL)
            with suppress(Exception):
                sandbox.stop()
            assert select.select([sleeper], [], [], 30)[0], "it is still there"
        say("all")
        """,
        str(tmp_path / "pid"),
    )
    assert said.endswith("all\n")
