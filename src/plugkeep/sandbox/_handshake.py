"""Waiting for the first thing that a program says: on stdout, in a frame, or whichever it is."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Iterator
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from plugkeep.sandbox._output import Output
from plugkeep.sandbox._process import Process, milliseconds
from plugkeep.wire.ready import ReadyParser, Verdict

if TYPE_CHECKING:
    from plugkeep.channel.announcement import Announcement

QUOTED = 200  # bytes kept of what was received
CLOSED_GRACE = 0.5  # a process whose stdout has ended is probably about to exit: wait to see how
_CHUNK = 16 * 1024


class Said(Enum):
    """What waiting for the ready message came to."""

    READY = "ready"
    REFUSED = "refused"
    NO_READY = "no ready"  # in time
    EXITED = "exited"  # by itself


class Ear(Protocol):
    """Listens in one of the places where a ready message may come.

    With REFUSED, `reason` says why, as a part of a sentence that begins with `how` and ends with
    `remark`, and `meant_it` whether it was a ready message all the same, and not just output. With
    READY, `announcement` is what
    it says (None: level 0), and `rest` what came after it.
    """

    descriptor: int
    how: str
    remark: str
    reason: str
    meant_it: bool
    announcement: Announcement | None

    @property
    def received(self) -> bytes: ...
    @property
    def rest(self) -> bytes: ...
    def read(self) -> bytes | None: ...
    def read_rest(self) -> Iterator[bytes]: ...
    def feed(self, data: bytes) -> Verdict: ...
    def end(self) -> Verdict: ...


class PrintedEar:
    """Listens to stdout."""

    how = "printed"
    remark = "; before a ready message on stdout, other output goes to stderr"

    def __init__(self, stdout: Output, offered: int) -> None:
        self.descriptor = stdout.descriptor
        self.reason = ""
        self.meant_it = False
        self.announcement: Announcement | None = None
        self.read, self.read_rest = stdout.read, stdout.read_rest
        self._offered = offered
        self._parser = ReadyParser()

    @property
    def received(self) -> bytes:
        return self._parser.message + self._parser.rest

    @property
    def rest(self) -> bytes:
        return self._parser.rest

    def feed(self, data: bytes) -> Verdict:
        verdict = self._parser.feed(data)
        self.reason = self._parser.reason
        return self._agree() if verdict is Verdict.READY else verdict

    def end(self) -> Verdict:
        verdict = self._parser.end()
        self.reason = self._parser.reason
        return verdict

    def _agree(self) -> Verdict:
        # Most say nothing more. (A key may be written with escapes, and counts all the same.)
        message = self._parser.message
        if not self._offered or not (b'"wire"' in message or b"\\u" in message):
            return Verdict.READY
        from plugkeep.channel.announcement import Refused, read_printed

        try:
            self.announcement = read_printed(message, self._offered)
        except Refused as refused:
            self.reason, self.meant_it = str(refused), True
            return Verdict.REFUSED
        return Verdict.READY


class FrameEar:
    """Listens for the first frame of level 2."""

    how = "sent"
    remark = ""

    def __init__(self, descriptor: int) -> None:
        from plugkeep.channel.announcement import FirstFrame

        self.descriptor = descriptor
        self.reason = ""
        self.meant_it = True
        self.announcement: Announcement | None = None
        self._frame = FirstFrame()

    @property
    def received(self) -> bytes:
        return bytes(self._frame.received)

    @property
    def rest(self) -> bytes:
        return self._frame.rest

    def read(self) -> bytes | None:
        try:
            return os.read(self.descriptor, _CHUNK)
        except BlockingIOError:
            return None

    def read_rest(self) -> Iterator[bytes]:
        while data := self.read():  # not for ever: a message has its limit
            yield data

    def feed(self, data: bytes) -> Verdict:
        from plugkeep.channel.announcement import Refused, read_frame

        try:
            if not self._frame.feed(data):
                return Verdict.MORE
            self.announcement = read_frame(self._frame.message)
        except Refused as refused:
            self.reason = str(refused)
            return Verdict.REFUSED
        return Verdict.READY

    def end(self) -> Verdict:
        self.reason = "ends in the middle" if self.received else "is empty"
        return Verdict.REFUSED


class Handshake:
    """Listens with all its ears until one hears that the program is ready, or none can any more.

    `heard` is the ear that matters in the end, `unheard` are the others that still listen. What
    one of several refuses does not count before the others have heard nothing: it may have been
    meant for the log.
    """

    def __init__(
        self, process: Process, ears: list[Ear], let_go: Callable[[Ear], object] = lambda _: None
    ) -> None:
        """Call `let_go` with an ear that has refused what it heard while there are others."""
        self.heard = ears[0]
        self._let_go = let_go
        self._refused = False
        self._exit_fd = process.exit_fd
        self._ears = {ear.descriptor: ear for ear in ears}
        self._poller = select.poll()
        for descriptor in (self._exit_fd, *self._ears):
            self._poller.register(descriptor, select.POLLIN)

    def wait(self, deadline: float) -> Said:
        """Wait until `deadline`, on the monotonic clock."""
        while events := self._poller.poll(milliseconds(deadline - time.monotonic())):
            descriptors = [descriptor for descriptor, _ in events]
            if self._exit_fd in descriptors:
                return self._hear_the_rest()
            for ear in [self._ears[descriptor] for descriptor in descriptors]:
                verdict = self._hear(ear)
                if verdict is Verdict.READY:
                    return Said.READY
                if verdict is Verdict.REFUSED and ear.meant_it:
                    return Said.REFUSED
            if not self._ears:
                if self._refused:
                    return Said.REFUSED
                deadline = min(deadline, time.monotonic() + CLOSED_GRACE)
        if not self._ears:
            self.heard.end()
            return Said.REFUSED
        return Said.REFUSED if self._refused else Said.NO_READY

    @property
    def unheard(self) -> list[Ear]:
        return [ear for ear in self._ears.values() if ear is not self.heard]

    def _hear(self, ear: Ear) -> Verdict:
        data = ear.read()
        if data is None:
            return Verdict.MORE
        verdict = ear.feed(data) if data else Verdict.MORE
        if verdict is Verdict.READY:
            self.heard = ear
        elif verdict is Verdict.REFUSED:
            self.heard, self._refused = ear, True
            if len(self._ears) > 1:
                self._let_go(ear)
        if not data or verdict is not Verdict.MORE:
            self._poller.unregister(ear.descriptor)
            del self._ears[ear.descriptor]
        return verdict

    def _hear_the_rest(self) -> Said:
        """Hear what an ended program has still said."""
        for ear in self._ears.values():
            verdict = Verdict.MORE
            for data in ear.read_rest():
                verdict = ear.feed(data)
                if verdict is not Verdict.MORE:
                    break  # what follows is not the ear's, and stays to be logged
            if verdict is not Verdict.MORE:
                self.heard = ear
                return Said.READY if verdict is Verdict.READY else Said.REFUSED
        return Said.REFUSED if self._refused else Said.EXITED
