"""Lets so many through at once. The others wait for their turn: first come, first served.

A ticket may be given back at any point: by a thread that Ctrl-C has interrupted, by an event loop
that cancels a task, by the garbage collector in the midst of anything. So nobody waits for a lock
here. What is handed around are places, each of which is in one container at any time and goes from
one to the next in a single step; and one that is forgotten together with its ticket comes back.
"""

from __future__ import annotations

import _thread
from collections import deque
from collections.abc import Callable
from itertools import repeat
from typing import TYPE_CHECKING, Final

from plugkeep.signals import SignalsHeld

if TYPE_CHECKING:
    from plugkeep.channel.bells import Bell

#: A heap of places, or the one that a ticket has.
Places = deque[None]


def _move(origin: Places, target: Places) -> bool:
    """Move a place, if there is one, without anything that could come in between."""
    try:
        target.extend(map(_pop, (origin,)))
    except IndexError:
        return False
    return True


_pop: Final[Callable[[Places], None]] = deque.pop


class Turnstile:
    """Lets `at_once` tickets in, while `waiting` others may wait. Safe from any thread."""

    def __init__(self, at_once: int, waiting: int) -> None:
        self.at_once, self.waiting = at_once, waiting
        self.inside: Places = deque(repeat(None, at_once))
        self.seats: Places = deque(repeat(None, waiting))
        self.line: deque[Ticket] = deque()
        self._at_it = _thread.allocate_lock()

    def settle(self) -> None:
        """Let those in whose turn it is.

        One does so for all: whoever finds somebody at it leaves its own news to that one, who
        looks again after that.
        """
        if not (self.line and self.inside):
            return
        with SignalsHeld():
            while self.line and self.inside and self._at_it.acquire(False):
                try:
                    self._let_first_in()
                finally:
                    self._at_it.release()

    def _let_first_in(self) -> None:
        place: Places = deque()
        if not _move(self.inside, place):
            return
        try:
            ticket = self.line.popleft()
        except IndexError:  # it has gone in between
            _move(place, self.inside)
        else:
            ticket.let_in(place)


class Ticket:
    """Of one who wants in. To be given back by `leave`, or else it comes back by itself."""

    __slots__ = ("_is_over", "_of", "_place", "_seat", "bell")

    def __init__(self, turnstile: Turnstile) -> None:
        self._place: Places = deque()
        self._seat: Places = deque()
        self._is_over = False
        #: Rung when it is in; None: it has never waited.
        self.bell: Bell | None = None
        self._of = turnstile  # last: without it there is nothing to be given back

    @property
    def is_in(self) -> bool:
        """Whether its turn has come."""
        return bool(self._place)

    def enter(self) -> bool:
        """Go in if that is possible at once."""
        return not self._of.line and _move(self._of.inside, self._place)

    def line_up(self, bell: Bell) -> bool:
        """Wait for the turn, of which `bell` will tell. Return False where there is no room."""
        turnstile = self._of
        if not _move(turnstile.seats, self._seat):
            return False
        self.bell = bell
        turnstile.line.append(self)
        turnstile.settle()
        return True

    def let_in(self, place: Places) -> None:
        """Have the `place`, and tell, unless it has left or cannot be told."""
        _move(place, self._place)
        _move(self._seat, self._of.seats)
        if self._is_over or self.bell is None or not self.bell.ring():
            _move(self._place, self._of.inside)

    def leave(self) -> None:
        """Want nothing more, wherever it is. To leave twice is fine."""
        turnstile = self._of
        self._is_over = True  # first: whoever lets it in just now looks at that last
        if self.bell is not None:
            try:  # noqa: SIM105  # that takes longer
                turnstile.line.remove(self)
            except (ValueError, IndexError):
                pass
        if self._seat:
            _move(self._seat, turnstile.seats)
        if self._place:
            _move(self._place, turnstile.inside)
        turnstile.settle()

    def __del__(self) -> None:
        # Also where others are waiting: to tell them may be what an exception came in between of.
        if hasattr(self, "_of") and (self._place or self._seat or self._of.line):
            self.leave()
