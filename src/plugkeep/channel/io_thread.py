"""The one thread that reads what nobody else does, and sees when a process ends.

It lives as long as somebody has borrowed it. A thread that has been given back by everyone is
never used again: the next borrower gets a new one, so that giving back can wait for its end.
"""

from __future__ import annotations

import _thread
import os
import select
import threading
from typing import Protocol

from plugkeep.channel._attendance import Attendance, Attended

_PATIENCE = 5.0  # seconds to wait for its end, in case a log handler of the host's hangs


class Source(Protocol):
    """Something to be watched: `pump` it whenever its `descriptor` is readable."""

    descriptor: int

    def pump(self) -> bool:
        """Take what there is now; return False when nothing more can come."""
        ...


class IoThread:
    """Pumps each source that it watches, whenever there is something to read.

    Others it attends: they are read by whoever uses them, and by this thread while nobody does.

    `threading.Thread.start` waits until the thread has come up; on a busy machine that takes as
    long as the launch of the program for which it is. So a bare thread waits for the first thing
    to read (a line, the end of a process), of which there may be none, and only then starts the
    one that reads and logs.
    """

    def __init__(self) -> None:
        self.borrowers: set[int] = set()
        self.ended = False
        self._closes_itself = False
        self._sources: dict[int, Source] = {}
        self._ending = False
        # Reentrant, for the garbage collector may end a forgotten sandbox at any point.
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._running = _thread.allocate_lock()
        self._epoll = select.epoll()
        self._wake = os.eventfd(0)
        self._attendance = Attendance(self._epoll, self.wake)
        try:
            self._epoll.register(self._wake, select.EPOLLIN)
            self._running.acquire()
            _thread.start_new_thread(self._wait, ())
        except BaseException:
            self._close()
            raise

    def watch(self, source: Source, events: int = select.EPOLLIN) -> None:
        """Pump `source` from now on; without `events` only when nobody has the other end.

        Raises OSError where that cannot be watched, as files cannot.
        """
        with self._lock:
            self._epoll.register(source.descriptor, events)
            self._sources[source.descriptor] = source

    def forget(self, source: Source) -> None:
        """Pump `source` no more, if it was pumped; to be called before its descriptor is closed."""
        with self._lock:
            # The number may be another source's by now, watched since.
            if self._sources.get(source.descriptor) is source:
                del self._sources[source.descriptor]
                self._epoll.unregister(source.descriptor)

    def attend(self, source: Attended) -> None:
        """Read `source` from now on whenever nobody else does."""
        with self._lock:
            self._attendance.add(source)

    def rouse(self, source: Attended) -> None:
        """Look again whether anybody reads `source`; to be called where it is `dozing`."""
        self._attendance.rouse(source)

    def leave(self, source: Attended) -> None:
        """Attend `source` no more; to be called before its descriptors are closed."""
        with self._lock:
            self._attendance.remove(source)

    def disown(self) -> None:
        """Forget all, in a forked process: the thread has no copy, and its epoll is shared."""
        self._sources.clear()
        self._attendance.disown()

    def wake(self) -> None:
        """Make the thread look around."""
        os.eventfd_write(self._wake, 1)

    def end(self) -> None:
        """Make the thread end, and wait for that."""
        # A log handler may stop the last sandbox, and a thread cannot wait for itself.
        # (By number, for `threading.current_thread` would put a bare thread down for ever.)
        thread = self._thread
        self._closes_itself = thread is not None and thread.ident == threading.get_ident()
        self._ending = True
        self.wake()
        if not self._closes_itself and self._running.acquire(timeout=_PATIENCE):
            if self._thread is not None:
                self._thread.join(_PATIENCE)
            self._close()

    def _wait(self) -> None:
        """Wait for something to read, in a thread of which `threading` knows nothing."""
        first = self._epoll.poll()
        if self._ending:
            self._running.release()
            return
        self._thread = threading.Thread(
            target=self._read, args=(first,), name="plugkeep-io", daemon=True
        )
        try:
            self._thread.start()
        except RuntimeError:  # there can be no more threads: this one will have to do
            self._thread = None
            self._read(first)

    def _read(self, events: list[tuple[int, int]]) -> None:
        try:
            while self._turn(events):
                events = self._epoll.poll(self._attendance.timeout)
        finally:
            if self._closes_itself:
                self._close()
            self._running.release()

    def _turn(self, events: list[tuple[int, int]]) -> bool:
        for descriptor, _ in events:
            if descriptor == self._wake:
                os.eventfd_read(self._wake)
            elif (source := self._sources.get(descriptor)) is None:
                self._attendance.ready(descriptor)
            elif not source.pump():
                self.forget(source)
        self._attendance.tick()
        return not self._ending

    def _close(self) -> None:
        self._epoll.close()
        os.close(self._wake)


_lock = threading.RLock()
_current: IoThread | None = None


def borrow(borrower: object) -> IoThread:
    """Return the running thread, starting one if there is none. Give it back."""
    global _current
    with _lock:
        while True:
            thread = _current
            if thread is None or thread.ended:
                thread = _current = IoThread()
            thread.borrowers.add(id(borrower))
            # Between two lines here the garbage collector may have given back for the last one.
            if not thread.ended:
                return thread


def give_back(thread: IoThread, borrower: object) -> None:
    """Return what was borrowed. With the last one the thread ends."""
    with _lock:
        thread.borrowers.discard(id(borrower))
        if thread.borrowers or thread.ended:
            return
        thread.ended = True
    thread.end()


def _forget_after_fork() -> None:
    global _current, _lock
    if _current is not None:
        _current.disown()
    _current, _lock = None, threading.RLock()


os.register_at_fork(after_in_child=_forget_after_fork)
