"""What has happened, what is there, and whether it is as it should be."""

from __future__ import annotations

import os
import threading
from collections import Counter
from pathlib import Path

from plugkeep import Host, State
from plugkeep.events import LEADS_TO, Event, Failed, Registered, Started, StartFailed, Stopping
from plugkeep.lifecycle import TRANSITIONS, UP
from plugkeep.sandbox.keeper.zygote import zygote


class Books:
    """The events of a host, held against the table of states."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self.events: list[tuple[str, str]] = []
        self._strays: list[str] = []
        self._states = {name: host.registry.state(name) for name in host.registry}
        self._started: list[str] = []
        self._lock = threading.Lock()
        self.failures = 0
        host.registry.subscribe(self._note)

    def _note(self, event: Event) -> None:
        with self._lock:
            name, new = event.plugin, LEADS_TO.get(type(event))
            self.events.append((type(event).__name__, name))
            self.failures += isinstance(event, (Failed, StartFailed))
            if isinstance(event, Started):
                if name in self._started and not self._keeps_its_place(name):
                    self._started.remove(name)
                if name not in self._started:
                    self._started.append(name)
            if new is None:
                return
            old = self._states[name]
            self._states[name] = new
            is_new = isinstance(event, Registered)  # another plugin has taken its place
            if new is not old and new not in TRANSITIONS[old] and not is_new:
                self._strays.append(f"{name}: {type(event).__name__} leads from {old} to {new}")

    def _keeps_its_place(self, name: str) -> bool:
        """Say whether it has come back below those that require it, and have stayed up."""
        return any(
            name in required and self._host.registry.state(user) in UP
            for user, required in self._host.registry.requirements().items()
        )

    def up(self) -> int:
        return sum(self._host.registry.state(name) in UP for name in self._host.registry)

    def tally(self) -> str:
        counts = Counter(kind for kind, _ in self.events)
        return ", ".join(f"{count} {kind}" for kind, count in counts.most_common())

    def stop(self) -> list[str]:
        """Stop all; return what was not as it should be."""
        registry, found = self._host.registry, []
        stopping: list[str] = []
        up: list[str] = []

        def note(event: Event) -> None:
            if isinstance(event, Stopping):
                if not stopping:  # from here on nothing starts any more
                    up.extend(name for name in self._started if registry.state(name) in _TO_STOP)
                stopping.append(event.plugin)

        registry.subscribe(note)
        self._host.stop()
        wanted = up[::-1]
        if stopping != wanted:
            found.append(f"stopped in the order {stopping}, not {wanted}")
        for name in registry:
            if registry.state(name) in (*UP, State.STARTING, State.STOPPING, State.RESTARTING):
                found.append(f"{name} is {registry.state(name)} after the stop of all")
            if self._states[name] is not registry.state(name):
                found.append(
                    f"{name} is {registry.state(name)}, and {self._states[name]} by its events"
                )
        return [*self._strays[:20], *found]


_TO_STOP = (*UP, State.STOPPING)


def held() -> dict[str, float]:
    """Return what this process holds."""
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return {
        "descriptors": len(list(Path("/proc/self/fd").iterdir())),
        "threads": threading.active_count(),
        "processes": len(plugins_processes()),
        "memory": resident / 2**20,
    }


def plugins_processes() -> set[int]:
    """Return all descendants but the keeper and the zygote, which stay as long as their host."""
    mine = children(os.getpid())
    found: set[int] = set()
    todo = list(mine)
    while todo:
        theirs = children(todo.pop()) - found
        found |= theirs
        todo += theirs
    warm = zygote()
    return found - ({warm.pid} if warm is not None else set())


def children(pid: int) -> set[int]:
    texts = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            texts.append(task.read_text())
        except OSError:
            continue
    return {int(number) for text in texts for number in text.split()}
