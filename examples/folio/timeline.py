"""When each plugin started and how long that took: made of events, which anybody may follow."""

from __future__ import annotations

from collections import Counter

from plugkeep.events import (
    Event,
    Failed,
    Restarting,
    Started,
    StartFailed,
    StartSkipped,
    StopFailed,
    Stopped,
)

ATTEMPTS = (Started, StartFailed)
ENDINGS = (*ATTEMPTS, Failed, StartSkipped, Stopped, StopFailed)


class Timeline:
    """A listener that remembers. An event's time is that of its end, in seconds."""

    def __init__(self) -> None:
        self._ends: dict[str, Event] = {}  # what came of each plugin's last start or stop
        self._starts: dict[str, Event] = {}  # its last start that was attempted
        self._firsts: dict[str, Event] = {}  # its first one: those make up the start-up

        self._falls: dict[str, Event] = {}  # the last time that it had to be started again
        self._counts: Counter[str] = Counter()  # and how often that was so

    def note(self, event: Event) -> None:
        if isinstance(event, Restarting) and event.delay is not None:  # else it only comes along
            self._falls[event.plugin] = self._ends[event.plugin]
            self._counts[event.plugin] += 1
        if isinstance(event, ENDINGS):
            self._ends[event.plugin] = event
        if isinstance(event, ATTEMPTS):
            self._starts[event.plugin] = event
            self._firsts.setdefault(event.plugin, event)

    def error(self, plugin: str) -> str:
        """Return what went wrong last, if that has not been mended since."""
        event = self._ends.get(plugin)
        return str(event.error) if event and event.error else ""

    def falls(self, plugin: str) -> tuple[int, str] | None:
        """Return how often the plugin was started again, and why it was the last time."""
        event = self._falls.get(plugin)
        return (self._counts[plugin], str(event.error)) if event else None

    def took(self, plugin: str) -> float | None:
        """Return the seconds that the plugin's last start took."""
        event = self._starts.get(plugin)
        return event.duration if event else None

    def total(self) -> float:
        """Return the seconds that the start-up took."""
        return max((event.time for event in self._firsts.values()), default=0.0) - self._began()

    def bar(self, plugin: str) -> tuple[float, float] | None:
        """Return when the plugin started, and for how long, in percent of the start-up."""
        event, total = self._firsts.get(plugin), self.total()
        if event is None or not total:
            return None
        return 100 * (_began(event) - self._began()) / total, 100 * (event.duration or 0) / total

    def _began(self) -> float:
        return min(map(_began, self._firsts.values()), default=0.0)


def _began(event: Event) -> float:
    return event.time - (event.duration or 0)
