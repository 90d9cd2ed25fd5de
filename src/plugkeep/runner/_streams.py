"""Streams of plain iterators: stepped on the main thread between calls, or on a thread."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

from plugkeep.runner._calls import nothing

if TYPE_CHECKING:
    from plugkeep.channel.exposed import ExposedMethod
    from plugkeep.runner._calls import Call
    from plugkeep.runner._service import Service
    from plugkeep.wire.sending import Sending

#: So many values are sent before it is another call's turn.
_AT_ONCE: Final = 32


class _Values:
    """The values of one stream, each sent as soon as there is credit for it.

    One value is asked for ahead of the credit, for it may turn out to be the end.
    """

    def __init__(
        self, service: Service, call: Call, method: ExposedMethod, iterator: Iterator[Any]
    ) -> None:
        self._service, self._call, self._method = service, call, method
        self._iterator = iterator
        self._ahead: list[Any] = []

    def send(self) -> bool:
        """Send what there is credit for, up to a limit; return False where the stream is over."""
        call, ahead = self._call, self._ahead
        try:
            for _ in range(_AT_ONCE):
                call.check()
                if not ahead:
                    ahead.append(next(self._iterator))
                if not call.credit:
                    break
                self._service.send_value(call, ahead.pop())
        except StopIteration as end:
            self._service.answer(call, self._method, end.value)
        except BaseException as error:
            self._close()
            self._service.fail(call, self._method, error)
        else:
            return True
        return False

    def _close(self) -> None:
        try:
            getattr(self._iterator, "close", nothing)()
        except BaseException:
            import logging

            logger = logging.getLogger("plugkeep.runner")
            logger.exception("closing the stream %r failed", self._call.name)


class MainStream:
    """A stream of the main thread's. Without credit it waits for its `nudge`, and nobody for it."""

    def __init__(
        self, service: Service, call: Call, method: ExposedMethod, iterator: Iterator[Any]
    ) -> None:
        self._call = call
        self._channel = call.runner.channel
        self._values = _Values(service, call, method, iterator)
        self._is_queued = Lock()
        call.nudge = self._nudge
        call.send = self._hold
        self._nudge()

    def _hold(self, sending: Sending) -> None:
        self._channel.hold(sending)
        self._channel.heat()

    def _nudge(self) -> None:
        if self._is_queued.acquire(False):
            self._channel.on_main(self._step, self._call.within)

    def _step(self) -> None:
        channel, call = self._channel, self._call
        self._is_queued.release()
        before, channel.current = channel.current, call
        try:
            goes_on = self._values.send()
        finally:
            channel.current = before
            channel.send_held()
        if goes_on and (call.credit or not call.is_wanted):
            self._nudge()


def stream_here(
    service: Service, call: Call, method: ExposedMethod, iterator: Iterator[Any]
) -> None:
    """Send what `iterator` yields; this thread waits for credit."""
    values = _Values(service, call, method, iterator)
    bell = Lock()
    bell.acquire()

    def nudge() -> None:
        with suppress(RuntimeError):  # it has been rung already
            bell.release()

    call.nudge = nudge
    while values.send():
        if not call.credit and call.is_wanted:
            remaining = call.remaining
            bell.acquire(timeout=-1 if remaining is None else remaining)
