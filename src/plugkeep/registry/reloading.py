"""Putting another instance in the place of a plugin that runs, with nothing dropped in between.

The new one is started beside the old one, in a registry of its own. Where it is well, the two
change places at once: the new one is in the book from then on, and the old one is stopped where
the new one has come up. Where anything goes wrong before that, the new one is stopped there, and
nothing has happened to the old one.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

from plugkeep.errors import LifecycleError, PluginError
from plugkeep.lifecycle import UP, State
from plugkeep.registry.calls import explain
from plugkeep.registry.ledger import START, Entry, Ledger
from plugkeep.registry.news import log

if TYPE_CHECKING:
    from plugkeep.registry.registry import Registry

WARNING = 30  # as `logging` has it, which is imported only when there is something to log

#: Yields what is to be done with the new registry's plugin ("start", "check", "stop"), and is sent
#: the error that came of it.
Exchange = Generator[str, PluginError | None, None]


@runtime_checkable
class Tradable(Protocol):
    """A plugin that others hold on to, and which can have another one's process."""

    def trade(self, other: Self, /, *, back: bool = False) -> None:
        """Have what `other` has, and give it one's own. Calls go to the new one.

        Raises PluginError where not both run, unless that is taken `back`.
        """
        ...


def exchange(ledger: Ledger, name: str, apart: Registry) -> Exchange:
    """Put the plugin that is alone in `apart` in the place of the one called `name`.

    Raises LifecycleError where that is not up, and what the start, or the check, came to.
    """
    entry, new = ledger.find(name), apart._ledger.find(name)
    if entry.state not in UP:
        raise LifecycleError(
            f"plugin {name!r} is {entry.state}, so nothing can take its place; start it",
            plugin=name,
        )
    apart._ledger.attendants = ledger.attendants
    error = yield "start"
    if error is None:
        error = yield "check"
        if error is None:
            error = _change_places(ledger, entry, new)
        if error is not None and (further := (yield "stop")) is not None:
            error.add_note(str(further))
    if error is not None:
        error.message = f"{error.message}; the old {name!r} is there as before, and {entry.state}"
        error.args = (error.message,)
        ledger.emit("ReloadFailed", entry, None, error)
        raise error
    ledger.emit("Reloaded", entry)
    if (error := (yield "stop")) is not None:
        log(WARNING, "of plugin %r, which has been reloaded, the old one: %s", name, error)


def _change_places(ledger: Ledger, entry: Entry, new: Entry) -> PluginError | None:
    """Have the host admit the new one in the old one's place; return why it does not."""
    if entry.state not in UP:  # it has failed meanwhile, and is its supervisor's
        return LifecycleError(
            f"plugin {entry.name!r} is {entry.state} by now, so nothing can take its place",
            plugin=entry.name,
        )
    try:
        _trade(ledger, entry, new)
    except PluginError as ended:  # one of the two, just now
        return ended
    try:
        ledger.admit(entry)
    except Exception as refusal:
        _trade(ledger, entry, new, back=True)
        error = explain(START, entry, refusal)
        try:
            ledger.admit(entry)  # what it offers may be gone, or the other one's
        except Exception as again:
            error.add_note(f"and the old one is not admitted any more: {again}")
        return error
    if entry.state is State.DEGRADED:
        ledger.shift(entry, (State.DEGRADED,), State.RUNNING, "Recovered")
    return None


def _trade(ledger: Ledger, entry: Entry, new: Entry, *, back: bool = False) -> None:
    old: Any = entry.plugin
    fresh: Any = new.plugin
    if isinstance(entry.plugin, Tradable) and type(old) is type(fresh):
        old.trade(fresh, back=back)
    else:
        entry.plugin = ledger.plugins[entry.name] = fresh
        new.plugin = old
    entry.line, new.line = new.line, entry.line
