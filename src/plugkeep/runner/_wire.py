"""Which level of the wire is spoken, and over which descriptors; said by the environment."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import sys
from dataclasses import dataclass

from plugkeep.channel.ends import Ends

LEVEL_VARIABLE = "PLUGKEEP_WIRE"
DESCRIPTORS_VARIABLE = "PLUGKEEP_WIRE_FDS"
#: Our own host's, and no part of the wire: the plugin is to be loaded and configured, not started.
REHEARSAL_VARIABLE = "PLUGKEEP_REHEARSAL"


@dataclass
class Wire:
    """How the host is spoken to."""

    level: int
    ends: Ends
    #: Whether somebody has started the plugin by hand, at a terminal.
    is_by_hand: bool
    #: Whether the plugin is not to be started, see `REHEARSAL_VARIABLE`.
    is_rehearsal: bool

    @property
    def signals(self) -> tuple[int, ...]:
        """Which signals stop the plugin. Ctrl-C is the host's affair, where there is a host."""
        return (signal.SIGTERM, signal.SIGINT) if self.is_by_hand else (signal.SIGTERM,)

    def give_back_stdout(self) -> None:
        """Let what is written to stdout go there from now on, at level 0."""
        sys.stdout.flush()
        os.dup2(self.ends.write, 1)


def open_wire() -> Wire:
    """Return the wire to the host, and leave no trace of it to plugin code.

    Whatever the level, stdin is at its end then. Where the wire was on stdout, what is written
    there goes to stderr.
    """
    level, descriptors = _offered(
        os.environ.pop(LEVEL_VARIABLE, ""), os.environ.pop(DESCRIPTORS_VARIABLE, "")
    )
    is_rehearsal = bool(os.environ.pop(REHEARSAL_VARIABLE, ""))
    stdin = _move_away(0)
    is_by_hand = not level and os.isatty(stdin)
    if not is_by_hand:
        # Not simply ignored, for that would be handed down to the programs that plugins start.
        signal.signal(signal.SIGINT, lambda *_: None)
    if descriptors is None:
        ends = Ends(stdin, _move_away(1))
    else:
        os.close(stdin)
        ends = _ends(descriptors)
    if level:
        os.set_blocking(ends.read, True)
        os.set_blocking(ends.write, False)
    return Wire(level, ends, is_by_hand, is_rehearsal)


def _ends(descriptors: tuple[int, int, int]) -> Ends:
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    beside = socket.socket(fileno=descriptors[2])
    beside.setblocking(False)
    return Ends(descriptors[0], descriptors[1], beside)


def _move_away(descriptor: int) -> int:
    """Return a copy of stdin or stdout, and have something harmless in its place.

    Where it is closed the copy is of the null device, too.
    """
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        copy = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)
    except OSError:
        copy = fcntl.fcntl(null, fcntl.F_DUPFD_CLOEXEC, 3)
    try:
        os.dup2(2 if descriptor == 1 else null, descriptor)
    except OSError:  # there is no stderr
        os.dup2(null, descriptor)
    if null != descriptor:
        os.close(null)
    return copy


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
