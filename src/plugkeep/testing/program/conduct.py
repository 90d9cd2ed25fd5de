"""When which fault is committed: one plugin's conduct, wherever it runs.

The standard library alone: the program in this folder runs without plugkeep.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING or __package__:
    from plugkeep.testing.program.deeds import DEEDS, Place
    from plugkeep.testing.program.table import Fault, find, settle
else:  # a module beside the program, which Python finds by its name alone
    from deeds import DEEDS, Place
    from table import Fault, find, settle

#: What is done there and then where it is asked for; the others wait for their moment.
_AT_ONCE = frozenset({"up", "running", "call"})
#: What can be put off to a later call.
_IN_CALLS = frozenset({"up", "running", "call", "calls"})


class _Armed(NamedTuple):
    fault: Fault
    how: Mapping[str, Any]
    #: The first call in which it is committed; 0: when its moment comes.
    from_call: int


class Conduct:
    """What a plugin does wrong, if anything. `where` is one of the places that a `Fault` has."""

    def __init__(self, place: Place, where: str) -> None:
        self.place = place
        self.where = where
        self._armed: list[_Armed] = []
        self._calls = 0

    def arm(self, name: str, from_call: int = 0, **how: Any) -> None:
        """Have a fault committed when its moment comes, or from the n-th call on.

        Raises ValueError for one that is none, cannot be had here or does not take `how`.
        """
        fault = find(name, self.where)
        if from_call < 0 or (from_call and fault.moment not in _IN_CALLS):
            raise ValueError(
                f"from_call of the fault {name!r} is {from_call!r}; "
                + ("calls count from 1" if from_call < 0 else "it is not one to be had in a call")
            )
        self._armed.append(_Armed(fault, settle(fault, how), from_call))

    def at(self, *moments: str) -> Any:
        """Commit what is to be committed now; return what came of the last of it."""
        result = None
        for armed in list(self._armed):
            if armed.fault.moment in moments and not armed.from_call:
                result = self._commit(armed)
        return result

    def in_call(self) -> None:
        """Count a call, and commit what is to be committed in it."""
        self._calls += 1
        for armed in list(self._armed):
            if armed.from_call and self._calls >= armed.from_call:
                self._commit(armed)
        self.at("call", "calls")

    def commit(self, name: str, **how: Any) -> Any:
        """Commit a fault at once, or arm it where it has a moment of its own to come.

        Raises ValueError for one that is none, cannot be had here or now, or does not take `how`.
        """
        fault = find(name, self.where)
        if fault.moment == "load":
            raise ValueError(f"it is too late for the fault {name!r}: the plugin has been ready")
        if fault.moment not in _AT_ONCE:
            self.arm(name, **how)
            return None
        return self._commit(_Armed(fault, settle(fault, how), 0))

    def behave(self) -> None:
        """Commit nothing any more, end what hangs, and give back what was taken."""
        self._armed.clear()
        self.place.release()

    def _commit(self, armed: _Armed) -> Any:
        return DEEDS[armed.fault.deed](self.place, **armed.how)
