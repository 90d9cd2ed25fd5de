"""Killing what is left: all descendants, whatever they do meanwhile."""

from __future__ import annotations

import os
import time
from select import EPOLLIN, epoll

from plugkeep.keeper.telling import BIG, suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Iterable
else:
    import _signal as signal  # without the enums

#: Seconds for killing all, when the host is gone. What is stuck in the kernel may take longer.
PATIENCE = 30.0


def kill_all(rung: int) -> bool:
    """Kill all descendants: the children, and then those whom their death makes ours.

    Say whether all have gone.
    """
    end = time.monotonic() + PATIENCE
    while (left := children()) and time.monotonic() < end:
        kill_each(left)
        if not sum(reap(pid) for pid in left):
            wait_for_bell(rung, 0.05)
    return not left


def kill_each(pids: Iterable[int]) -> None:
    """Kill children of ours, and all who are in the same groups.

    No process of a group can fork while that is killed, and so none gets away by doing so all the
    time. All are descendants of ours: a session, and so its groups, begins with one of them.
    """
    own, groups = os.getpgrp(), set[int]()
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            if (group := os.getpgid(pid)) == own:
                os.kill(pid, signal.SIGKILL)
            elif group not in groups:
                groups.add(group)
                os.killpg(group, signal.SIGKILL)


def wait_for_bell(rung: int, seconds: float) -> None:
    """Wait until a child may have ended."""
    with epoll() as waiting:
        waiting.register(rung, EPOLLIN)
        waiting.poll(seconds)
    with suppress(BlockingIOError):
        os.read(rung, BIG)


def reap(pid: int) -> bool:
    """Say whether this child had ended; it is gone then."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True


def children() -> set[int]:
    """Return the numbers of all children, those included that nobody has waited for."""
    pid = os.getpid()
    try:
        with open(f"/proc/self/task/{pid}/children", "rb") as file:
            return set(map(int, file.read().split()))
    except OSError:  # kernels need not have been built with it
        numbers = [int(name) for name in os.listdir("/proc") if name.isdigit()]
        return {number for number in numbers if parent(number) == pid}


def parent(pid: int) -> int:
    """Return whose child a process is; 0 where it is gone."""
    words = _stat(pid)
    return int(words[1]) if words else 0


def start_of(pid: int) -> int | None:
    """Return when a process started, in ticks since the machine did; None where it is gone."""
    words = _stat(pid)
    return int(words[19]) if words else None


def runs(pid: int) -> bool:
    """Say whether it is not gone, and does not only wait for somebody to hear of its end."""
    words = _stat(pid)
    return bool(words) and words[0] not in (b"Z", b"X")


def _stat(pid: int) -> list[bytes]:
    """Return what is in ``/proc/PID/stat`` from the third field on."""
    try:
        with open(f"/proc/{pid}/stat", "rb", 0) as file:
            return file.read().rpartition(b") ")[2].split()
    except OSError:
        return []
