"""Hosts that are interrupted, fork, exit, forget, or have few descriptors left."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from typing import Any

RunHost = Callable[..., str]
Gone = Callable[[int | None], None]

#: A plugin that would stay for ever, were it not told to stop or killed.
STAY = """
STAY = "printf '{\\"ready\\":true}'; exec sleep 600"
OBEY = "printf '{\\"ready\\":true}'; read line"
"""


def test_a_forgotten_sandbox_is_killed(shell: Any, gone: Gone) -> None:
    sandbox = shell("printf '{\"ready\":true}'; exec sleep 600")
    sandbox.start()
    pid = sandbox.pid
    del sandbox
    gc.collect()
    gone(pid)


def test_a_host_that_exits_leaves_nothing_running(run_host: RunHost, gone: Gone) -> None:
    said = run_host(
        STAY
        + """
import threading
sandboxes = [ExecSandbox("sh", "-c", STAY, name=f"p{n}") for n in range(3)]
for sandbox in sandboxes:
    sandbox.start()
    print(sandbox.pid)
"""
    )
    for pid in map(int, said.split()):
        gone(pid)


def test_a_host_that_raises_leaves_nothing_running(run_host: RunHost, gone: Gone) -> None:
    said = run_host(
        STAY
        + """
sandbox = ExecSandbox("sh", "-c", STAY)
sandbox.start()
print(sandbox.pid, flush=True)
raise SystemExit(3)
""",
        status=3,
    )
    gone(int(said))


def test_interrupts_at_any_moment_of_start_and_stop_leave_nothing(run_host: RunHost) -> None:
    """Ctrl-C comes a little later each time, from before the launch to after the stop."""
    said = run_host(
        STAY
        + """
import os, signal, threading, time
from pathlib import Path

def interrupt(after):
    time.sleep(after)
    os.kill(os.getpid(), signal.SIGINT)

def left():
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    threads = {thread.name for thread in threading.enumerate()}
    return children, threads, len(os.listdir("/proc/self/fd"))

with ExecSandbox("sh", "-c", OBEY):
    pass
before = left()
interrupted = 0
for attempt in range(120):
    sandbox = ExecSandbox("sh", "-c", OBEY)
    thread = threading.Thread(target=interrupt, args=(attempt * 4e-5,))
    try:
        thread.start()
        try:
            sandbox.start()
            sandbox.stop()
        finally:
            thread.join()
    except KeyboardInterrupt:
        interrupted += 1
    for _ in range(2):  # the rest of a join, or of a stop, that was interrupted
        try:
            thread.join()
            if sandbox.pid is not None:
                sandbox.stop()
        except KeyboardInterrupt:
            interrupted += 1
    assert sandbox.pid is None, attempt
    now = left()
    assert now == before, (attempt, now, before)
    sandbox.start()
    sandbox.stop()
print(interrupted > 100 or interrupted)
"""
    )
    assert said == "True\n"


def test_an_interrupt_while_waiting_for_the_end_makes_it_end_by_force(run_host: RunHost) -> None:
    """The plugin itself interrupts the host, when it has been told to stop."""
    said = run_host(
        """
import os
script = "printf '{\\"ready\\":true}'; read line; kill -INT $1; exec sleep 600"
sandbox = ExecSandbox("sh", "-c", script, "sh", str(os.getpid()), stop_timeout=600)
sandbox.start()
pid = sandbox.pid
try:
    sandbox.stop()
except KeyboardInterrupt:
    print("interrupted", sandbox.pid, os.path.exists(f"/proc/{pid}"))
"""
    )
    assert said == "interrupted None False\n"


def test_a_forked_host_neither_stops_nor_kills_what_its_parent_started(run_host: RunHost) -> None:
    said = run_host(
        STAY
        + """
import os, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # fork beside threads, from Python 3.12 on
sandbox = ExecSandbox("sh", "-c", OBEY)
sandbox.start()
pid = os.fork()
if not pid:
    assert sandbox.pid is None
    try:
        sandbox.stop()
    except Exception as error:
        print(type(error).__name__, flush=True)
    other = ExecSandbox("sh", "-c", OBEY)
    with other, sandbox:
        print(sandbox.pid is not None, flush=True)
    sys.exit(0)
_, status = os.waitpid(pid, 0)
print(status, sandbox.pid is not None)
sandbox.stop()
"""
    )
    assert said == "NotStartedError\nTrue\n0 True\n"


def test_a_host_without_sigpipe_protection_survives_a_deaf_plugin(run_host: RunHost) -> None:
    said = run_host(
        STAY
        + """
import signal
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
sandbox = ExecSandbox("sh", "-c", "exec <&-;" + STAY, stop_timeout=0.1)
sandbox.start()
try:
    sandbox.stop()
except Exception as error:
    print(type(error).__name__)
"""
    )
    assert said == "StopIgnoredError\n"


def test_a_host_that_lets_the_system_reap_its_children_knows_how_they_end(
    run_host: RunHost,
) -> None:
    """For they are the keeper's."""
    said = run_host(
        STAY
        + """
import signal
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
with ExecSandbox("sh", "-c", OBEY):
    pass
for script in (OBEY + "; exit 3", "exit 4", "read line <&2; exit 5"):
    try:
        with ExecSandbox("sh", "-c", script, name="quick"):
            pass
    except Exception as error:
        print(type(error).__name__, error.returncode, error.signal)
"""
    )
    assert said == (
        "ExitStatusError 3 None\nExitedBeforeReadyError 4 None\nExitedBeforeReadyError 5 None\n"
    )


def test_running_out_of_descriptors_is_an_error_that_leaves_nothing(run_host: RunHost) -> None:
    """Whatever the number at which it comes: in a new keeper, the pipes, the launch, the thread."""
    said = run_host(
        STAY
        + """
import os, resource, threading
from pathlib import Path
sandbox = ExecSandbox("sh", "-c", OBEY)
with sandbox:
    pass
from plugkeep.sandbox.keeper.client import keepers

def left():
    theirs = {number for each in keepers() for number in each.descriptors}
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    descriptors = set(map(int, os.listdir("/proc/self/fd"))) - theirs
    return len(descriptors) - 1, set(map(int, children)) - {each.pid for each in keepers()}

before = left()
used = len(os.listdir("/proc/self/fd")) - 1
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
failed = 0
for spare in range(24):
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + spare, hard))
    try:
        with sandbox:
            pass
    except OSError as error:
        failed += 1
        assert error.errno == 24, error
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    assert left() == before, (spare, left(), before)
    assert threading.active_count() == 1, (spare, threading.enumerate())
print(failed)
"""
    )
    assert 8 <= int(said) <= 20


def test_a_plugin_inherits_no_descriptor(shell: Any, records: Any) -> None:
    leaky = os.open(os.devnull, os.O_RDONLY)
    os.set_inheritable(leaky, True)
    try:
        with shell("printf '{\"ready\":true}'; ls /proc/self/fd | tr '\\n' ' '; read line"):
            pass
    finally:
        os.close(leaky)
    assert records.lines("stdout") == ["0 1 2 3 "]  # 3 is the listing's own


def test_sandboxes_forgotten_at_random_points_deadlock_nobody(run_host: RunHost) -> None:
    """The garbage collector ends them wherever it comes by, in sections that locks guard, too."""
    said = run_host(
        STAY
        + """
import gc, threading
gc.set_threshold(20)

class Cycle:
    def __init__(self):
        self.me = self
        self.sandbox = ExecSandbox("sh", "-c", OBEY)
        self.sandbox.start()

def work():
    for _ in range(20):
        Cycle()
        with ExecSandbox("sh", "-c", OBEY):
            pass

threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
for _ in range(300):
    gc.collect()  # which does nothing while another thread is still at that
    for thread in threading.enumerate():
        if thread.name == "plugkeep-io":  # it may be at its last line
            thread.join(0.1)
# To `threading` a bare thread on which the collector came by may be a dummy, and stays.
print([each.name for each in threading.enumerate() if not each.name.startswith("Dummy")])
"""
    )
    assert said == "['MainThread']\n"


def test_it_is_a_plugin_like_any_other(shell: Any) -> None:
    from plugkeep.plugin import Plugin
    from plugkeep.registry import Registry

    registry = Registry()
    for number in range(3):
        sandbox = shell("printf '{\"ready\":true}'; read line", name=f"p{number}")
        assert isinstance(sandbox, Plugin)
        registry.register(sandbox)
    registry.register(shell("exit 3", name="bad"))
    errors = registry.start_all(workers=4)
    assert [(error.plugin, type(error.__cause__).__name__) for error in errors] == [
        ("bad", "ExitedBeforeReadyError")
    ]
    assert registry.stop_all() == []
