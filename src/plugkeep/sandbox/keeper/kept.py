"""A process whose parent is the keeper."""

from __future__ import annotations

import _socket as sockets
import os
import select
import signal
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from plugkeep.channel.ends import Ends
from plugkeep.channel.parcels import receive, wait
from plugkeep.sandbox._process import Exit, milliseconds

if TYPE_CHECKING:
    from plugkeep.sandbox.keeper.client import Keeper

#: Seconds that the keeper has for saying what it knows already.
_PATIENCE: Final = 5.0
#: Linux 6.9 and newer: the signal is for the group that this process has begun, dead or not.
_PROCESS_GROUP: Final = 4


@dataclass(frozen=True, slots=True)
class Launched:
    """A process as the keeper has introduced it: nothing has been taken over yet."""

    pid: int
    pidfd: int
    #: What the keeper tells of it goes here. Closed by us, the process is killed and reaped.
    report: sockets.socket
    keeper: Keeper


class KeptProcess:
    """A child of the keeper, leader of its own session and group. See `Process`."""

    def __init__(
        self,
        launched: Launched,
        stdin: int | None,
        stdout: int,
        stderr: int,
        wire: Ends | None = None,
    ) -> None:
        self.pid, self.exit_fd = launched.pid, launched.pidfd
        self.stdin, self.stdout, self.stderr, self.wire = stdin, stdout, stderr, wire
        self.descriptor = launched.report.fileno()
        self._report, self._keeper = launched.report, launched.keeper
        self._heard: Exit | None = None
        self._exit: Exit | None = None
        # Held where the process might be collected meanwhile: its number is only ours until then.
        # Reentrant, for the garbage collector may end a forgotten sandbox at any point.
        self._lock = threading.RLock()
        for descriptor in (stdin, stdout, stderr):
            if descriptor is not None:
                os.set_blocking(descriptor, False)

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
        # The keeper does not reap it before that, so the number is its own. Where the keeper has
        # died it may be somebody else's, as soon as the process has ended. Not permitted: all
        # who remain have changed their user.
        with self._lock, suppress(ProcessLookupError, PermissionError):
            if self._exit is None and (self._keeper.is_alive or not wait(0, self.exit_fd)):
                os.killpg(self.pid, number)

    def pump(self) -> bool:
        """See `Process`: what can be read is how it ended, or that its keeper has died."""
        with self._lock:
            if self._exit is None and not self._keeper.is_alive:
                self._keeper.mourn()
                self.kill(signal.SIGKILL)
        return False

    def peek(self) -> Exit | None:
        """Say how it ended, and let it be collected by and by; None while it runs."""
        with self._lock:
            if not self.wait(0):
                return None
            if self._heard is None and self._exit is None:
                heard = self._hear()
                # Meanwhile the garbage collector may have collected it, too.
                self._heard = self._exit or heard
            return self._exit or self._heard

    def collect(self) -> Exit:
        """Leave no zombie, and say how it ended. To be called once it has ended."""
        with self._lock:
            if self._exit is None:
                end = self.peek() or Exit()
                if self._exit is None:
                    if end == Exit():
                        self._kill_rest()
                    self._exit = end
                    self._release()
            return self._exit

    def _kill_rest(self) -> None:
        """Kill its group, which it has begun and the kernel has not killed when its keeper died."""
        with suppress(OSError):
            signal.pidfd_send_signal(self.exit_fd, signal.SIGKILL, None, _PROCESS_GROUP)

    def _hear(self) -> Exit:
        """Return what the keeper says about its end."""
        with suppress(OSError):
            if wait(_PATIENCE, self.descriptor):
                message, _ = receive(self._report)
                if message[:1] == b"X":
                    return Exit(returncode=int(message[1:]))
                if message[:1] == b"S":
                    return Exit(signal=int(message[1:]))
        return Exit()

    def _release(self) -> None:
        """Have the keeper reap it, which closes its own end then."""
        with suppress(OSError):
            self._report.shutdown(sockets.SHUT_WR)
            wait(_PATIENCE, self.descriptor)
        self._report.close()
        os.close(self.exit_fd)
