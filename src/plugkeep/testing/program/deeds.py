"""What the faults do. Each deed is a function of its parameters and of where it is done.

The standard library alone: the program in this folder runs without plugkeep. Everything has an
end: what waits has a limit, what grows is capped, and grandchildren end by themselves.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

#: What is kept of memory is 1 GiB at most, however often it is asked for.
MOST_MEMORY = 1 << 30
_LINE = b"flood " * 16 + b"\n"
_GARBAGE = b"\xff\x00no message\n"

#: Becomes a process of nobody's: tells its number, closes what it has not been given, and waits.
_DETACHED = """
import os, sys, time
if os.fork(): os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
os.write(int(sys.argv[2]), b"%d\\n" % os.getpid())
os.close(int(sys.argv[2]))
time.sleep(float(sys.argv[1]))
"""


class FaultError(Exception):
    """Raised by a plugin that was told to raise."""


class Place:
    """Where deeds are done, and what came of them."""

    def __init__(self) -> None:
        self.released = threading.Event()
        #: Processes that were left running.
        self.pids: list[int] = []
        self._descriptors: list[int] = []
        self._files: list[str] = []
        self._threads: list[threading.Thread] = []
        self._memory: list[bytearray] = []

    def wait(self, seconds: float) -> None:
        """Wait so long, or until it is released."""
        self.released.wait(seconds)

    def log(self, message: str) -> None:
        """Log a record."""
        print(message, file=sys.stderr, flush=True)

    def print(self, stream: int, data: bytes) -> None:
        """Print to stdout, 1, or stderr, 2."""
        write_all(stream, data)

    def wire(self) -> list[int]:
        """Return the descriptors that lead to the host."""
        return []

    def release(self) -> None:
        """End what hangs, and give back what was leaked and has been left running."""
        self.released.set()
        for thread in self._threads:
            thread.join()
        self.released.clear()
        for pid in self.pids:
            _end(pid)
        for descriptor in self._descriptors:
            os.close(descriptor)
        for path in self._files:
            with suppress(FileNotFoundError):
                os.unlink(path)  # noqa: PTH108  # importing pathlib takes longer than all the rest
        for kept in (self._threads, self.pids, self._descriptors, self._files, self._memory):
            kept.clear()


# --- It ends, raises, takes its time ----------------------------------------------------------


def leave(_: Place, *, status: int) -> NoReturn:
    os._exit(status)


def leave_in_ready(_: Place, *, status: int) -> NoReturn:
    write_all(1, b'{"ready"')
    os._exit(status)


def kill(place: Place, *, signal: str) -> None:
    number = _number(signal)
    _no_core_dump()
    os.kill(os.getpid(), number)
    place.wait(10)  # until it comes, where it is not for this very thread


def fail(_: Place, *, text: str) -> NoReturn:
    raise FaultError(text)


def hang(place: Place, *, seconds: float) -> None:
    place.wait(seconds)


def hold_gil(_: Place, *, seconds: float) -> None:
    import ctypes

    usleep = ctypes.PyDLL(None).usleep  # what is called by a PyDLL does not give the lock up
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        usleep(int(min(left, 0.9) * 1e6) + 1)


def degrade(_: Place, *, text: str) -> str:
    return text


# --- It does not stop, is deaf or dumb --------------------------------------------------------


def ignore_stop(_: Place, *, seconds: float) -> None:
    """Outlast the wire, too, which is what this is about."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        time.sleep(left)
    os._exit(0)


def ignore_sigterm(place: Place, *, seconds: float) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ignore_stop(place, seconds=seconds)


def freeze(_: Place) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def stop_reading(_: Place, *, seconds: float) -> None:
    time.sleep(seconds)
    os._exit(0)


def close_wire(place: Place) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in place.wire():
        os.dup2(nowhere, descriptor, inheritable=False)  # or what writes there next would raise
    os.close(nowhere)


# --- It says too much -------------------------------------------------------------------------


def say_garbage(place: Place, *, size: int) -> None:
    text = (_GARBAGE * (size // len(_GARBAGE) + 1))[:size]
    for descriptor in place.wire():
        write_all(descriptor, text)


def flood_stdout(place: Place, *, size: int) -> None:
    _flood(place, 1, _LINE * 600, size)


def flood_stderr(place: Place, *, size: int) -> None:
    _flood(place, 2, _LINE * 600, size)


def flood_line(place: Place, *, size: int) -> None:
    _flood(place, 2, b"x" * 60_000, size)


def flood_log(place: Place, *, count: int) -> None:
    for number in range(count):
        place.log(f"flood {number}")


def _flood(place: Place, stream: int, block: bytes, size: int) -> None:
    for _ in range(size // len(block)):
        place.print(stream, block)
    # With its end, for the next line on stdout may be a message.
    place.print(stream, block[: size % len(block)] + b"\n")


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of `data`, waiting where there is no room, also for what is not blocking."""
    while data:
        try:
            data = data[os.write(descriptor, data) :]
        except BlockingIOError:
            select.select([], [descriptor], [])


# --- It takes, and does not give back ---------------------------------------------------------


def leak_descriptors(place: Place, *, count: int) -> None:
    place._descriptors += [os.open(os.devnull, os.O_RDONLY) for _ in range(count)]


def leak_threads(place: Place, *, count: int, seconds: float) -> None:
    for number in range(count):
        thread = threading.Thread(
            target=place.released.wait, args=(seconds,), name=f"leaked-{number}", daemon=True
        )
        thread.start()
        place._threads.append(thread)


def leak_files(place: Place, *, count: int) -> None:
    for _ in range(count):
        descriptor, path = tempfile.mkstemp(prefix="leaked-")
        os.close(descriptor)
        place._files.append(path)


def leak_memory(place: Place, *, size: int) -> None:
    room = MOST_MEMORY - sum(map(len, place._memory))
    block = bytearray(min(size, room))
    for page in range(0, len(block), 4096):  # what is not touched is not taken
        block[page] = 1
    place._memory.append(block)


# --- It multiplies ----------------------------------------------------------------------------


def spawn(place: Place, *, count: int, seconds: float) -> list[int]:
    return _spawned(place, [_child(seconds) for _ in range(count)])


def spawn_detached(place: Place, *, count: int, seconds: float) -> list[int]:
    return _spawned(place, [_grandchild(seconds, ()) for _ in range(count)])


def spawn_holding(place: Place, *, count: int, seconds: float) -> list[int]:
    pipes = (1, 2, *place.wire())
    return _spawned(place, [_grandchild(seconds, pipes) for _ in range(count)])


def _child(seconds: float) -> int:
    # Not waited for, which is part of the fault; `release` does.
    process = subprocess.Popen(
        ["sleep", str(seconds)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    process.returncode = 0  # it is not to be warned of, or waited for by `subprocess`
    return process.pid


def _grandchild(seconds: float, holding: tuple[int, ...]) -> int:
    read, write = os.pipe()
    try:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _DETACHED, str(seconds), str(write)],
            stdin=subprocess.DEVNULL,
            stdout=None if holding else subprocess.DEVNULL,
            stderr=None if holding else subprocess.DEVNULL,
            pass_fds=(write, *(each for each in holding if each > 2)),
        )
    finally:
        os.close(write)
    with os.fdopen(read) as told:
        pid = int(told.readline())
    process.wait()
    return pid


def _spawned(place: Place, pids: list[int]) -> list[int]:
    place.pids += pids
    for pid in pids:
        place.log(f"spawned {pid}")
    return pids


def _end(pid: int) -> None:
    with suppress(ProcessLookupError, ChildProcessError):  # gone, or never our own child
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _number(name: str) -> int:
    if name.isdigit():  # some signals have no name
        return int(name)
    try:
        return int(signal.Signals[name])
    except KeyError:
        raise ValueError(
            f"signal is {name!r}, which is the name of none; such as SIGSEGV"
        ) from None


def _no_core_dump() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def pipes_to_host() -> list[int]:
    """Return the pipes above stderr that this process may write to, as frames travel on one."""
    found = []
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
        descriptor = int(name)
        try:
            is_pipe = stat.S_ISFIFO(os.fstat(descriptor).st_mode)
            flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
        except OSError:  # the listing's own
            continue
        if descriptor > 2 and is_pipe and flags & os.O_ACCMODE == os.O_WRONLY:
            found.append(descriptor)
    return found


DEEDS: dict[str, Callable[..., Any]] = {
    deed.__name__: deed
    for deed in (
        leave, leave_in_ready, kill, fail, hang, hold_gil, degrade, ignore_stop, ignore_sigterm,
        freeze, stop_reading, close_wire, say_garbage, flood_stdout, flood_stderr, flood_line,
        flood_log, leak_descriptors, leak_threads, leak_files, leak_memory, spawn, spawn_detached,
        spawn_holding,
    )
}  # fmt: skip
