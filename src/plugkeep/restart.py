"""What becomes of a plugin that has failed: a decision, and nothing else.

The rules are those of Erlang's supervisors (`permanent`, `transient`, `temporary`, intensity and
period) with systemd's pauses before each restart. What time it is, and chance, are passed in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, get_args

#: When a plugin is started again after it has failed: never, after an abnormal end, after any
#: end. An end is normal where the plugin's process has exited with status 0.
Restart = Literal["temporary", "transient", "permanent"]

#: What becomes of those that require it: they are stopped and come back with it, or stay up.
Dependents = Literal["restart", "keep"]

#: A pause is doubled at most so often; by then any is at its longest.
_DOUBLED: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartPolicy:
    """When, how soon and how often a plugin that has failed is started again.

    It is started again at most `intensity` times within any `period` of seconds; the failure
    after that leaves it quarantined. Before each restart there is a pause: `delay` seconds, twice
    as long for each restart within the period, at most `max_delay`. Up to the part `jitter` of
    it (from 0 to 1) is left out by chance, lest many plugins come back at the same moment.

    Defaults: 5 in 10 s is the usual choice in Erlang (whose own default is 1 in 5 s) and
    systemd's, whose pause is 0.1 s, too. Raises TypeError or ValueError, naming the field.
    """

    when: Restart = "temporary"
    intensity: int = 5
    period: float = 10.0
    delay: float = 0.1
    max_delay: float = 2.0
    jitter: float = 0.2
    dependents: Dependents = "restart"

    def __post_init__(self) -> None:
        for field, allowed in (("when", Restart), ("dependents", Dependents)):
            _check_choice(field, getattr(self, field), get_args(allowed))
        if isinstance(self.intensity, bool) or not isinstance(self.intensity, int):
            raise TypeError(f"intensity is {self.intensity!r}; it takes a whole number")
        if self.intensity < 0:
            raise ValueError(
                f"intensity is {self.intensity}; it takes how many restarts there may be within "
                "the period, 0 or more"
            )
        _check_number("period", self.period, "seconds above 0", lambda value: value > 0)
        _check_number("delay", self.delay, "seconds, 0 or more", lambda value: value >= 0)
        _check_number("max_delay", self.max_delay, "seconds, 0 or more", lambda value: value >= 0)
        _check_number("jitter", self.jitter, "a part, from 0 to 1", lambda value: 0 <= value <= 1)
        if self.delay > self.max_delay:
            raise ValueError(
                f"delay is {self.delay:g} s, which is above max_delay, {self.max_delay:g} s"
            )


def _check_choice(field: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{field} is {value!r}; it can be: {', '.join(map(repr, choices))}")


def _check_number(field: str, value: object, wanted: str, fits: Callable[[float], bool]) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{field} is {value!r}; it takes {wanted}")
    if not (math.isfinite(value) and fits(value)):
        raise ValueError(f"{field} is {value!r}; it takes {wanted}")


class Verdict(NamedTuple):
    """What is to be done about a plugin that has failed.

    "leave" it failed; "restart" it in `delay` seconds; or "quarantine" it, for it has been
    restarted too often.
    """

    action: Literal["leave", "restart", "quarantine"]
    delay: float = 0.0


def decide(
    policy: RestartPolicy,
    *,
    clean: bool,
    earlier: Sequence[float],
    now: float,
    luck: float,
) -> Verdict:
    """Say what becomes of a plugin that has failed at `now`.

    `clean`: it has ended normally. `earlier` is when it was started again before, on the clock of
    `now`, in seconds; what lies in the future of a clock that has been set back does not count.
    `luck` is a random number from 0 to 1.
    """
    if policy.when == "temporary" or (policy.when == "transient" and clean):
        return Verdict("leave")
    recent = sum(now - policy.period < each <= now for each in earlier)
    if recent >= policy.intensity:
        return Verdict("quarantine")
    pause = min(policy.delay * 2.0 ** min(recent, _DOUBLED), policy.max_delay)
    return Verdict("restart", pause * (1 - policy.jitter * luck))
