"""Ctrl-C for real: a host in a process of its own, interrupted in the middle of a start."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
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
def test_ctrl_c_marks_what_was_starting_failed_and_lets_the_host_stop_the_rest(form: str) -> None:
    limits, body = FORMS[form]
    with running(HOST.format(limits=limits, body=body)) as host:
        assert [host.stdout.readline().strip() for _ in range(2)] == ["+first", "inside"]
        host.send_signal(signal.SIGINT)
        rest = host.stdout.read().splitlines()
        # The hung method sits on a daemon thread, or was interrupted: the process ends by itself.
        assert host.wait(30) == 0
    assert rest == ["interrupted", "running failed", "-first", "[]"]


def test_strict_with_rolls_back_on_ctrl_c() -> None:
    body = "with registry: pass"
    with running(HOST.format(limits="", body=body)) as host:
        assert [host.stdout.readline().strip() for _ in range(2)] == ["+first", "inside"]
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
