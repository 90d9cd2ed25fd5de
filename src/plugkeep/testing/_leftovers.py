"""What is open in this process, and what of it a plugin has left behind."""

from __future__ import annotations

import ctypes
import gc
import os
import select
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final, Self

_PR_SET_CHILD_SUBREAPER: Final = 36
_PR_GET_CHILD_SUBREAPER: Final = 37
#: Threads of plugkeep's own, which go when they have been idle for a while.
_OUR_THREADS: Final = "plugkeep"


class Open:
    """What this process has open at one moment, apart from what plugkeep keeps for all."""

    def __init__(self) -> None:
        kept, lasting = _lasting()
        self.descriptors = {n: to for n, to in _descriptors().items() if n not in lasting}
        self.threads = {
            each for each in threading.enumerate() if not each.name.startswith(_OUR_THREADS)
        }
        self.processes = _children("self").union(*map(_children, kept)) - kept


class Leftovers:
    """Finds what has been left behind since it was made. Use it as a context manager.

    Meanwhile temporary files go to a folder of their own, which is removed at the end, and
    processes that lose their parents become children of this one.
    """

    def __init__(self) -> None:
        self._before = Open()

    def __enter__(self) -> Self:
        self._undo = ExitStack()
        self._folder = self._undo.enter_context(_own_temporary_folder())
        self._undo.enter_context(_subreaper())
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def find(self, patience: float) -> dict[str, list[str]]:
        """Return what is left, by kind, when it has had so many seconds to go by itself.

        Processes are then killed: nobody else knows of them.
        """
        gc.collect()
        limit = time.monotonic() + patience
        self._wait(limit)
        now, before = Open(), self._before
        processes = sorted(now.processes - before.processes)
        found = {
            "threads": sorted(f"thread {each.name!r}" for each in now.threads - before.threads),
            "processes": [f"process {pid}: {_command(pid)}" for pid in processes],
            "descriptors": [
                f"descriptor {number} of {target}"
                for number, target in sorted(now.descriptors.items() - before.descriptors.items())
            ],
            "files": sorted(str(path.relative_to(self._folder)) for path in _files(self._folder)),
        }
        for pid in processes:
            _end(pid)
        return found

    def _wait(self, limit: float) -> None:
        """Wait for what is on its way to its end."""
        now = Open()
        for thread in now.threads - self._before.threads:
            thread.join(max(0.0, limit - time.monotonic()))
        for pid in now.processes - self._before.processes:
            _wait_for_exit(pid, max(0.0, limit - time.monotonic()))


@contextmanager
def _own_temporary_folder() -> Iterator[Path]:
    """Have temporary files, of this process and of those it starts, in a folder of their own."""
    folder = Path(tempfile.mkdtemp(prefix="plugkeep-check-"))
    was, variable = tempfile.tempdir, os.environ.get("TMPDIR")
    tempfile.tempdir = os.environ["TMPDIR"] = str(folder)
    try:
        yield folder
    finally:
        tempfile.tempdir = was
        if variable is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = variable
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _subreaper() -> Iterator[None]:
    """Be given the descendants that lose their parents; else nobody could tell whose they were."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    was = ctypes.c_int()
    prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(was), 0, 0, 0)
    prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        prctl(_PR_SET_CHILD_SUBREAPER, was.value, 0, 0, 0)


def _lasting() -> tuple[set[int], set[int]]:
    """Return the processes that last as long as the host, and the descriptors they are held by."""
    client = sys.modules.get("plugkeep.sandbox.keeper.client")
    zygotes = sys.modules.get("plugkeep.sandbox.keeper.zygote")
    lasting = client.keepers() if client else []
    if zygotes and (zygote := zygotes.zygote()):
        lasting.append(zygote)
    pids = {each.pid for each in lasting}
    return pids, {number for each in lasting for number in each.descriptors}


def _descriptors() -> dict[int, str]:
    found = {}
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the listing's own
            target = os.readlink(descriptor)  # noqa: PTH115  (pipe:[1] is no path)
            found[int(descriptor.name)] = target.removesuffix(" (deleted)")
    return found


def _children(process: int | str) -> set[int]:
    found: set[int] = set()
    with suppress(OSError):  # it is gone
        for task in Path(f"/proc/{process}/task").iterdir():
            with suppress(OSError):
                found.update(map(int, (task / "children").read_text().split()))
    return found


def _command(pid: int) -> str:
    with suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        return b" ".join(words).decode(errors="replace").strip()[:200] or "dead, not waited for"
    return "gone"


def _files(folder: Path) -> list[Path]:
    keepers = folder / f"plugkeep-{os.geteuid()}"  # where a keeper notes down what it launches
    return [
        path
        for path in folder.rglob("*")
        if not (path == keepers or keepers in path.parents)
        and (not path.is_dir() or not any(path.iterdir()))
    ]


def _wait_for_exit(pid: int, seconds: float) -> None:
    with suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        try:
            select.select([descriptor], [], [], seconds)
        finally:
            os.close(descriptor)


def _end(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    with suppress(ChildProcessError):  # it is the keeper's
        os.waitpid(pid, 0)
