"""The last resort of a plugin whose host is gone, where nobody has killed it: it does so itself.

When the channel ends, the plugin is stopped as by a stop message. That takes as long as whatever it
is doing at the moment, which may be for ever. So the end is noticed beside all that is read, by the
I/O thread, and the process has a limit from then on.
"""

from __future__ import annotations

import _thread
import fcntl
import os
import select
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from plugkeep.channel.io_thread import IoThread

#: Seconds that a plugin has for stopping, once nobody is at the other end of its channel.
GRACE: Final = 10.0


class HostWatch:
    """Watches whether anybody has the other end of what the host is read from.

    `is_excused` says whether a host that still lives may have closed it, and wait for the end.
    """

    def __init__(self, source: int, thread: IoThread, is_excused: Callable[[], bool]) -> None:
        self._thread, self._is_excused = thread, is_excused
        self._parent = os.getppid()
        self.descriptor = -1
        with suppress(OSError):  # it is a file, which has no other end
            # A copy, for the thread watches the original for what there is to read.
            self.descriptor = fcntl.fcntl(source, fcntl.F_DUPFD_CLOEXEC, 3)
            thread.watch(self, events=0)  # no event that has to be asked for

    def pump(self) -> bool:
        """See `Source`: the host has gone, or has closed its end."""
        with suppress(RuntimeError):  # there can be no more threads
            _thread.start_new_thread(self._see_to_the_end, ())
        return False

    def close(self) -> None:
        """Watch no more. Where the host has gone already, what is left to do has its limit, too."""
        if self.descriptor >= 0:
            poller = select.poll()
            poller.register(self.descriptor, 0)
            if poller.poll(0):  # the I/O thread may not have come to it
                self.pump()
            self._thread.forget(self)
            os.close(self.descriptor)
            self.descriptor = -1

    def _see_to_the_end(self) -> None:
        time.sleep(GRACE)
        if not self._is_excused() or os.getppid() != self._parent:
            end()


def end() -> None:
    """Kill this process, and its group where that has begun with it."""
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
