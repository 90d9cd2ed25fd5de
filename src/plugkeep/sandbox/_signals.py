"""Sections that Ctrl-C must not cut in two."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import signal as _signal
else:
    # The same functions, without the µs in which `signal` makes enums of what they return.
    import _signal

_SIGNALS = (int(_signal.SIGINT), int(_signal.SIGTERM))


class SignalsHeld:
    """Hold back SIGINT and SIGTERM while the block runs, and hand them on right after it.

    An exception raised by a signal's handler between the birth of a process and the assignment
    that remembers it would leave a process that nobody knows of. Handlers run on the main thread
    only, so elsewhere there is nothing to hold. (Blocking the signals instead would not do:
    another thread would receive them, and the child would inherit the mask.)
    """

    def __init__(self) -> None:
        self._handlers: dict[int, Callable[[int, FrameType | None], Any]] = {}
        self._received: list[tuple[int, FrameType | None]] = []

    def __enter__(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        try:
            for number in _SIGNALS:
                if callable(handler := _signal.getsignal(number)):
                    self._handlers[number] = handler
                    _signal.signal(number, self._receive)
        except BaseException:  # of the handler of one that came before it was held
            self._restore()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._restore()
        for number, frame in self._received:
            self._handlers[number](number, frame)

    def _restore(self) -> None:
        try:
            for number, handler in self._handlers.items():
                _signal.signal(number, handler)
        except BaseException:  # of a handler that is back and at work already: go on with the rest
            self._restore()
            raise

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self._received.append((number, frame))
