"""Sections that Ctrl-C must not cut in two."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def signals_held() -> Iterator[None]:
    """Hold back SIGINT and SIGTERM while the block runs, and hand them on right after it.

    An exception raised by a signal's handler between the birth of a process and the assignment
    that remembers it would leave a process that nobody knows of. Handlers run on the main thread
    only, so elsewhere there is nothing to hold. (Blocking the signals instead would not do:
    another thread would receive them, and the child would inherit the mask.)
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {
        number: handler for number in _SIGNALS if callable(handler := signal.getsignal(number))
    }
    received: list[tuple[int, FrameType | None]] = []
    for number in handlers:
        signal.signal(number, lambda *arguments: received.append(arguments))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for arrived, frame in received:
            handlers[signal.Signals(arrived)](arrived, frame)
