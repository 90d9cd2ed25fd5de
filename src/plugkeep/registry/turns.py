"""One operation on a registry at a time; later ones wait, first come, first served.

What waits may be a thread or a task of an event loop, so the turn itself knows of neither: who
has to wait leaves a function behind that wakes it.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from time import perf_counter

from plugkeep.errors import ReentrantError
from plugkeep.signals import SignalsHeld, foreign

#: Seconds after which a thread that waits wakes for a moment. A signal that lands just before a
#: wait begins does not end the wait (CPython sees it only when bytecode runs again), so a Ctrl-C
#: could go unheard for as long as nothing else happens.
PULSE = 1.0


class Operation:
    """One start or stop of some plugins of one registry, from its call to its return."""

    __slots__ = (
        "active",
        "deadline",
        "halted",
        "nudge",
        "outer",
        "starts",
        "turns",
        "verb",
        "wake",
    )

    def __init__(self, turns: Turns, verb: str, *, starts: bool = False) -> None:
        self.turns = turns
        #: What the caller called, for messages.
        self.verb = verb
        self.starts = starts
        #: A start that is to begin no more plugins, because a stop of all has come.
        self.halted = False
        self.active = True
        self.outer = _inside.get()
        self.wake: Callable[[], object] = lambda: None
        #: When it has to give up what it waits for, on the clock of `perf_counter`; and what has
        #: it look at that again.
        self.deadline = math.inf
        self.nudge: Callable[[], object] = lambda: None

    @property
    def due(self) -> float:
        """When it has to give up, for its own sake or that of the one around it."""
        return self.deadline if self.outer is None else min(self.deadline, self.outer.due)


#: The operation that the running code is part of. Threads and tasks that plugin code runs on get
#: a copy, so whatever a plugin calls from inside its own start or stop can be told apart. A task
#: that a plugin leaves behind keeps the copy, which is why an operation knows if it is over.
_inside: ContextVar[Operation | None] = ContextVar("plugkeep_operation", default=None)


def current() -> Operation | None:
    """Return the operation that the running code is part of, if any."""
    return _inside.get()


class Turns:
    """Whose turn it is."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._current: Operation | None = None
        self._queue: deque[Operation] = deque()

    def ask(self, operation: Operation) -> bool:
        """Say whether it is this operation's turn now; if not, its `wake` is called when it is."""
        with self._lock:
            if self._current is None:
                self._current = operation
                return True
            self._queue.append(operation)
            return False

    def leave(self, operation: Operation) -> None:
        """End an operation, or its waiting, and wake the next."""
        operation.active = False
        with self._lock:
            if self._current is not operation:
                if operation in self._queue:
                    self._queue.remove(operation)
                return
            self._current = self._queue.popleft() if self._queue else None
            successor = self._current
        if successor is not None:
            try:
                successor.wake()
            except RuntimeError:  # it waited in an event loop that has been closed since
                self.leave(successor)

    def halt_start(self) -> None:
        """Make the running operation begin no more plugins, if it is a start."""
        with self._lock:
            if self._current is not None and self._current.starts:
                self._current.halted = True

    def hasten(self, deadline: float) -> None:
        """Have the running operation give up by `deadline` whatever it waits for then."""
        with self._lock:
            current = self._current
        if current is not None:
            current.deadline = min(current.deadline, deadline)
            with suppress(RuntimeError):  # its event loop has been closed
                current.nudge()

    def seize(self, operation: Operation) -> None:
        """Take the turn from one that cannot be made to give it back."""
        with self._lock:
            if operation in self._queue:
                self._queue.remove(operation)
            self._current = operation

    def refuse_inside(self, verb: str) -> None:
        """Raise ReentrantError if the running code is part of an operation of this registry."""
        if (outer := self._enclosing()) is not None:
            raise ReentrantError(
                f"{verb} was called from inside {outer.verb} of the same registry (by a plugin's "
                f"start or stop, or a listener) and could only wait for itself; "
                f"call it once {outer.verb} has returned"
            )

    def _enclosing(self) -> Operation | None:
        operation = _inside.get()
        while operation is not None and not (operation.turns is self and operation.active):
            operation = operation.outer
        return operation

    @contextmanager
    def turn(
        self, verb: str, *, starts: bool = False, patience: float = math.inf
    ) -> Iterator[Operation]:
        """Hold the turn, on this thread; after so many seconds at the latest."""
        self.refuse_inside(verb)
        operation = Operation(self, verb, starts=starts)
        gate = threading.Event()
        operation.wake = gate.set
        # A signal's handler that raises must neither keep the turn from being given back nor a
        # plugin from arriving in its next state: it is heard while foreign code runs.
        with SignalsHeld():
            try:
                if not self.ask(operation):
                    end = perf_counter() + patience
                    while not foreign(gate.wait, min(PULSE, max(end - perf_counter(), 0))):
                        if perf_counter() >= end:
                            self.seize(operation)
                            break
                with entered(operation):
                    yield operation
            finally:
                self.leave(operation)


@contextmanager
def entered(operation: Operation | None) -> Iterator[None]:
    """Mark the code that runs, and what it starts, as part of an operation."""
    token = _inside.set(operation)
    try:
        yield
    finally:
        _inside.reset(token)
