"""The descriptors that a channel runs over."""

from __future__ import annotations

import os
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

    def close(self) -> None:
        """Close all. Calling it again is harmless."""
        for descriptor in {self.read, self.write} - {-1}:
            os.close(descriptor)
        self.read = self.write = -1
        if self.socket is not None:
            self.socket.close()
