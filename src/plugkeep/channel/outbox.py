"""What is to be sent, in order, by whichever thread comes along."""

from __future__ import annotations

import os
import select
import threading
from collections import deque
from os import write
from select import PIPE_BUF
from typing import Any

from plugkeep.channel.ends import Ends
from plugkeep.wire.connection import Apart, Sending


class Outbox:
    """A queue of frames and buffers, and the writing of them without ever waiting.

    A signal's handler may raise between any two steps, but not inside one that is made in C: so
    what a write has come to is noted by the same call that writes, and settled at leisure.
    """

    def __init__(self, ends: Ends) -> None:
        self._ends = ends
        self._queue: deque[bytearray | memoryview | Apart] = deque()
        self._written: list[int] = []  # by the piece at the head of the queue; at most one entry
        # Reentrant, for a signal's handler may call while its own thread is writing.
        self._lock = threading.RLock()
        self._try_lock, self._unlock = self._lock.acquire, self._lock.release
        self._descriptor = ends.write
        self._writing = False
        #: How many bytes have been written slowly; whether it grows tells a stuck reader.
        self.moved = 0

    def put(self, sending: Sending) -> None:
        """Add to the queue; `flush` some time."""
        frame, apart = sending
        if apart:
            with self._lock:  # what belongs together stays together
                self._queue.append(frame)
                self._queue.extend(apart)
        else:
            self._queue.append(frame)

    def send(self, sending: Sending) -> bool:
        """Add to the queue and write what can be written; return what `flush` does.

        Where the other end has been closed, that is as good as sent: whoever reads will see.
        """
        frame, apart = sending
        # The system writes so little either whole or not at all: nothing to note, then.
        if not apart and len(frame) <= PIPE_BUF and not self._queue:
            try:
                if self._try_lock(False):
                    if not self._queue:
                        write(self._descriptor, frame)
                        self._unlock()
                        return True
                    self._unlock()
            except BlockingIOError:
                self._unlock()
            except BrokenPipeError:
                self._unlock()
                return True
            except BaseException:
                if self._lock._is_owned():
                    self._unlock()
                raise
        self.put(sending)
        return self.flush()

    def flush(self) -> bool:
        """Write what can be written at once; say whether the queue is empty, or soon will be.

        Raises OSError where the other end has been closed.
        """
        queue = self._queue
        while queue:
            with self._lock:
                if self._writing:
                    return True  # this very thread is at it, a signal's handler further out
                self._writing = True
                try:
                    while queue:
                        self._settle()
                        if queue and not self._write(queue[0]):
                            return False
                finally:
                    self._settle()
                    self._writing = False
        return True

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def descriptor(self) -> int:
        """What to wait for before there is more that can be written."""
        queue = self._queue
        at_socket = queue and type(queue[0]) is Apart and self._ends.socket
        return self._ends.socket.fileno() if at_socket else self._ends.write  # type: ignore[union-attr]

    def wait(self, timeout_ms: int | None, also: tuple[int, ...] = ()) -> list[int]:
        """Wait until more can be written, or one of `also` read; return the ready descriptors."""
        poller = select.poll()
        poller.register(self.descriptor, select.POLLOUT)
        for descriptor in also:
            poller.register(descriptor, select.POLLIN)
        return [descriptor for descriptor, _ in poller.poll(timeout_ms)]

    def _write(self, piece: bytearray | memoryview | Apart) -> bool:
        """Write of `piece` what can be written; return False where nothing can be, now."""
        try:
            if type(piece) is Apart:
                from plugkeep.channel import apart

                return apart.send(self._ends.socket, self._queue)
            self._written.extend(map(os.write, (self._ends.write,), (piece,)))
        except BlockingIOError:
            return False
        return True

    def _settle(self) -> None:
        """Take from the queue what has been written."""
        if self._written:
            piece: Any = self._queue[0]
            count = self._written[0]
            self.moved += count
            # No call from here on, so nothing comes in between.
            if count == len(piece):
                del self._queue[0], self._written[0]
            else:
                self._queue[0] = memoryview(piece)[count:]
                del self._written[0]
