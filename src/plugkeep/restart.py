"""Whether a plugin that has ended by itself is started again: a decision, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from plugkeep.spec import Restart

#: A plugin is started again at most so many times in so many seconds. (Erlang's supervisors have
#: 1 in 5 s by default; the usual choice there is 5 or 10 in 10 s.)
INTENSITY: Final = 5
PERIOD: Final = 10.0


def again(policy: Restart, *, clean: bool, earlier: Sequence[float], now: float) -> bool:
    """Say whether to start it again, at once.

    `clean`: it has ended with status 0. `earlier` is when it was started again before, on the
    clock of `now`, in seconds.
    """
    if policy == "temporary" or (policy == "transient" and clean):
        return False
    return sum(now - PERIOD < each <= now for each in earlier) < INTENSITY
