"""Doing something at a certain time, on one thread for all; there is none while nothing is due."""

from __future__ import annotations

import heapq
import os
import threading
import time
from collections.abc import Callable
from itertools import count
from typing import Any, Final

from plugkeep.channel.workers import run

#: Beyond so many seconds the system's locks refuse to wait; it is looked again then.
_LONGEST: Final = 3600.0


class Timer:
    """Something that is to be done."""

    __slots__ = ("_of", "function", "number", "when")

    def __init__(
        self, of: Timers, when: float, number: int, function: Callable[[], object]
    ) -> None:
        self._of = of
        self.when = when
        self.number = number
        self.function = function

    def __lt__(self, other: Timer) -> bool:
        return (self.when, self.number) < (other.when, other.number)

    def cancel(self) -> None:
        """Have it not be done, if it has not been begun."""
        self._of.drop(self)


class Timers:
    """What is due when, on the monotonic clock. Each function is called on a worker thread."""

    def __init__(self) -> None:
        # Reentrant, for a signal's handler or the garbage collector may come by at any point.
        self._changed = threading.Condition(threading.RLock())
        self._heap: list[Timer] = []
        self._numbers = count()
        self._is_served = False

    def after(self, seconds: float, function: Callable[[], object]) -> Timer:
        """Call `function` in `seconds`, soon where that is 0 or less."""
        timer = Timer(self, time.monotonic() + max(seconds, 0.0), next(self._numbers), function)
        with self._changed:
            heapq.heappush(self._heap, timer)
            if not self._is_served:
                self._is_served = True
                threading.Thread(target=self._serve, name="plugkeep-timer", daemon=True).start()
            elif self._heap[0] is timer:
                self._changed.notify()
        return timer

    def drop(self, timer: Timer) -> None:
        """Take out what is not to be done any more, if it is there still."""
        with self._changed:
            if timer in self._heap:
                self._heap.remove(timer)
                heapq.heapify(self._heap)
                self._changed.notify()

    def forget(self) -> None:
        """Forget all, in a forked process: the thread has no copy there."""
        self.__init__()  # type: ignore[misc]

    def _serve(self) -> None:
        while (function := self._next()) is not None:
            run(function)
            del function  # what is over must not be kept alive by a thread that waits

    def _next(self) -> Callable[[], Any] | None:
        """Wait for what is due next; None: nothing is to be done any more."""
        with self._changed:
            while self._heap:
                first = self._heap[0]
                left = first.when - time.monotonic()
                if left <= 0:
                    return heapq.heappop(self._heap).function
                self._changed.wait(min(left, _LONGEST))
            self._is_served = False
            return None


def cancel_all(timers: dict[str, Timer]) -> None:
    """Have nothing of it be done, for whoever wanted it is no more."""
    for timer in list(timers.values()):
        timer.cancel()


_shared: Final = Timers()
after = _shared.after
os.register_at_fork(after_in_child=_shared.forget)
