"""A process: waiting for it, killing it with all its group, and learning how it ended."""

from __future__ import annotations

import math
import os
import select
import signal
import threading
from contextlib import suppress
from dataclasses import dataclass
from subprocess import Popen
from typing import Protocol

from plugkeep.channel.ends import Ends


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended: with a status, by a signal, or nobody knows (both None)."""

    returncode: int | None = None
    signal: int | None = None

    @property
    def clean(self) -> bool:
        """Nothing is known to have gone wrong."""
        return not self.returncode and self.signal is None

    def __str__(self) -> str:
        if self.signal is not None:
            return f"was ended by {signal_name(self.signal)}"
        if self.returncode is not None:
            return f"exited with status {self.returncode}"
        return "ended, how is unknown (other code in the host has waited for it)"


class Process(Protocol):
    """Where a plugin runs, apart from what is said to it.

    Its descriptors are the host's ends of the pipes, non-blocking, and the owner's to close;
    `exit_fd` becomes readable when the process ends. Without `stdin` there is nothing to be said
    to it there; `wire` is what level 2 runs over, where that is offered.
    """

    pid: int
    stdin: int | None
    stdout: int
    stderr: int
    exit_fd: int
    wire: Ends | None

    def wait(self, timeout: float | None) -> bool:
        """Wait `timeout` seconds for its end; say whether it has ended."""
        ...

    def kill(self, number: int) -> None:
        """Send a signal to it and all its group, if it has not been collected yet."""
        ...

    def peek(self) -> Exit | None:
        """Say how it ended, and let it be collected by and by; None while it runs."""
        ...

    def collect(self) -> Exit:
        """Leave no zombie, and say how it ended. To be called once it has ended."""
        ...


class ChildProcess:
    """A child of this process, leader of its own session and group."""

    def __init__(
        self,
        popen: Popen[bytes],
        stdin: int | None,
        stdout: int,
        stderr: int,
        wire: Ends | None = None,
    ) -> None:
        """Take over a process and its pipes. Where that fails, the process is killed."""
        self.pid = popen.pid
        self.stdin, self.stdout, self.stderr, self.wire = stdin, stdout, stderr, wire
        self._popen = popen
        self._exit: Exit | None = None
        # Held where the process might be collected meanwhile: its number is only ours until then.
        # Reentrant, for the garbage collector may end a forgotten sandbox at any point.
        self._lock = threading.RLock()
        try:
            for descriptor in (stdin, stdout, stderr):
                if descriptor is not None:
                    os.set_blocking(descriptor, False)
            self.exit_fd = os.pidfd_open(popen.pid)
        except ProcessLookupError:
            raise  # it has ended, and other code in the host has waited for it: nothing to kill
        except BaseException:
            os.killpg(popen.pid, signal.SIGKILL)
            popen.wait()
            raise

    def wait(self, timeout: float | None) -> bool:
        """Wait `timeout` seconds for its end; say whether it has ended."""
        with self._lock:
            if self._exit is not None:
                return True
            poller = select.poll()
            poller.register(self.exit_fd, select.POLLIN)
        return bool(poller.poll(milliseconds(timeout)))

    def kill(self, number: int) -> None:
        """Send a signal to it and all its group, if it has not been collected yet."""
        # While it is a zombie its number is still ours, and what remains of its group in reach.
        # Where others have reaped it (SIGCHLD ignored, os.wait in the host), the number may
        # belong to somebody else by now. Not permitted: all who remain have changed their user.
        with self._lock, suppress(ChildProcessError, ProcessLookupError, PermissionError):
            if self._exit is None:
                self._waitid()
                os.killpg(self.pid, number)

    def peek(self) -> Exit | None:
        """Say how it ended, and let it be collected by and by; None while it runs."""
        with self._lock:
            if self._exit is not None:
                return self._exit
            try:
                result = self._waitid()
            except OSError:  # others have reaped it, or the garbage collector has, a line ago
                return self._exit or Exit()
        if result is None:
            return None
        if result.si_code == os.CLD_EXITED:
            return Exit(returncode=result.si_status)
        return Exit(signal=result.si_status)

    def collect(self) -> Exit:
        """Leave no zombie, and say how it ended. To be called once it has ended."""
        with self._lock:
            if self._exit is None:
                self._exit = self.peek() or Exit()
                self._popen.poll()
                os.close(self.exit_fd)
            return self._exit

    def _waitid(self) -> os.waitid_result | None:
        return os.waitid(os.P_PIDFD, self.exit_fd, os.WEXITED | os.WNOWAIT | os.WNOHANG)


def milliseconds(seconds: float | None) -> int | None:
    """Return what `poll` takes for so many seconds; None, or infinity, is without limit."""
    if seconds is None or math.isinf(seconds):
        return None
    return min(max(math.ceil(seconds * 1000), 0), 2**31 - 1)


def signal_name(number: int) -> str:
    """Return "SIGSEGV" for 11; real-time signals have only their number."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
