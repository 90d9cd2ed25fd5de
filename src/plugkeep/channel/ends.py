"""The descriptors that a channel runs over."""

from __future__ import annotations

import os
import socket as sockets
from dataclasses import dataclass


@dataclass(slots=True)
class Ends:
    """Two pipes and, at level 2, a Unix stream socket beside them; all are the channel's to close.

    `read` may block where only one thread ever waits for it; `write` never does.
    """

    read: int
    write: int
    socket: sockets.socket | None = None

    def close(self) -> None:
        """Close all. Calling it again is harmless."""
        for descriptor in {self.read, self.write} - {-1}:
            os.close(descriptor)
        self.read = self.write = -1
        if self.socket is not None:
            self.socket.close()
