"""By when all has to be stopped, for whoever stops something.

It is set where a host's stop begins, and what a plugin's stop runs on (a thread, a task) has a
copy of it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

#: On the monotonic clock, in seconds; infinite: there is no hurry.
_stop_by: ContextVar[float] = ContextVar("plugkeep_stop_by", default=math.inf)


def time_left() -> float:
    """Return how many seconds there are for what is being stopped here, 0 or more."""
    return max(_stop_by.get() - time.monotonic(), 0.0)


@contextmanager
def stopping_by(deadline: float) -> Iterator[None]:
    """Have what is stopped within the block be stopped by `deadline`, on the monotonic clock."""
    token = _stop_by.set(min(deadline, _stop_by.get()))
    try:
        yield
    finally:
        _stop_by.reset(token)
