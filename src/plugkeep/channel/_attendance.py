"""Reading on behalf of those who are away.

What is called often is read by its callers, who must not be disturbed: then it is *hot*, and
looked after every tick. Where nobody has used it for a tick, it is *watched*. Where somebody has
been waiting in front of it for several ticks, it is left to them: it *dozes*, until they go.
"""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Callable
from typing import Protocol

#: Seconds without a use after which a source is watched.
TICK = 0.01
#: A source whose reader has waited for so many ticks is left to it.
_DOZE = 5


class Attended(Protocol):
    """Something that others read while they are at it."""

    #: How often it has been read, by anyone.
    uses: int
    #: Whoever stops reading while this is set has to `rouse` the thread.
    dozing: bool

    @property
    def descriptor(self) -> int:
        """What to watch, at the moment."""
        ...

    @property
    def is_led(self) -> bool:
        """Whether somebody is reading it, or waiting to."""
        ...

    def take_over(self) -> bool:
        """Read and deal with what there is; return False if somebody else is at it."""
        ...

    def tick(self) -> bool:
        """Write what could not be written before; return False while there is more of it."""
        ...

    def disown(self) -> None:
        """Be of no use from now on: this is a copy, in a forked process."""
        ...


class _State:
    """What is known of one source."""

    __slots__ = ("descriptor", "source", "ticks", "uses")

    def __init__(self, source: Attended) -> None:
        self.source = source
        self.descriptor = -1  # the one that is registered, watched or not; -1: none
        self.uses = -1
        self.ticks = 0  # without a use, in front of a reader


class Attendance:
    """All sources that one thread attends. `wake` makes that thread look."""

    def __init__(self, epoll: select.epoll, wake: Callable[[], None]) -> None:
        self._epoll = epoll
        self._wake = wake
        self._lock = threading.RLock()
        self._states: dict[int, _State] = {}
        self._hot: dict[int, _State] = {}
        self._next_tick = 0.0

    @property
    def timeout(self) -> float | None:
        """Seconds until the next tick; None: there is nothing to look after."""
        return TICK if self._hot else None

    def add(self, source: Attended) -> None:
        """Attend `source`, which nobody uses yet."""
        with self._lock:
            state = self._states[id(source)] = _State(source)
            self._watch(state)

    def remove(self, source: Attended) -> None:
        """Attend `source` no more."""
        with self._lock:
            state = self._states.pop(id(source), None)
            self._hot.pop(id(source), None)
            if state is not None and state.descriptor >= 0:
                self._epoll.unregister(state.descriptor)

    def disown(self) -> None:
        """Forget all, in a forked process: what is attended is its parent's."""
        for state in self._states.values():
            state.source.disown()
        self._states.clear()
        self._hot.clear()

    def rouse(self, source: Attended) -> None:
        """Look after `source` again."""
        with self._lock:
            source.dozing = False
            if state := self._states.get(id(source)):
                self._heat(state)
        self._wake()

    def ready(self, descriptor: int) -> None:
        """Deal with a descriptor that can be read."""
        with self._lock:
            state = next((s for s in self._states.values() if s.descriptor == descriptor), None)
        if state is None:
            return
        if state.source.take_over():
            with self._lock:
                if self._states.get(id(state.source)) is state:
                    self._watch(state)
        else:
            with self._lock:
                self._heat(state)

    def tick(self) -> None:
        """Look after what is hot, if it is time."""
        if not self._hot or time.monotonic() < self._next_tick:
            return
        self._next_tick = time.monotonic() + TICK
        for state in list(self._hot.values()):
            is_empty = state.source.tick()
            with self._lock:
                if id(state.source) in self._hot and is_empty:
                    self._look(state)

    def _look(self, state: _State) -> None:
        source = state.source
        if state.uses != source.uses:
            state.uses, state.ticks = source.uses, 0
        elif not source.is_led:
            del self._hot[id(source)]
            self._watch(state)
        elif state.ticks < _DOZE:
            state.ticks += 1
        else:
            source.dozing = True
            if not self._is_left(source):  # they went before they could have seen it
                source.dozing = False
            else:
                del self._hot[id(source)]

    def _is_left(self, source: Attended) -> bool:
        return source.is_led

    def _heat(self, state: _State) -> None:
        state.uses, state.ticks = state.source.uses, 0
        if self._states.get(id(state.source)) is state:
            self._hot[id(state.source)] = state

    def _watch(self, state: _State) -> None:
        """Have the thread woken once, by the next thing to read."""
        descriptor = state.source.descriptor
        flags = select.EPOLLIN | select.EPOLLONESHOT
        if descriptor == state.descriptor:
            self._epoll.modify(descriptor, flags)
            return
        if state.descriptor >= 0:
            self._epoll.unregister(state.descriptor)
        self._epoll.register(descriptor, flags)
        state.descriptor = descriptor
