"""The states of a plugin's life, and the one table of legal ways between them.

A plugin is *registered* until it is started for the first time. Starting, it either comes up
(*running*) or does not (*failed*). Running, it may say or be found to be *degraded*: it works,
but not fully. Stopping, it ends *stopped* or *failed*. Whatever is stopped or failed can be
started again; what has failed and still has a stop to be called is *stopping* for a moment first.
A supervisor that brings a failed plugin back passes through *restarting*, and one that has given
up leaves it *quarantined* until somebody starts it on purpose. What requires a plugin that comes
back is restarting, too: it has been stopped, or had its start skipped, and comes back with it.

Every change of state in the project goes through `TRANSITIONS`, and the guide's table is held
to it.
"""

from __future__ import annotations

import sys
from enum import StrEnum

from plugkeep.errors import IllegalTransitionError


class State(StrEnum):
    """Where a plugin is in its life."""

    REGISTERED = "registered"
    STARTING = "starting"
    RUNNING = "running"
    DEGRADED = "degraded"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"
    RESTARTING = "restarting"
    QUARANTINED = "quarantined"


TRANSITIONS: dict[State, frozenset[State]] = {
    State.REGISTERED: frozenset({State.STARTING, State.RESTARTING}),
    State.STARTING: frozenset({State.RUNNING, State.FAILED}),
    State.RUNNING: frozenset({State.STOPPING, State.DEGRADED, State.FAILED}),
    State.DEGRADED: frozenset({State.STOPPING, State.RUNNING, State.FAILED}),
    State.STOPPING: frozenset({State.STOPPED, State.FAILED}),
    State.STOPPED: frozenset({State.STARTING, State.RESTARTING}),
    State.FAILED: frozenset({State.STARTING, State.STOPPING, State.RESTARTING, State.QUARANTINED}),
    State.RESTARTING: frozenset({State.STARTING, State.STOPPED, State.FAILED}),
    State.QUARANTINED: frozenset({State.STARTING}),
}

#: States in which a plugin can be used.
UP = frozenset({State.RUNNING, State.DEGRADED})


def check_transition(plugin: str, old: State, new: State) -> None:
    """Raise `IllegalTransitionError` unless the table has a way from `old` to `new`."""
    if new not in TRANSITIONS[old]:
        allowed = ", ".join(sorted(TRANSITIONS[old]))
        raise IllegalTransitionError(
            f"plugin {plugin!r} cannot go from {old} to {new}; from {old} it can go to: {allowed}",
            plugin=plugin,
        )


def check_pause(what: str, value: object) -> float:
    """Return `value` as seconds, which may be 0; ValueError where it is no such thing."""
    if value == 0 and not isinstance(value, bool):
        return 0.0
    seconds = check_timeout(what, value)
    if seconds is None:
        raise TypeError(f"{what} is None; it takes seconds as a number, 0 or more")
    return seconds


def check_timeout(what: str, value: object) -> float | None:
    """Return `value` as seconds, None meaning no limit; ValueError where it is no such thing."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{what} is {value!r}; it takes seconds as a number, or None for no limit")
    if not 0 < value <= sys.float_info.max and value != float("inf"):
        found = repr(value) if isinstance(value, float) or value <= 0 else "too large a number"
        raise ValueError(f"{what} is {found}; it takes seconds above 0, or None for no limit")
    return float(value)
