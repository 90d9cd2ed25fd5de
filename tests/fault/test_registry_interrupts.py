"""Ctrl-C for real: a host in a process of its own, interrupted in the middle of a start."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

HOST = """
import sys, threading, time, asyncio
from plugkeep import Registry

class First:
    name = "first"
    def start(self): print("+first", flush=True)
    def stop(self): print("-first", flush=True)

class Hangs:
    name = "hangs"
    def start(self):
        print("inside", flush=True)
        threading.Event().wait()
    def stop(self): print("-hangs", flush=True)

registry = Registry({limits})
registry.register(First())
registry.register(Hangs())
try:
    {body}
except KeyboardInterrupt:
    print("interrupted", flush=True)
print(*(str(registry.state(name)) for name in registry), flush=True)
print([str(error) for error in registry.stop_all()], flush=True)
"""

FORMS = {
    "on the caller's thread": ("", "registry.start_all()"),
    "with a limit": ("start_timeout=60", "registry.start_all()"),
    "with workers": ("", "registry.start_all(workers=2)"),
    "on an event loop": ("", "asyncio.run(registry.astart_all())"),
}


@pytest.mark.parametrize("form", FORMS)
def test_ctrl_c_marks_what_was_starting_failed_and_lets_the_host_stop_the_rest(form: str) -> None:
    limits, body = FORMS[form]
    with subprocess.Popen(
        [sys.executable, "-c", HOST.format(limits=limits, body=body)],
        stdout=subprocess.PIPE,
        text=True,
    ) as host:
        assert host.stdout is not None
        seen = [host.stdout.readline().strip(), host.stdout.readline().strip()]
        assert sorted(seen) == ["+first", "inside"]
        host.send_signal(signal.SIGINT)
        rest = host.stdout.read().splitlines()
        # The hung method sits on a daemon thread, or was interrupted: the process ends by itself.
        assert host.wait(30) == 0
    assert rest == ["interrupted", "running failed", "-first", "[]"]


def test_strict_with_rolls_back_on_ctrl_c() -> None:
    body = "with registry: pass"
    with subprocess.Popen(
        [sys.executable, "-c", HOST.format(limits="", body=body)],
        stdout=subprocess.PIPE,
        text=True,
    ) as host:
        assert host.stdout is not None
        assert [host.stdout.readline().strip() for _ in range(2)] == ["+first", "inside"]
        host.send_signal(signal.SIGINT)
        rest = host.stdout.read().splitlines()
        assert host.wait(30) == 0
    assert rest == ["-first", "interrupted", "stopped failed", "[]"]


def test_a_method_that_hangs_does_not_keep_the_interpreter_from_exiting() -> None:
    limited = HOST.format(limits="start_timeout=0.02", body="print(registry.start_all())")
    done = subprocess.run(
        [sys.executable, "-c", limited], capture_output=True, text=True, timeout=60, check=True
    )
    assert "did not start within 0.02 s" in done.stdout
    assert done.stdout.splitlines()[-2:] == ["-first", "[]"]
