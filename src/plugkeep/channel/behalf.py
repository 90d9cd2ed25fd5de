"""On whose behalf something is called: which plugins wait until it is done."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from plugkeep.channel.waiters import LEADER

if TYPE_CHECKING:
    from plugkeep.wire.connection import Connection

#: The channels of plugins whose calls of their host have led here, one from within the other.
#: None of them may be made to wait for a call that it has under way: that may be this very one.
on_behalf: ContextVar[tuple[object, ...]] = ContextVar("on_behalf", default=())


def note(waiter: Any) -> None:
    """Let somebody who calls remember on whose behalf."""
    if behind := on_behalf.get():
        waiter.behind = behind


def behind(connection: Connection, within: Any) -> tuple[object, ...]:
    """Return on whose behalf a call of ours was made, which the other end calls us `within`.

    To be asked where that request is read.
    """
    waiter = connection.calls.get(within)
    # A leader reads its own answer, and whatever comes before that: it is this thread's own call.
    found: tuple[object, ...] = on_behalf.get() if waiter is LEADER else _noted(waiter)
    return found


def _noted(waiter: Any) -> tuple[object, ...]:
    return getattr(waiter, "behind", ())
