"""What happens to plugins, one frozen event for each step of each life.

The registry hands these to whoever subscribed, on the thread where the step happens. The log,
a start-up timeline, metrics and a dashboard are all mere readers of them, and so is the supervisor.

Where a plugin is after an event stands in `LEADS_TO`. Who follows the events of a plugin and
looks them up there sees it go along `plugkeep.lifecycle.TRANSITIONS`, and along nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass

from plugkeep.lifecycle import State


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
    """The plugin has failed while it was running, or was to come back; the error says how."""

    __slots__ = ()


class ClearedUp(Event):
    """The stop of a plugin that had failed has been called; the error is what it raised."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Restarting(Event):
    """The plugin is to be started again: it has failed, or what it requires has."""

    #: Seconds until then; None: it comes back together with what it requires.
    delay: float | None = None


class Quarantined(Event):
    """The plugin has failed too often, the last time as the error says, and is given up."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Degraded(Event):
    """The plugin works, but not fully. It comes again where there is another reason."""

    reason: str


class Recovered(Event):
    """The plugin was degraded, and is well again."""

    __slots__ = ()


class Reloaded(Event):
    """Another instance has taken the place of the one that was running, without a gap."""

    __slots__ = ()


class ReloadFailed(Event):
    """No other instance could take its place, as the error says: the old one goes on."""

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


#: Where a plugin is after an event; of those that are not here, where it was before.
LEADS_TO: dict[type[Event], State] = {
    Registered: State.REGISTERED,
    Starting: State.STARTING,
    Started: State.RUNNING,
    StartFailed: State.FAILED,
    Failed: State.FAILED,
    ClearedUp: State.FAILED,
    Restarting: State.RESTARTING,
    Quarantined: State.QUARANTINED,
    Degraded: State.DEGRADED,
    Recovered: State.RUNNING,
    Stopping: State.STOPPING,
    Stopped: State.STOPPED,
    StopFailed: State.FAILED,
}
