"""Large buffers, beside the frames: raw bytes and memory files, over a Unix socket.

Nothing here waits. Sending and receiving go on where they were left, at any byte.
"""

from __future__ import annotations

import socket as sockets
from collections.abc import Callable
from typing import Final

from plugkeep.channel import _memory
from plugkeep.wire.frames import Wanted
from plugkeep.wire.sending import Apart

#: Capacity of the socket, in bytes. With the system's own, two ends on two cores wait for one
#: another most of the time.
CAPACITY: Final = 1024 * 1024
#: Moved at once: more would keep an event loop waiting.
_STEP: Final = 2 * 1024 * 1024
_PASSED_OVER = 64 * 1024
# As plain numbers, for or-ing the enums takes longer than the system does.
_DONT_WAIT = int(sockets.MSG_DONTWAIT)
_SEND_FLAGS = int(sockets.MSG_DONTWAIT | sockets.MSG_NOSIGNAL)


def socket_pair() -> tuple[sockets.socket, sockets.socket]:
    """Return the two ends of a socket for large buffers. Neither is inherited by itself."""
    pair = sockets.socketpair()
    for end in pair:
        end.setsockopt(sockets.SOL_SOCKET, sockets.SO_SNDBUF, CAPACITY)
        end.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, CAPACITY)
    return pair


def reserve(size: int) -> object | None:
    """Return a memory file with room for `size` bytes; None where there is none to be had.

    Then the socket will do. It is asked before the buffer is announced, for after that there is
    no way back.
    """
    try:
        return _memory.MemoryFile(size)
    except OSError:
        return None


def send_some(socket: sockets.socket, piece: Apart, written: list[int]) -> bool:
    """Write some of `piece`, and note in `written` how much of it is gone, in the same step.

    Return False where this may go on, but should not at once: others may have something to do.
    Raises BlockingIOError, and OSError where the other end has been closed.
    """
    if piece.file is None:
        written.extend(map(socket.send, (piece.buffer[:_STEP],), (_SEND_FLAGS,)))
        return piece.buffer.nbytes <= _STEP
    if not piece.file.fill(piece.buffer):
        return False
    byte, carried = piece.file.message()
    written.extend(map(socket.sendmsg, (byte,), (carried,), (_SEND_FLAGS,)))
    return True


def rest_of(piece: Apart, count: int) -> Apart | None:
    """Return what is left of `piece` once `count` bytes of it are written; None: it is sent."""
    if piece.file is not None or count == piece.buffer.nbytes:
        return None
    return Apart(piece.buffer[count:], piece.via)


class Receiver:
    """Takes from the socket what has been announced, one buffer after the other."""

    def __init__(self, socket: sockets.socket) -> None:
        self._socket = socket
        #: What is being filled; an error where there is no room, and the bytes are passed over.
        self._content: bytes | OSError | None = None
        self._free = memoryview(b"")  # the part of it that is still to be filled
        self._left = 0  # so many bytes are still to come
        self._fresh: Callable[[int], tuple[bytes, memoryview]] | None = None

    def receive(self, wanted: Wanted) -> bytes | memoryview | OSError | None:
        """Take some of the buffer that is `wanted`; return it once it is there.

        None: it is not, yet. An OSError is returned where it has come and could not be taken.
        Raises ProtocolViolationError, and OSError where the other end has been closed.
        """
        if wanted.via == "memory":
            return _memory.receive(self._socket, wanted.size)
        if self._content is None:
            self._begin(wanted.size)
        free = self._free or memoryview(bytearray(min(self._left, _PASSED_OVER)))
        try:
            count = self._socket.recv_into(free[:_STEP], 0, _DONT_WAIT)
        except BlockingIOError:
            return None
        if not count:
            raise ConnectionResetError("the socket has ended")
        self._free = self._free[count:]
        self._left -= count
        if self._left:
            return None
        content, self._content = self._content, None
        return content

    def _begin(self, size: int) -> None:
        self._left = size
        try:
            if self._fresh is None:
                from plugkeep.wire.fresh import fresh

                self._fresh = fresh
            self._content, self._free = self._fresh(size)
        except (MemoryError, OSError, ImportError) as error:  # also of the first import
            self._content = OSError(f"there is no room for its {size} bytes ({error})")
            self._free = memoryview(b"")
