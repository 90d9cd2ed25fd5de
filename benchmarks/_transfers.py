"""What large data is measured beside: for each peer its host's end, and the child's end below.

A peer is used as ``with peer() as there_and_back: there_and_back(data)``. Pipe and socket read
into a buffer that is used again, which no program that keeps what it gets can do: the least that
moving bytes by write and read costs.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from _child import child, piped_child, ready

MIB = 1 << 20
LARGEST = 64 * MIB
SIZE = 8  # bytes that say how many follow

ThereAndBack = Callable[[bytes], object]
#: Writes some or reads some, and returns how much.
Some = Callable[[memoryview], int]


def whole(some: Some, view: memoryview) -> None:
    done = 0
    while done < len(view):
        step = some(view[done:])
        if not step:
            raise EOFError
        done += step


def exchanger(write: Some, read: Some) -> ThereAndBack:
    buffer = memoryview(bytearray(LARGEST))

    def there_and_back(data: bytes) -> None:
        whole(write, memoryview(len(data).to_bytes(SIZE, "little")))
        whole(write, memoryview(data))
        whole(read, buffer[: len(data)])

    return there_and_back


def give_back(write: Some, read: Some) -> None:
    """Read a size and so many bytes, write them back, and so on to the end."""
    buffer, size = memoryview(bytearray(LARGEST)), bytearray(SIZE)
    ready()
    try:
        while True:
            whole(read, memoryview(size))
            view = buffer[: int.from_bytes(size, "little")]
            whole(read, view)
            whole(write, view)
    except EOFError:
        return


# --- Pipes, of the largest capacity that everyone may have ----------------------------------------


@contextmanager
def by_pipe() -> Iterator[ThereAndBack]:
    with piped_child(__file__, "pipe", capacity=MIB) as (source, target):
        yield exchanger(*of_pipes(source, target))


def of_pipes(source: int, target: int) -> tuple[Some, Some]:
    return lambda view: os.write(target, view), lambda view: os.readv(source, [view])


def pipe(source: str, target: str) -> None:
    give_back(*of_pipes(int(source), int(target)))


# --- A Unix socket -------------------------------------------------------------------------------


@contextmanager
def by_socket() -> Iterator[ThereAndBack]:
    ours, theirs = socket.socketpair()
    descriptor = theirs.detach()
    with child(__file__, "socket", descriptor, inherits=(descriptor,)), ours:
        yield exchanger(*of_socket(ours))


def of_socket(sock: socket.socket) -> tuple[Some, Some]:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MIB)
    return sock.send, sock.recv_into


def socket_(descriptor: str) -> None:
    give_back(*of_socket(socket.socket(fileno=int(descriptor))))


# --- JSON with base64, by the standard library ----------------------------------------------------


@contextmanager
def by_json() -> Iterator[ThereAndBack]:
    with piped_child(__file__, "json", capacity=MIB) as (source, target):

        def there_and_back(data: bytes) -> bytes:
            write_line(target, data)
            return read_line(source)

        yield there_and_back


def write_line(target: int, data: bytes) -> None:
    import base64
    import json

    message = {"jsonrpc": "2.0", "id": 1, "result": base64.b64encode(data).decode()}
    line = json.dumps(message).encode() + b"\n"
    whole(lambda view: os.write(target, view), memoryview(line))


def read_line(source: int) -> bytes:
    import base64
    import json

    parts = []
    while not parts or not parts[-1].endswith(b"\n"):
        parts.append(os.read(source, MIB))
        if not parts[-1]:
            raise EOFError
    return base64.b64decode(json.loads(b"".join(parts))["result"])


def json_(source: str, target: str) -> None:
    ready()
    try:
        while True:
            write_line(int(target), read_line(int(source)))
    except EOFError:
        return


CHILDREN: dict[str, Callable[..., None]] = {"pipe": pipe, "socket": socket_, "json": json_}


if __name__ == "__main__":
    CHILDREN[sys.argv[1]](*sys.argv[2:])
