"""Signals that come when all has ended anyway, and could only spoil the exit status."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType

    from plugkeep.registry import Registry

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def ignoring_late_signals(registry: Registry) -> Iterator[None]:
    """Ignore signals from when all plugins have stopped to the end of the process.

    While plugins start, run and stop, handlers of the host's own are in place, and those that it
    puts back afterwards are ours. Until then ours do what the ones before them did.
    """
    late = _Late()
    unsubscribe = registry.subscribe(lambda _event: late.begin())
    late.take_over()
    try:
        yield
    finally:
        late.give_back()
        unsubscribe()


class _Late:
    def __init__(self) -> None:
        self._begun = False
        self._before: dict[int, Callable[..., Any] | int] = {}

    def begin(self) -> None:
        """From now on what arrives here is late."""
        self._begun = True

    def take_over(self) -> None:
        for number in _SIGNALS:
            handler = signal.getsignal(number)
            if handler is not None and handler != signal.SIG_IGN:
                self._before[number] = handler
                signal.signal(number, self._arrived)

    def give_back(self) -> None:
        for number, handler in self._before.items():
            # Ignored by the system, for the interpreter's own handlers go before the process.
            signal.signal(number, signal.SIG_IGN if self._begun else handler)

    def _arrived(self, number: int, frame: FrameType | None) -> None:
        if self._begun:
            return
        handler = self._before[number]
        if callable(handler):
            handler(number, frame)
        else:
            signal.signal(number, handler)
            os.kill(os.getpid(), number)
