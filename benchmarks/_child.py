"""Starting the other end of a peer: a Python program in a child, told by name what to be."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def child(
    program: str, name: str, *arguments: object, inherits: tuple[int, ...] = ()
) -> Iterator[None]:
    """Run `program` as `name`; it is ready within the block, and ends with it.

    It inherits the descriptors that it is given, which are closed here. It ends when its stdin
    does, or when what it reads from elsewhere does.
    """
    command = [sys.executable, program, name, *map(str, arguments)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=inherits
    )
    for descriptor in inherits:
        os.close(descriptor)
    with process:
        assert process.stdin
        assert process.stdout
        try:
            if process.stdout.readline() != b"ready\n":
                raise RuntimeError(f"{command} did not become ready")
            yield
        finally:
            process.stdin.close()
            end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()


@contextmanager
def piped_child(program: str, name: str, capacity: int = 0) -> Iterator[tuple[int, int]]:
    """Run a child between two pipes; yield the end to read from and the end to write to."""
    (theirs_to_read, write), (read, theirs_to_write) = os.pipe(), os.pipe()
    if capacity:
        fcntl.fcntl(read, fcntl.F_SETPIPE_SZ, capacity)
        fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, capacity)
    ends = theirs_to_read, theirs_to_write
    with child(program, name, *ends, inherits=ends):
        try:
            yield read, write
        finally:
            os.close(write)
            os.close(read)


def ready() -> None:
    """Say, as a child, that the next byte is waited for."""
    print("ready", flush=True)
