"""How well a plugin is: what it says of itself, and how often it is asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from plugkeep.lifecycle import check_timeout

#: A reason is shown up to so many characters.
MAX_REASON: Final = 500


@dataclass(frozen=True, slots=True)
class Watchdog:
    """How often a plugin is asked how it is, and how soon it has to answer; in seconds.

    One in a process of its own that does not answer within `timeout` is killed, and treated as
    one that has crashed. `timeout` is the `period` where it is None. (systemd's WatchdogSec is
    the same in one figure.) Raises TypeError or ValueError, naming the field.
    """

    period: float
    timeout: float | None = None

    def __post_init__(self) -> None:
        if check_timeout("period", self.period) in (None, float("inf")):
            raise ValueError(f"period is {self.period!r}; it takes seconds above 0")
        if check_timeout("timeout", self.timeout) == float("inf"):
            raise ValueError("timeout is inf; it takes seconds above 0, or None for the period")

    @property
    def patience(self) -> float:
        """Seconds that it has for an answer."""
        return self.period if self.timeout is None else self.timeout


def reason_of(answer: object) -> str | None:
    """Return why a plugin is degraded, by what its `health()` has returned; None: it is well.

    None and True say that it is well; a text says why it is not, as far as that is printable;
    False is without a reason. Anything else is a misunderstanding, and told as such.
    """
    if answer is None or answer is True:
        return None
    if answer is False:
        return "health() returned False"
    if isinstance(answer, str):
        return _printable(answer) or "health() returned an empty text"
    kind = type(answer).__name__
    return f"health() returned a {kind}; it is to return None, or a text that says what is wrong"


def reason_of_error(error: BaseException) -> str:
    """Return why a plugin is degraded whose `health()` has raised `error`."""
    return _printable(f"health() raised {type(error).__name__}: {error}")


def _printable(text: str) -> str:
    words = "".join(each if each.isprintable() else " " for each in text).split()
    whole = " ".join(words)
    return whole if len(whole) <= MAX_REASON else f"{whole[:MAX_REASON]}..."
