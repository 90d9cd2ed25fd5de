"""Which level of the wire is spoken, and over which descriptors; said by the environment."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass

from plugkeep.channel.ends import Ends

LEVEL_VARIABLE = "PLUGKEEP_WIRE"
DESCRIPTORS_VARIABLE = "PLUGKEEP_WIRE_FDS"


@dataclass
class Wire:
    """How the host is spoken to."""

    level: int
    ends: Ends


def open_wire() -> Wire:
    """Return the wire to the host, and leave no trace of it to plugin code.

    Whatever the level, stdin is at its end then. Where the wire was on stdout, what is written
    there goes to stderr; at level 0 until `give_back_stdout`.
    """
    level, descriptors = _offered(
        os.environ.pop(LEVEL_VARIABLE, ""), os.environ.pop(DESCRIPTORS_VARIABLE, "")
    )
    if descriptors is None:
        ends = Ends(_move(0, os.devnull, os.O_RDONLY), os.dup(1))
        os.dup2(2, 1)
    else:
        read, write, beside = descriptors
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
        os.close(_move(0, os.devnull, os.O_RDONLY))
        ends = Ends(read, write, socket.socket(fileno=beside))
        ends.socket.setblocking(False)
    os.set_blocking(ends.write, False)
    return Wire(level, ends)


def _offered(level: str, descriptors: str) -> tuple[int, tuple[int, int, int] | None]:
    """Return the highest level that is offered and that we speak, and the descriptors for it."""
    offered = int(level) if level.isascii() and level.isdigit() else 0
    if offered >= 2 and (found := _open_descriptors(descriptors)):
        return 2, found
    return min(offered, 1), None


def _open_descriptors(text: str) -> tuple[int, int, int] | None:
    try:
        read, write, beside = map(int, text.split(","))
        for descriptor in (read, write, beside):
            os.fstat(descriptor)
    except (ValueError, OverflowError, OSError):
        return None
    return read, write, beside


def _move(descriptor: int, path: str, flags: int) -> int:
    """Return a copy of `descriptor`, in whose place `path` is open now."""
    copy = os.dup(descriptor)
    instead = os.open(path, flags)
    os.dup2(instead, descriptor)
    os.close(instead)
    return copy
