"""Small messages with descriptors, between processes of one machine that trust each other.

What is larger is written to a file in memory, and that is sent along.
"""

from __future__ import annotations

import _socket as sockets  # `socket` makes enums, which takes longer than a launch
import marshal
import math
import os
import select
import struct
import sys
from collections.abc import Sequence
from typing import Any, Final

_LONGEST: Final = 64 * 1024
#: The kernel counts descriptors that are under way against a limit: let there be a few dozen.
_QUEUE: Final = 16 * 1024


#: Seconds after which it is an error that the other side does not take what is sent.
PATIENCE: Final = 30


def pair() -> tuple[sockets.socket, sockets.socket]:
    """Return two connected sockets that keep messages apart, and are not inherited."""
    kind = sockets.SOCK_SEQPACKET | sockets.SOCK_CLOEXEC
    pair = sockets.socketpair(sockets.AF_UNIX, kind)
    for each in pair:
        each.setsockopt(sockets.SOL_SOCKET, sockets.SO_SNDBUF, _QUEUE)
        # Not by `settimeout`, which would have all that reads wait as well.
        each.setsockopt(sockets.SOL_SOCKET, sockets.SO_SNDTIMEO, struct.pack("ll", PATIENCE, 0))
    return pair


def send(to: sockets.socket, message: bytes, descriptors: Sequence[int] = ()) -> None:
    """Send a message. Several threads may do so at once.

    Raises ConnectionError where the other side is closed, BlockingIOError where it takes nothing.
    """
    numbers = b"".join(each.to_bytes(4, sys.byteorder) for each in descriptors)
    rights = [(sockets.SOL_SOCKET, sockets.SCM_RIGHTS, numbers)] if numbers else []
    to.sendmsg([message], rights, sockets.MSG_NOSIGNAL)


def receive(source: sockets.socket) -> tuple[bytes, list[int]]:
    """Return the next message, b"" at the end, and what came with it, which is not inherited.

    Raises BlockingIOError where there is none.
    """
    flags = sockets.MSG_CMSG_CLOEXEC | sockets.MSG_DONTWAIT
    space = sockets.CMSG_SPACE(64 * 4)
    try:
        message, ancillary, _, _ = source.recvmsg(_LONGEST, space, flags)
    except ConnectionResetError:
        # Said once, where the other side has not read all before it closed. What it has sent
        # itself comes after that.
        message, ancillary, _, _ = source.recvmsg(_LONGEST, space, flags)
    found: list[int] = []
    for _, _, data in ancillary:
        found += memoryview(data[: len(data) // 4 * 4]).cast("i").tolist()
    return message, found


def wait(seconds: float, *descriptors: int) -> bool:
    """Wait until one of them can be read; say whether one can. Below 0: for ever."""
    poller = select.poll()
    for each in descriptors:
        poller.register(each, select.POLLIN)
    return bool(poller.poll(math.ceil(seconds * 1000)))


def written(content: Any) -> int:
    """Return the descriptor of a file in memory with `content`, for `marshal` to read."""
    descriptor = os.memfd_create("plugkeep-order", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", 0, closefd=False) as file:
            rest = memoryview(marshal.dumps(content))
            while rest:
                rest = rest[file.write(rest) :]
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def read(descriptor: int) -> Any:
    """Return what `written` was given."""
    with open(os.dup(descriptor), "rb") as file:
        file.seek(0)
        return marshal.loads(file.read())  # noqa: S302  # ours, or our parent's
