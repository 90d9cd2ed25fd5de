"""Memory files: how the largest buffers travel, without passing through a pipe or socket.

The sender writes the bytes into a memory file, seals it, and sends its descriptor; the receiver
maps it. Sealed, it can be neither written nor cut by anyone, so what has been checked stays so.
Its pages belong to whoever still maps it, and are gone with the last view.
"""

from __future__ import annotations

import array
import fcntl
import os
import socket as sockets
from pathlib import Path

from plugkeep.errors import ProtocolViolationError

SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
#: Written at once: more would keep an event loop waiting.
STEP = 4 * 1024 * 1024
_FLAGS = sockets.MSG_DONTWAIT | sockets.MSG_CMSG_CLOEXEC
_ONE = sockets.CMSG_LEN(array.array("i").itemsize)


class MemoryFile:
    """A file that a buffer of `size` bytes will be written to, and the room for it."""

    def __init__(self, size: int) -> None:
        """Raises OSError where there is no room, no descriptor, or a limit on the size of files."""
        self._descriptors: list[int] = []
        # In one step, for a signal's handler may raise between two.
        flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
        self._descriptors.extend(map(os.memfd_create, ("plugkeep",), (flags,)))
        os.ftruncate(self.descriptor, size)
        if _is_strict():
            os.posix_fallocate(self.descriptor, 0, size)

    @property
    def descriptor(self) -> int:
        return self._descriptors[0]

    def fill(self, buffer: memoryview) -> bool:
        """Write some more of `buffer`; return whether all of it is there now, sealed."""
        # The system itself notes how far it has come, whatever comes in between.
        position = os.lseek(self.descriptor, 0, os.SEEK_CUR)
        if position < buffer.nbytes:
            position += os.write(self.descriptor, buffer[position : position + STEP])
        if position < buffer.nbytes:
            return False
        fcntl.fcntl(self.descriptor, fcntl.F_ADD_SEALS, SEALS)
        return True

    def message(self) -> tuple[list[bytes], list[tuple[int, int, bytes]]]:
        """Return what `sendmsg` takes: one byte, and the descriptor that it carries."""
        carried = array.array("i", self._descriptors).tobytes()
        return [b"\0"], [(sockets.SOL_SOCKET, sockets.SCM_RIGHTS, carried)]

    def __del__(self) -> None:
        for descriptor in self._descriptors:
            os.close(descriptor)


def _is_strict() -> bool:
    """Say whether the system promises no more memory than it has: then it may refuse any time.

    Else asking beforehand would only take as long as a third of the copy.
    """
    try:
        return Path("/proc/sys/vm/overcommit_memory").read_text() == "2\n"
    except OSError:  # not to be seen from in here
        return True


def receive(socket: sockets.socket, size: int) -> memoryview | OSError | None:
    """Return the memory file that comes next, mapped; None where it is not there yet.

    An OSError is returned where it came and could not be taken, for want of descriptors or room.
    Raises ProtocolViolationError for anything but a memory file of `size` bytes.
    """
    try:
        byte, ancillary, flags, _ = socket.recvmsg(1, _ONE, _FLAGS)
    except BlockingIOError:
        return None
    descriptors = array.array("i")
    for level, kind, data in ancillary:
        if (level, kind) == (sockets.SOL_SOCKET, sockets.SCM_RIGHTS):
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    try:
        if not byte:
            raise ConnectionResetError("the socket has ended")
        is_cut = bool(flags & sockets.MSG_CTRUNC)
        if not descriptors and is_cut:  # the system could not put it into our table
            return OSError("its memory file could not be opened: there are no more descriptors")
        _check(byte, len(descriptors) + is_cut)
        _check_file(descriptors[0], size)
        return _map(descriptors[0], size)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _check(byte: bytes, count: int) -> None:
    if count != 1:
        found = "no descriptor" if not count else "more than one descriptor"
        raise ProtocolViolationError(f"a memory file was announced, and {found} came")
    if byte != b"\0":
        raise ProtocolViolationError(f"a memory file came with the byte {byte!r}, not a zero")


def _check_file(descriptor: int, size: int) -> None:
    try:
        # First of all, for nothing but files in memory have seals, and others may be slow to ask.
        seals = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS)
    except OSError:
        raise ProtocolViolationError("a descriptor came that is no memory file's") from None
    if seals & SEALS != SEALS:
        raise ProtocolViolationError(
            f"a memory file came that is not sealed against writing, shrinking and growing "
            f"(its seals are {seals:#x})"
        )
    if (found := os.fstat(descriptor).st_size) != size:
        raise ProtocolViolationError(f"a memory file has {found} bytes; {size} were announced")


def _map(descriptor: int, size: int) -> memoryview | OSError:
    try:
        from plugkeep.channel._mapping import mapped

        return mapped(descriptor, size)
    except (MemoryError, OSError, ImportError) as error:  # also of the first import, late as it is
        return OSError(f"its memory file of {size} bytes could not be mapped: {error}")
