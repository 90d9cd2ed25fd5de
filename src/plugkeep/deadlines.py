"""By when all has to be stopped, for whoever stops something.

It is set where a host's stop begins, and what a plugin's stop runs on (a thread, a task) has a
copy of it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")

#: On the monotonic clock, in seconds; infinite: there is no hurry.
_stop_by: ContextVar[float] = ContextVar("plugkeep_stop_by", default=math.inf)


def time_left() -> float:
    """Return how many seconds there are for what is being stopped here, 0 or more."""
    return max(_stop_by.get() - time.monotonic(), 0.0)


def apportioned(things: Sequence[T], deadline: float) -> Iterator[tuple[Sequence[T], float]]:
    """Yield what is to be stopped next, and by when; all by `deadline`, on the monotonic clock.

    They come one after the other, and each has half of what is left of the whole time, the last
    one all of it: so no one of them takes the time of those that come after it, and most of them
    need next to nothing. What has no time left comes all at once in the end.
    """
    for index, thing in enumerate(things):
        now = time.monotonic()
        left = deadline - now
        if left <= 0:
            yield things[index:], deadline
            return
        yield (thing,), now + (left if index == len(things) - 1 else left / 2)


@contextmanager
def stopping_by(deadline: float) -> Iterator[None]:
    """Have what is stopped within the block be stopped by `deadline`, on the monotonic clock."""
    token = _stop_by.set(min(deadline, _stop_by.get()))
    try:
        yield
    finally:
        _stop_by.reset(token)
