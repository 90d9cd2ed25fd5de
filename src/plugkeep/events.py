"""What happens to plugins, one frozen event for each step of each life.

The registry hands these to whoever subscribed, on the thread where the step happens. The log,
a start-up timeline, metrics and a dashboard are all mere readers of them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One step in the life of one plugin."""

    plugin: str
    #: When it happened, in seconds since the epoch.
    time: float
    #: How long the step took, in seconds; None for steps that only begin something.
    duration: float | None = None
    #: What went wrong, for the events that tell of a failure.
    error: BaseException | None = None


class Registered(Event):
    """The plugin was registered."""

    __slots__ = ()


class Unregistered(Event):
    """The plugin was removed."""

    __slots__ = ()


class Starting(Event):
    """The plugin's start is about to be called."""

    __slots__ = ()


class Started(Event):
    """The plugin's start returned: it is running."""

    __slots__ = ()


class StartFailed(Event):
    """The plugin's start raised, or did not return in time."""

    __slots__ = ()


class StartSkipped(Event):
    """The plugin's start was not attempted; the error says why."""

    __slots__ = ()


class Failed(Event):
    """The plugin was running and has failed; the error says how."""

    __slots__ = ()


class Restarting(Event):
    """The plugin was running and has failed, as the error says; it is being started again."""

    __slots__ = ()


class Stopping(Event):
    """The plugin's stop is about to be called."""

    __slots__ = ()


class Stopped(Event):
    """The plugin's stop returned."""

    __slots__ = ()


class StopFailed(Event):
    """The plugin's stop raised, or did not return in time."""

    __slots__ = ()


class LateReturn(Event):
    """A start or stop that had exceeded its limit has returned after all.

    A start that succeeded late was stopped there and then. `error` is what came of it, None
    when nothing went wrong; `duration` is the whole time it took.
    """

    __slots__ = ()
