"""What a method can learn about the call that it serves, and say to its caller meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any


class CurrentCall:
    """The call that is being served. This one is an ordinary call, which knows no limits."""

    @property
    def remaining(self) -> float | None:
        """Seconds that are left of the caller's time, never less than 0; None: no limit."""
        return None

    @property
    def cancelled(self) -> bool:
        """Whether the caller has lost interest, or the plugin is about to stop."""
        return False

    def check(self) -> None:
        """Return if there is reason to go on.

        Raises CallCancelledError where the call is `cancelled`, CallTimeoutError where no time
        is `remaining`. Letting them through answers the call.
        """

    def progress(self, value: Any) -> None:
        """Tell the caller how far the call has come; `value` is anything that can travel.

        Nobody waits for it to arrive. Raises UnsendableValueError.
        """


#: What is being served here, by whoever serves calls with threads and tasks of their own.
served: ContextVar[CurrentCall | None] = ContextVar("served", default=None)
_find: Callable[[], CurrentCall] = CurrentCall


def current_call() -> CurrentCall:
    """Return the call that the method which asks is serving.

    Where the plugin does not run in a process of its own, and outside of any call, that is one
    without limits that is never cancelled.
    """
    return served.get() or _find()


def found_by(find: Callable[[], CurrentCall]) -> None:
    """Have `current_call` return what `find` does; for whoever serves calls in this process."""
    global _find
    _find = find
