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
    sys.stdout.write(" ".join(map(str, words)) + "\\n")  # at once, for other threads log there
    sys.stdout.flush()

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

#: Runs a host, kills it a while after it has said something, and waits for all its descendants:
#: who loses its parent and has no keeper becomes the warden's child. No one is looked for.
WARDEN = """
import ctypes, os, select, signal, subprocess, sys, time

ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
how, moment, *command = sys.argv[1:]
host = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
assert host.stdout.readline(), "it has ended by itself"
end = time.monotonic() + float(moment)
while time.monotonic() < end:
    pass
if how == "stopped":
    host.send_signal(signal.SIGSTOP)
host.kill()

def left():
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return file.read().split()

def give_up(*_):
    for pid in (found := left()):
        with open(f"/proc/{pid}/cmdline") as file:
            print(pid, file.read().replace(chr(0), " "), flush=True)
    while found:
        for pid in found:
            os.kill(int(pid), signal.SIGKILL)
        os.wait()
        found = left()
    os._exit(1)

signal.signal(signal.SIGALRM, give_up)
signal.alarm(20)
try:
    while True:
        os.wait()
except ChildProcessError:
    pass
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


@pytest.fixture
def run_warden(tmp_path: Path) -> Callable[..., None]:
    """Return a function that kills a host at some moment and waits for all that it began."""

    def run(body: str, *args: str, how: str = "killed", moment: float = 0.0) -> None:
        warden, host = tmp_path / "warden.py", tmp_path / "host.py"
        warden.write_text(WARDEN)
        host.write_text(PRELUDE + dedent(body))
        command = [sys.executable, warden, how, str(moment), sys.executable, host, *args]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, "left: " + done.stdout + done.stderr

    return run
