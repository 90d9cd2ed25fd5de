"""Hosts in processes of their own, so that they and their keepers can be killed."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

#: Seconds after which a test gives up waiting. Nothing takes as long where nothing is wrong.
PATIENCE = 30.0

PRELUDE = """\
import logging, os, signal, sys
from pathlib import Path
from plugkeep import ExecSandbox, isolate

logging.basicConfig(format="%(levelname)s %(message)s", stream=sys.stdout, level=logging.INFO)
STAY = "printf '{\\"ready\\":true}'; exec sleep 600"
OBEY = "printf '{\\"ready\\":true}'; read line"

def keeper():
    from plugkeep.sandbox.keeper.client import keepers
    return keepers()[-1].pid

def zygote():
    from plugkeep.sandbox.keeper.zygote import zygote
    return zygote().pid if zygote() else 0

def say(*words):
    print(*words, flush=True)

def be(who):
    # An ordinary user, but one who may read all: the interpreter may be under root's home.
    if who != "ordinary" or os.getuid():
        return
    import ctypes, struct
    libc, may_read = ctypes.CDLL(None, use_errno=True), 1 << 2
    assert libc.prctl(8, 1, 0, 0, 0) == 0  # PR_SET_KEEPCAPS
    os.setgroups([])
    os.setresgid(4711, 4711, 4711)
    os.setresuid(4711, 4711, 4711)
    head, sets = struct.pack("Ii", 0x20080522, 0), struct.pack("6I", *[may_read] * 3, 0, 0, 0)
    assert libc.capset(head, sets) == 0
    assert libc.prctl(47, 2, 2, 0, 0) == 0  # PR_CAP_AMBIENT_RAISE
"""

PLUGIN = """
import os
from plugkeep import expose
{top}
class PluginFactory:
    name = "small"
    def start(self): ...
    def stop(self): ...
    @expose
    def pid(self): return os.getpid()
    @expose
    def parent(self): return os.getppid()
    @expose
    def cwd(self): return os.getcwd()
"""


@pytest.fixture
def source(tmp_path: Path) -> Callable[[str], str]:
    """Return a function that writes a small plugin which begins with certain lines."""

    def write(top: str = "") -> str:
        path = tmp_path / "small.py"
        path.write_text(PLUGIN.format(top=dedent(top)))
        return str(path)

    return write


@pytest.fixture
def run_host(tmp_path: Path) -> Callable[..., str]:
    """Return a function that runs a host and returns what it printed and logged."""

    def run(body: str, *args: str, **options: Any) -> str:
        script = tmp_path / "host.py"
        script.write_text(PRELUDE + dedent(body))
        done = subprocess.run(
            [sys.executable, script, *args],
            capture_output=True,
            text=True,
            timeout=100,
            **options,
        )
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    return run


@pytest.fixture
def begin_host(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Return a function that starts a host, which may be killed."""
    running: list[subprocess.Popen[str]] = []

    def begin(body: str, *args: str, **options: Any) -> subprocess.Popen[str]:
        script = tmp_path / f"host{len(running)}.py"  # the one before may be about to read its own
        script.write_text(PRELUDE + dedent(body))
        command = [sys.executable, str(script), *args]
        running.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options))
        return running[-1]

    yield begin
    for process in running:
        process.kill()
        process.communicate()


@pytest.fixture
def gone() -> Callable[[int], None]:
    """Return a function that waits until no process of that number runs."""

    def wait(pid: int) -> None:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        try:
            ended, _, _ = select.select([descriptor], [], [], PATIENCE)
        finally:
            os.close(descriptor)
        assert ended, f"process {pid} is still there"

    return wait
