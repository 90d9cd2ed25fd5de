"""What is to be sent, in order, by whichever thread comes along."""

from __future__ import annotations

import os
import select
import threading
from collections import deque
from itertools import islice, takewhile
from os import write
from select import PIPE_BUF
from typing import TYPE_CHECKING, Any

from plugkeep.channel.apart import rest_of, send_some
from plugkeep.signals import SignalsHeld
from plugkeep.wire.sending import Apart, Sending

if TYPE_CHECKING:
    from plugkeep.channel.ends import Ends

#: So many pieces are written at once.
_MOST_PIECES = 256


class Outbox:
    """A queue of frames and buffers, and the writing of them without ever waiting.

    Whoever holds the pen writes all there is. Nobody waits for it: who finds it taken may go, for
    its holder looks into the queue again after laying it down.

    A signal's handler may raise between any two steps, but not inside one that is made in C: so
    what a write has come to is noted by the same call that writes, and settled at leisure.
    """

    def __init__(self, ends: Ends) -> None:
        self._ends = ends
        #: Frames and buffers, for others only to look whether there are any.
        self.queue: deque[Any] = deque()
        self._written: list[int] = []  # from the head of the queue on; at most one entry
        # Reentrant, for a signal's handler may call while its own thread is writing a frame.
        self._pen = threading.RLock()
        self._try_pen, self._lay_down = self._pen.acquire, self._pen.release
        self._has_pen = self._pen._is_owned  # type: ignore[attr-defined]
        self._is_writing = False  # more than a single frame
        self._descriptor = ends.write
        #: How many bytes have been written slowly; whether it grows tells a stuck reader.
        self.moved = 0
        #: How many bytes are waiting, nearly: a signal's handler may raise before all are counted.
        self.size = 0
        #: The other end takes nothing any more: what is sent is thrown away.
        self.is_broken = False

    def put(self, sending: Sending) -> None:
        """Add to the queue; `flush` some time."""
        frame, apart = sending
        size = len(frame)
        for piece in apart:
            size += piece.buffer.nbytes
        self.size += size  # first, for as soon as it is there it may be written, and be no more
        self.queue.extend((frame, *apart))  # in one step, for they belong together

    def send(self, sending: Sending) -> bool:
        """Add to the queue and write what can be written; return what `flush` does."""
        frame, apart = sending
        if not apart and not self.queue:
            try:
                if self._try_pen(False):
                    if not self.queue:
                        if len(frame) <= PIPE_BUF:
                            # The system writes so little whole or not at all: nothing to note.
                            write(self._descriptor, frame)
                        else:
                            self._write_first(frame)
                        self._lay_down()
                        # Somebody may have come meanwhile, and gone.
                        return not self.queue or self.flush()
                    self._lay_down()
            except BlockingIOError:
                self._lay_down()
            except BaseException as error:
                if self._has_pen():
                    self._lay_down()
                if not isinstance(error, OSError):
                    raise
                self.is_broken = True
        self.put(sending)
        return self.flush()

    def _write_first(self, frame: bytes | bytearray) -> None:
        """Put a frame into the queue, which was empty, and write what can be written of it."""
        writing = map(write, (self._descriptor,), (frame,))
        self.put((frame, ()))
        # Without a call in between: a signal's handler might come, and write it itself.
        if self.queue and self.queue[0] is frame and not self._written:
            try:  # noqa: SIM105  # see above
                self._written.extend(writing)
            except BlockingIOError:
                pass
        self._settle()

    def flush(self) -> bool:
        """Write what can be written at once; return False where something is left to the caller.

        That is so where the other end takes no more now, or, `is_broken`, for ever.
        """
        if not self.queue:
            return True
        # Held, for a signal's handler that calls would wait for what cannot be sent meanwhile.
        with SignalsHeld():
            if self._is_writing and self._has_pen():
                return True  # the garbage collector comes in between; it goes on afterwards
            had_pen = self._has_pen()  # further out, for a single frame
            done = True
            try:
                while done and self.queue and self._try_pen(False):
                    self._is_writing = True
                    done = self._write_all()
                    self._is_writing = False
                    self._lay_down()
            finally:
                if self._has_pen() and (self._is_writing or not had_pen):
                    self._is_writing = False
                    self._lay_down()
            return done

    def __len__(self) -> int:
        return len(self.queue)

    @property
    def descriptor(self) -> int:
        """What to wait for before there is more that can be written."""
        queue = self.queue
        try:
            at_socket = type(queue[0]) is Apart
        except IndexError:
            at_socket = False
        if at_socket and self._ends.socket is not None:
            return self._ends.socket.fileno()
        return self._ends.write

    def wait(self, timeout_ms: int | None) -> None:
        """Wait until more can be written."""
        poller = select.poll()
        poller.register(self.descriptor, select.POLLOUT)
        poller.poll(timeout_ms)

    def _write_all(self) -> bool:
        """Write the queue; return False where there is something left that cannot be written."""
        try:
            self._settle()
            while self.queue and not self.is_broken:
                if not self._write(self.queue[0]):
                    return False
                self._settle()
            self.size = 0
        except BlockingIOError:
            return False
        except OSError:
            self.is_broken = True
        if self.is_broken:
            self.queue.clear()
            self._written.clear()
        return not self.is_broken

    def _write(self, piece: Any) -> bool:
        """Write of the queue, whose head is `piece`, what can be written; say whether to go on."""
        queue = self.queue
        if type(piece) is Apart:
            assert self._ends.socket is not None  # noqa: S101  # else nothing travels so
            return send_some(self._ends.socket, piece, self._written)
        if len(queue) == 1 or type(queue[1]) is Apart:
            self._written.extend(map(os.write, (self._descriptor,), (piece,)))
        else:
            pieces = islice(takewhile(_is_frame, queue.copy()), _MOST_PIECES)
            self._written.extend(map(os.writev, (self._descriptor,), (list(pieces),)))
        return True

    def _settle(self) -> None:
        """Take from the queue what has been written."""
        while self._written:
            piece = self.queue[0]
            count = self._written[0]
            rest: Any
            if type(piece) is Apart:
                size, rest = count, rest_of(piece, count)
            else:
                size = min(count, len(piece))
                rest = memoryview(piece)[size:] if size < len(piece) else None
            # No call from here on, so nothing comes in between.
            self.moved += size
            self.size -= size
            if rest is None:
                del self.queue[0]
            else:
                self.queue[0] = rest
            if size < count:
                self._written[0] = count - size
            else:
                del self._written[0]


def _is_frame(piece: Any) -> bool:
    return type(piece) is not Apart
