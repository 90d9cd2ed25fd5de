"""What a program inherits from whoever launches it, apart from environment, folder and files."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Final

#: Lines of ``/proc/thread-self/status``: who it is, what it may, where it runs.
_INHERITED: Final = (
    *(b"Umask", b"Uid", b"Gid", b"Groups", b"NoNewPrivs", b"Seccomp", b"Seccomp_filters"),
    *(b"CapInh", b"CapPrm", b"CapEff", b"CapBnd", b"CapAmb", b"Cpus_allowed", b"Mems_allowed"),
)
_FILES: Final = ("limits", "cgroup", "oom_score_adj")
_LINKS: Final = ("ns/mnt", "ns/net", "ns/pid_for_children", "ns/user")
#: Python programs have the first two restored, and nobody's children are to be reaped unseen.
_RESTORED: Final = sum(1 << number - 1 for number in (13, 17, 25))  # SIGPIPE, SIGCHLD, SIGXFSZ

#: Of a system that has no such thing. That too much is open must not look like a change.
_ABSENT: Final = (FileNotFoundError, NotADirectoryError, PermissionError)

Surroundings = tuple[object, ...]


def surroundings() -> Surroundings:
    """Return what a program would inherit that this thread were to launch now."""
    root = os.stat("/")
    return (
        os.getpriority(os.PRIO_PROCESS, 0),
        os.sched_getscheduler(0),
        (root.st_dev, root.st_ino),
        *_status(),
        *map(_content, _FILES),
        *map(_target, _LINKS),
    )


def _status() -> list[object]:
    found: list[object] = []
    for line in _content("status").splitlines():
        name, _, value = line.partition(b":")
        if name in _INHERITED:
            found.append(value)
        elif name == b"SigIgn":
            found.append(int(value, 16) & ~_RESTORED)
    return found


def _content(name: str) -> bytes:
    with suppress(*_ABSENT), open(f"/proc/thread-self/{name}", "rb", 0) as file:
        return file.read()
    return b""


def _target(name: str) -> str:
    with suppress(*_ABSENT):
        return os.readlink(f"/proc/thread-self/{name}")
    return ""
