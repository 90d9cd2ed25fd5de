"""What is said between the keeper and its host, and how little it takes."""

from __future__ import annotations

# The same as `socket` has, without the milliseconds in which that makes enums.
import _socket as sockets
import os
import sys

BIG = 64 * 1024


class suppress:  # noqa: N801  # as `contextlib` has it, which takes long to import as well
    """Let errors of some kinds pass."""

    def __init__(self, *kinds: type[BaseException]) -> None:
        self._kinds = kinds

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        return kind is not None and issubclass(kind, self._kinds)


def receive(source: sockets.socket) -> tuple[bytes, list[int]]:
    """Return a message and the descriptors that came with it, which programs do not inherit."""
    flags = sockets.MSG_CMSG_CLOEXEC | sockets.MSG_DONTWAIT
    try:
        message, ancillary, _, _ = source.recvmsg(BIG, sockets.CMSG_SPACE(64 * 4), flags)
    except ConnectionResetError:  # it is closed, and not all that we have said has been read
        return b"", []
    found: list[int] = []
    for _, _, data in ancillary:
        found += memoryview(data[: len(data) // 4 * 4]).cast("i").tolist()
    return message, found


def has_end(report: sockets.socket) -> bool:
    """Say whether the host has closed its end, or what it writes to that."""
    try:
        return not receive(report)[0]
    except BlockingIOError:
        return False


def say(report: sockets.socket, message: bytes, *descriptors: int) -> None:
    """Tell the host, if it still listens."""
    numbers = b"".join(each.to_bytes(4, sys.byteorder) for each in descriptors)
    rights = [(sockets.SOL_SOCKET, sockets.SCM_RIGHTS, numbers)] if numbers else []
    with suppress(OSError):
        report.sendmsg([message], rights, sockets.MSG_DONTWAIT | sockets.MSG_NOSIGNAL)


def read_all(descriptor: int) -> bytes:
    """Return all that is in a file."""
    size = os.fstat(descriptor).st_size
    data = os.pread(descriptor, size, 0)
    while len(data) < size:
        data += os.pread(descriptor, size - len(data), len(data))
    return data
