"""Large buffers, beside the frames: raw bytes and memory files, over a Unix socket.

Nothing here waits. Sending and receiving go on where they were left, at any byte.
"""

from __future__ import annotations

import socket as sockets
from typing import Final

from plugkeep.channel import _pool
from plugkeep.wire.connection import Apart
from plugkeep.wire.frames import Wanted

#: Capacity of the socket, in bytes. With the system's own, two ends on two cores wait for one
#: another most of the time.
CAPACITY: Final = 1024 * 1024
#: Moved at once: more would keep an event loop waiting.
_STEP: Final = 2 * 1024 * 1024


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
    from plugkeep.channel._memory import MemoryFile

    try:
        return MemoryFile(size)
    except OSError:
        return None


def send(socket: sockets.socket, piece: Apart, written: list[int]) -> bool:
    """Write some of `piece`, and note in `written` how much of it is gone, in the same step.

    Return False where this may go on, but should not at once: others may have something to do.
    Raises BlockingIOError, and OSError where the other end has been closed.
    """
    flags = sockets.MSG_DONTWAIT | sockets.MSG_NOSIGNAL
    if piece.file is None:
        written.extend(map(socket.send, (piece.buffer[:_STEP],), (flags,)))
        return piece.buffer.nbytes <= _STEP
    if not piece.file.fill(piece.buffer):
        return False
    byte, carried = piece.file.message()
    written.extend(map(socket.sendmsg, (byte,), (carried,), (flags,)))
    return True


def rest(piece: Apart, count: int) -> Apart | None:
    """Return what is left of `piece` once `count` bytes of it are written; None: it is sent."""
    if piece.file is not None or count == piece.buffer.nbytes:
        return None
    return piece._replace(buffer=piece.buffer[count:])


class Receiver:
    """Takes from the socket what has been announced, one buffer after the other."""

    def __init__(self, socket: sockets.socket) -> None:
        self._socket = socket
        #: What is being filled; an error where there is no room, and the bytes are passed over.
        self._buffer: memoryview | OSError | None = None
        self._come = 0

    def receive(self, wanted: Wanted) -> memoryview | OSError | None:
        """Take some of the buffer that is `wanted`; return it once it is there, read-only.

        None: it is not, yet. An OSError is returned where it has come and could not be taken.
        Raises ProtocolViolationError, and OSError where the other end has been closed.
        """
        if wanted.via == "memory":
            from plugkeep.channel import _memory

            return _memory.receive(self._socket, wanted.size)
        if self._buffer is None:
            self._buffer, self._come = _room(wanted.size), 0
        try:
            self._take(self._buffer, wanted.size)
        except BlockingIOError:
            return None
        if self._come < wanted.size:
            return None
        buffer, self._buffer = self._buffer, None
        return buffer.toreadonly() if type(buffer) is memoryview else buffer

    def _take(self, buffer: memoryview | OSError | None, size: int) -> None:
        if type(buffer) is memoryview:
            free = buffer[self._come : self._come + _STEP]
        else:
            free = memoryview(bytearray(min(size - self._come, _PASSED_OVER)))
        count = self._socket.recv_into(free, 0, sockets.MSG_DONTWAIT)
        if not count:
            raise ConnectionResetError("the socket has ended")
        self._come += count


_PASSED_OVER = 64 * 1024


def _room(size: int) -> memoryview | OSError:
    try:
        return _pool.shared.take(size)
    except MemoryError:
        return OSError(f"there is no memory for its {size} bytes")
