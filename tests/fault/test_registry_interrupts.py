"""Ctrl-C for real: a host in a process of its own, interrupted in the middle of a start."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

HOST = """
import asyncio, os, sys, threading
from plugkeep import Registry

def say(line):  # in one piece, from whatever thread
    os.write(1, (line + "\\n").encode())

class First:
    name = "first"
    def start(self): say("+first")
    def stop(self): say("-first")

class Hangs:
    name = "hangs"
    requires = ["first"]
    def start(self):
        say("inside")
        threading.Event().wait()
    def stop(self): say("-hangs")

async def start_all():
    async def tick():  # asyncio alone may sleep through a signal that lands before it sleeps
        while True:
            await asyncio.sleep(0.1)
    ticker = asyncio.create_task(tick())
    await registry.astart_all()

registry = Registry({limits})
registry.register(First())
registry.register(Hangs())
try:
    {body}
except KeyboardInterrupt:
    say("interrupted")
say(" ".join(registry.state(name) for name in registry))
say(repr([str(error) for error in registry.stop_all()]))
"""

FORMS = {
    "on the caller's thread": ("", "registry.start_all()"),
    "with a limit": ("start_timeout=60", "registry.start_all()"),
    "with workers": ("", "registry.start_all(workers=2)"),
    "on an event loop": ("", "asyncio.run(start_all())"),
}


@contextmanager
def running(script: str) -> Iterator[Any]:
    """A Python process that is gone afterwards, whatever the test finds."""
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("form", FORMS)
def test_ctrl_c_marks_what_was_starting_failed_and_lets_the_host_stop_the_rest(
    form: str, until_asleep: Callable[[int], None]
) -> None:
    limits, body = FORMS[form]
    with running(HOST.format(limits=limits, body=body)) as host:
        assert [host.stdout.readline().strip() for _ in range(2)] == ["+first", "inside"]
        until_asleep(host.pid)
        host.send_signal(signal.SIGINT)
        rest = host.stdout.read().splitlines()
        # The hung method sits on a daemon thread, or was interrupted: the process ends by itself.
        assert host.wait(30) == 0
    assert rest == ["interrupted", "running failed", "-first", "[]"]


def test_strict_with_rolls_back_on_ctrl_c(until_asleep: Callable[[int], None]) -> None:
    body = "with registry: pass"
    with running(HOST.format(limits="", body=body)) as host:
        assert [host.stdout.readline().strip() for _ in range(2)] == ["+first", "inside"]
        until_asleep(host.pid)
        host.send_signal(signal.SIGINT)
        rest = host.stdout.read().splitlines()
        assert host.wait(30) == 0
    assert rest == ["-first", "interrupted", "stopped failed", "[]"]


def test_a_method_that_hangs_does_not_keep_the_interpreter_from_exiting() -> None:
    limited = HOST.format(limits="start_timeout=0.02", body="say(repr(registry.start_all()))")
    done = subprocess.run(
        [sys.executable, "-c", limited], capture_output=True, text=True, timeout=60, check=True
    )
    assert "did not start within 0.02 s" in done.stdout
    assert done.stdout.splitlines()[-2:] == ["-first", "[]"]


SWEPT = """
import faulthandler, itertools, random, signal
from plugkeep import Registry

faulthandler.dump_traceback_later(60, exit=True)  # hung: show where
random.seed({seed})

class Counted:
    def __init__(self, name, *requires):
        self.name, self.requires, self.lines = name, requires, []
    def start(self): self.lines.append("+")
    def stop(self): self.lines.append("-")

def interrupt(number, frame):
    raise KeyboardInterrupt

registry = Registry({limits})
plugins = [Counted("a"), Counted("b", "a"), Counted("c", "b")]
for plugin in plugins:
    registry.register(plugin)

def strict():
    with registry:
        pass

interrupted, longest = 0, 1e-3  # s; follows how long the actions take on this machine
kept = []  # with its frames: what only their end would give back is not given back
signal.signal(signal.SIGALRM, interrupt)
for step in range(100 * {wanted}):
    if interrupted == {wanted}:
        break
    action = random.choice([registry.start_all, registry.stop_all, strict,
                            lambda: registry.start("c"), lambda: registry.stop("a")])
    try:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, longest))
        action()
        signal.setitimer(signal.ITIMER_REAL, 0)
        longest = max(1e-5, longest * 0.95)
    except KeyboardInterrupt as error:
        interrupted += 1
        longest = min(1e-2, longest * 1.05)
        kept = [*kept[-3:], error]
    signal.setitimer(signal.ITIMER_REAL, 0)
    between = [name for name in registry if registry.state(name) in ("starting", "stopping")]
    assert not between, (step, action, between)
signal.signal(signal.SIGALRM, signal.SIG_IGN)
registry.stop_all()
registry.start_all()
assert [registry.state(name) for name in registry] == ["running"] * 3
assert registry.stop_all() == []
assert interrupted == {wanted}, interrupted
print("held after", interrupted)
"""

SWEEPS = {
    "on the caller's thread": ("", 1000),
    "with limits": ("start_timeout=60, stop_timeout=60", 300),
    "with workers": ("workers=2", 300),
}


@pytest.mark.parametrize("form", SWEEPS)
def test_wherever_a_signals_handler_raises_nothing_is_left_in_between_or_held(form: str) -> None:
    limits, wanted = SWEEPS[form]
    script = SWEPT.format(limits=limits, wanted=wanted, seed=len(form))
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.startswith("held after")
