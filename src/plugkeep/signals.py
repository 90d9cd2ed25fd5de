"""Sections that Ctrl-C must not cut in two, and the foreign code in them that it may.

What a signal's handler raises, it raises between any two steps of the program. Where several steps
belong together (a process is born and noted down, a method has returned and the state says so), the
handlers are held back until all are done.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import signal as _signal
else:
    # The same functions, without the µs in which `signal` makes enums of what they return.
    import _signal

#: Those whose handlers are likely to raise, or to call.
_SIGNALS = tuple(
    int(each)
    for each in (
        *(_signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP, _signal.SIGQUIT),
        *(_signal.SIGALRM, _signal.SIGUSR1, _signal.SIGUSR2, _signal.SIGCHLD),
    )
)

T = TypeVar("T")


class SignalsHeld:
    """Hold back the handlers of some signals while the block runs, and run them right after it.

    Handlers run on the main thread only, so elsewhere there is nothing to hold. (Blocking the
    signals instead would not do: another thread would receive them, and a child process would
    inherit the mask.) Blocks may be in one another; `foreign` lets signals through for a while.
    """

    def __init__(self) -> None:
        self._handlers: dict[int, Callable[[int, FrameType | None], Any]] = {}
        self._received: list[tuple[int, FrameType | None]] = []
        self._outer: SignalsHeld | None = None
        self._lets_through = False
        self.thread = threading.get_ident()

    def __enter__(self) -> None:
        global _innermost
        # By number: on a thread that `threading` did not start, asking for it would leave a trace.
        if self.thread != threading.main_thread().ident:
            return
        try:
            for number in _SIGNALS:
                handler = _signal.getsignal(number)
                # A number: it is ignored, or does what the system has it do. Nearly all are.
                if type(handler) is int:
                    continue
                if callable(handler := _original(handler, number)):
                    self._handlers[number] = handler
                    _signal.signal(number, self._receive)
            self._outer, _innermost = _innermost, self
        except BaseException:  # of the handler of one that came before it was held
            self._restore()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        global _innermost
        if _innermost is self:
            _innermost = self._outer
        self._restore()
        self._deliver()

    def let_through(self) -> None:
        """Run the handlers of what has been held back, and of what comes from now on, at once."""
        self._lets_through = True
        if self._received:
            self._deliver()

    def hold_again(self) -> None:
        """End what `let_through` began."""
        self._lets_through = False

    def _deliver(self) -> None:
        while self._received:
            number, frame = self._received.pop(0)
            self._handle(number, frame)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        # Holding meanwhile, so that where it raises, what clears up after that is not cut in two.
        before, self._lets_through = self._lets_through, False
        self._handlers[number](number, frame)
        self._lets_through = before

    def _restore(self) -> None:
        try:
            for number, handler in self._handlers.items():
                # Unless the code in between has put a handler of its own there.
                if _signal.getsignal(number) == self._receive:
                    _signal.signal(number, handler)
        except BaseException:  # of a handler that is back and at work already: go on with the rest
            self._restore()
            raise

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self._lets_through:
            self._handle(number, frame)
        else:
            self._received.append((number, frame))


#: The innermost block that the main thread is in.
_innermost: SignalsHeld | None = None


def foreign(function: Callable[..., T], *args: Any) -> T:
    """Call a function that is not ours, or that waits: signals that are held come through."""
    held = _innermost
    if held is None or held.thread != threading.get_ident():
        return function(*args)
    holding = [each for each in _around(held) if not each._lets_through]
    try:
        for each in holding:
            each.let_through()
        return function(*args)
    finally:
        for each in holding:
            each.hold_again()


def _around(held: SignalsHeld) -> Iterator[SignalsHeld]:
    """Yield a block and those around it: what comes through one has to come through all."""
    each: SignalsHeld | None = held
    while each is not None:
        yield each
        each = each._outer


def _original(handler: Any, number: int) -> Any:
    """Return what stands behind the handler of a block that is over.

    Code that remembers a handler while a block is around it, to put it back later, puts that back.
    """
    held = getattr(handler, "__self__", None)
    while isinstance(held, SignalsHeld) and not _is_open(held):
        handler = held._handlers[number]
        held = getattr(handler, "__self__", None)
    return handler


def _is_open(held: SignalsHeld) -> bool:
    each = _innermost
    while each is not None and each is not held:
        each = each._outer
    return each is held
