"""Bringing back a plugin that has failed, and those that require it.

What is to be done is a plan: a generator that yields a step and the plugins to take through it,
one after the other, and looks in between at what has come of it. Who drives it has the turn.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING

from plugkeep.errors import PluginError, RequirementFailedError
from plugkeep.lifecycle import UP, State
from plugkeep.order import placed, users
from plugkeep.registry.calls import is_async
from plugkeep.registry.ledger import CLEAR_UP, START, STOP, Entry, Ledger, Step

if TYPE_CHECKING:
    from plugkeep.events import Event

#: Yields a step for some plugins, in this order, and is sent the errors that came of it.
Plan = Generator[tuple[Step, list[Entry]], list[PluginError], None]

_DOWN = (State.RESTARTING, State.QUARANTINED)
_IDLE = (State.REGISTERED, State.STOPPED, State.FAILED)


class Recovery:
    """What a supervisor may do with the plugins of a registry; used by nobody else."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def follow(self, listener: Callable[[Event], object]) -> Callable[[], None]:
        """Call `listener` with every event, after everybody else; what is returned ends that."""
        return self._ledger.subscribe(listener, last=True)

    # --- at once, and from listeners, too -----------------------------------------------------

    def suspend(self, name: str, delay: float) -> bool:
        """A plugin that has failed is to be started again in `delay` seconds."""
        return self._shift(name, (State.FAILED,), State.RESTARTING, "Restarting", delay=delay)

    def quarantine(self, name: str) -> bool:
        """Give up a plugin that has failed, and those that were to come back with it."""
        entry = self._ledger.entries.get(name)
        error = None if entry is None else entry.error
        if entry is None or not self._ledger.shift(
            entry, (State.FAILED,), State.QUARANTINED, "Quarantined", error=error
        ):
            return False
        self.give_up_users(name, State.QUARANTINED)
        return True

    def give_up_users(self, name: str, why: str) -> None:
        """Those that were to come back with a plugin do not, for it is `why`."""
        for each in self._held_for(name):
            self.give_up(each.name, _lost(each.name, name, why))

    def hold(self, name: str, error: PluginError) -> None:
        """A plugin comes back when what it requires does, which is about to."""
        entry = self._ledger.entries.get(name)
        if entry is not None and entry.state is State.RESTARTING:
            entry.held = True
            return
        self._shift(name, _IDLE, State.RESTARTING, "Restarting", error=error, held=True, delay=None)

    def give_up(self, name: str, error: PluginError) -> bool:
        """A plugin that was to come back does not, for there is not what it requires."""
        return self._shift(name, (State.RESTARTING,), State.FAILED, "Failed", error=error)

    def degrade(self, name: str, plugin: object, reason: str | None) -> None:
        """Note how well `plugin`, which is up, is; None: it is well."""
        entry = self._ledger.entries.get(name)
        if entry is None:
            return
        if reason is None:
            self._ledger.shift(entry, (State.DEGRADED,), State.RUNNING, "Recovered", plugin=plugin)
        elif entry.state is State.RUNNING:
            self._ledger.shift(
                entry, (State.RUNNING,), State.DEGRADED, "Degraded", plugin=plugin, reason=reason
            )
        elif entry.state is State.DEGRADED and entry.plugin is plugin and entry.reason != reason:
            entry.reason = reason
            self._ledger.emit("Degraded", entry, reason=reason)

    # --- plans: what takes a turn -----------------------------------------------------------

    def owes_stop(self, name: str) -> bool:
        """Say whether the stop of a plugin that has failed is still to be called."""
        entry = self._ledger.entries.get(name)
        return entry is not None and entry.owes_stop

    def users_up(self, name: str) -> list[str]:
        """Return the names of the plugins that require it and are up."""
        return [entry.name for entry in self._users_up(name)]

    def has_users(self, name: str) -> bool:
        """Say whether plugins that require it are up."""
        return bool(self._users_up(name))

    def clear_up(self, name: str, settle: Callable[[], object]) -> Plan:
        """Call the stop of a plugin that has failed, and then `settle`, before anybody else."""
        entry = self._ledger.entries.get(name)
        if entry is not None and entry.state is State.FAILED and entry.owes_stop:
            try:
                yield CLEAR_UP, [entry]
            finally:  # whatever its stop has raised
                settle()

    def take_down(self, name: str) -> Plan:
        """Stop those that require a plugin which is restarting, or has been given up."""
        entry = self._ledger.entries.get(name)
        if entry is None or entry.state not in _DOWN:
            return
        lost = self._users_up(name)
        try:
            yield STOP, lost[::-1]
        finally:  # whatever their stops have raised
            if self._ledger.entries.get(name) is entry and entry.state in _DOWN:
                for each in lost:
                    self.hold(each.name, _lost(each.name, name, entry.state))
            if entry.state is State.QUARANTINED:
                self.give_up_users(name, State.QUARANTINED)

    def bring_back(self, name: str) -> Plan:
        """Start a plugin that is restarting, and those that wait for it."""
        entry = self._ledger.entries.get(name)
        if entry is None or entry.state is not State.RESTARTING or entry.held:
            return
        yield START, [entry]
        if entry.state in UP:
            yield START, self._held_for(name)

    def needs_loop(self, name: str) -> bool:
        """Say whether to bring a plugin back, with those that require it, takes an event loop."""
        if self._ledger.attendants:
            return True
        concerned = users(name, self._ledger.requirements())
        entries = filter(None, map(self._ledger.entries.get, concerned))
        return any(is_async(entry, step) for entry in entries for step in (START, STOP))

    # --- helpers ----------------------------------------------------------------------------

    def _shift(
        self, name: str, olds: tuple[State, ...], new: State, event: str, **more: object
    ) -> bool:
        entry = self._ledger.entries.get(name)
        return entry is not None and self._ledger.shift(entry, olds, new, event, **more)  # type: ignore[arg-type]

    def _users_up(self, name: str) -> list[Entry]:
        """Return those that require a plugin, and are up, in the order in which they started."""
        requiring = users(name, self._ledger.requirements()) - {name}
        return [entry for entry in self._ledger.to_stop() if entry.name in requiring]

    def _held_for(self, name: str) -> list[Entry]:
        """Return those that are to come back together with a plugin, in order of start."""
        requirements = self._ledger.requirements()
        requiring = users(name, requirements) - {name}
        entries = [self._ledger.entries.get(each) for each in placed(requirements)]
        return [
            each
            for each in entries
            if each is not None
            and each.name in requiring
            and each.held
            and each.state is State.RESTARTING
        ]


def _lost(name: str, requirement: str, why: str) -> RequirementFailedError:
    return RequirementFailedError(
        f"plugin {name!r} cannot run: {requirement!r}, which it requires, is {why}",
        plugin=name,
        requirement=requirement,
    )
