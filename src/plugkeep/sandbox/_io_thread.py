"""The one thread that reads what all running processes print.

It lives as long as somebody has borrowed it. A thread that has been given back by everyone is
never used again: the next borrower gets a new one, so that giving back can wait for its end.
"""

from __future__ import annotations

import _thread
import os
import select
import threading

from plugkeep.sandbox._output import Output

_PATIENCE = 5.0  # seconds to wait for its end, in case a log handler of the host's hangs


class IoThread:
    """Pumps each output that it watches, whenever there is something to read.

    `threading.Thread.start` waits until the thread has come up; on a busy machine that takes as
    long as the launch of the program for which it is. So a bare thread waits for the first thing
    to read, of which there may be none, and only then starts the one that reads and logs.
    """

    def __init__(self) -> None:
        self.borrowers: set[int] = set()
        self.ended = False
        self._closes_itself = False
        self._outputs: dict[int, Output] = {}
        # Reentrant, for the garbage collector may end a forgotten sandbox at any point.
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._running = _thread.allocate_lock()
        self._epoll = select.epoll()
        self._wake = os.eventfd(0)
        try:
            self._epoll.register(self._wake, select.EPOLLIN)
            self._running.acquire()
            _thread.start_new_thread(self._wait, ())
        except BaseException:
            self._close()
            raise

    def watch(self, output: Output) -> None:
        """Pump `output` from now on."""
        with self._lock:
            self._epoll.register(output.descriptor, select.EPOLLIN)
            self._outputs[output.descriptor] = output

    def forget(self, output: Output) -> None:
        """Pump `output` no more, if it was pumped; to be called before its descriptor is closed."""
        with self._lock:
            # The number may be another output's by now, watched since.
            if self._outputs.get(output.descriptor) is output:
                del self._outputs[output.descriptor]
                self._epoll.unregister(output.descriptor)

    def end(self) -> None:
        """Make the thread end, and wait for that."""
        # A log handler may stop the last sandbox, and a thread cannot wait for itself.
        self._closes_itself = threading.current_thread() is self._thread
        os.eventfd_write(self._wake, 1)
        if not self._closes_itself and self._running.acquire(timeout=_PATIENCE):
            if self._thread is not None:
                self._thread.join(_PATIENCE)
            self._close()

    def _wait(self) -> None:
        """Wait for something to read, in a thread of which `threading` knows nothing."""
        if self._wake in dict(self._epoll.poll()):
            self._running.release()
            return
        self._thread = threading.Thread(target=self._read, name="plugkeep-io", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # there can be no more threads: this one will have to do
            self._thread = None
            self._read()

    def _read(self) -> None:
        try:
            while self._turn():
                pass
        finally:
            if self._closes_itself:
                self._close()
            self._running.release()

    def _turn(self) -> bool:
        for descriptor, _ in self._epoll.poll():
            if descriptor == self._wake:
                return False
            output = self._outputs.get(descriptor)
            if output is not None and not output.pump():
                self.forget(output)
        return True

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
    # The thread has no copy here, and its epoll is shared with the parent: leave it alone.
    global _current, _lock
    _current, _lock = None, threading.RLock()


os.register_at_fork(after_in_child=_forget_after_fork)
