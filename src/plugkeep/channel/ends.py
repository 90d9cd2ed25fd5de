"""The descriptors that a channel runs over."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket as sockets  # its import takes as long as all else that a launch needs


@dataclass(slots=True)
class Ends:
    """Two pipes and, at level 2, a Unix stream socket beside them; all are the channel's to close.

    `read` may block where only one thread ever waits for it; `write` never does.
    """

    read: int
    write: int
    socket: sockets.socket | None = None
    #: Reads the same pipe as `read` does, but waits; -1: there is none.
    patient: int = -1
    #: An event descriptor that ends the wait of whoever reads; -1: there is none.
    nudged: int = -1

    def open_patient(self) -> None:
        """Open `patient`, where that can be done: it takes a pipe, and a mounted ``/proc``."""
        with suppress(OSError):
            path = f"/proc/self/fd/{self.read}"
            os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))  # for `rouse` will have to
            self.patient = os.open(path, os.O_RDONLY)

    def rouse(self) -> None:
        """Wake whoever reads `patient`, by something to read: an empty line, the start of a frame.

        To be called when nothing else will come any more.
        """
        if self.patient >= 0:
            with suppress(OSError):  # it is full: then there is something to read
                sink = os.open(f"/proc/self/fd/{self.read}", os.O_WRONLY | os.O_NONBLOCK)
                try:
                    os.write(sink, b"\n")
                finally:
                    os.close(sink)

    def open_nudged(self) -> int:
        """Open `nudged`, and return it."""
        self.nudged = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        return self.nudged

    def close(self) -> None:
        """Close all. Calling it again is harmless."""
        descriptors = {self.read, self.write, self.patient, self.nudged} - {-1}
        self.read = self.write = self.patient = self.nudged = -1
        for descriptor in descriptors:
            os.close(descriptor)
        if self.socket is not None:
            self.socket.close()

    def __del__(self) -> None:
        # Whoever was to close them may be an event loop that has come to its own end since.
        with suppress(OSError):
            self.close()
