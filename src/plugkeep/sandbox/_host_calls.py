"""The plugin's calls of what the host has granted it."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any

from msgspec import UNSET

from plugkeep.channel.behalf import on_behalf
from plugkeep.channel.channel import serving
from plugkeep.channel.exposed import misused
from plugkeep.channel.failures import Failure, failure_of
from plugkeep.current import CurrentCall, served
from plugkeep.errors import (
    CallCancelledError,
    CallTimeoutError,
    UnsendableValueError,
)
from plugkeep.wire.messages import HOST, PROGRESS, Code
from plugkeep.wire.values import unpack_arguments

if TYPE_CHECKING:
    from plugkeep.sandbox._host_end import HostEnd
    from plugkeep.sandbox.granting import Served
    from plugkeep.wire.events import Request


class HostCall(CurrentCall):
    """One call, from its coming to its answer. To be served on a thread of its own."""

    def __init__(
        self, end: HostEnd, request: Request, depth: int, behind: tuple[object, ...]
    ) -> None:
        self.id = request.id
        #: How many calls, each within the one before, lead to this one.
        self.depth = depth
        #: Who waits for this one: the plugin itself, and those within whose calls it makes it.
        self._behind = behind
        self.name = request.method.removeprefix(HOST)
        #: Our own call on whose behalf this one is made.
        self.within = request.within
        self._end = end
        self._request = request
        limit = request.deadline_ms
        self._deadline = None if limit is None else time.monotonic() + limit / 1000
        self._cancelled = False
        self._cancel: Callable[[], object] = _nothing
        self._credit = threading.Event()

    # --- what the method may ask ----------------------------------------------------------

    @property
    def remaining(self) -> float | None:
        """See `CurrentCall`."""
        return None if self._deadline is None else max(self._deadline - time.monotonic(), 0.0)

    @property
    def cancelled(self) -> bool:
        """See `CurrentCall`; also where the plugin has gone."""
        return self._cancelled or self._end.channel.is_lost

    def check(self) -> None:
        """See `CurrentCall`."""
        if self.cancelled:
            raise CallCancelledError(f"the call of {self.name!r} has been cancelled")
        if self.remaining == 0.0:
            limit = (self._request.deadline_ms or 0) / 1000
            raise CallTimeoutError(
                f"the {limit:g} s that the caller of {self.name!r} gave have passed", timeout=limit
            )

    def progress(self, value: Any) -> None:
        """See `CurrentCall`."""
        connection = self._end.channel.connection
        if self.id in connection.serving:
            self._end.channel.post(connection.notify(PROGRESS, id=self.id, value=value))

    # --- what the plugin says meanwhile ---------------------------------------------------

    def cancel(self) -> None:
        """The plugin does not want the answer any more. May not wait."""
        self._cancelled = True
        self._cancel()
        self._credit.set()

    def credited(self) -> None:
        """The plugin takes more of the stream. May not wait."""
        self._credit.set()

    # --- serving --------------------------------------------------------------------------

    def serve(self) -> None:
        """Do what is asked for, and answer."""
        connection, channel = self._end.channel.connection, self._end.channel
        tokens = serving.set((channel, self.id)), served.set(self), on_behalf.set(self._behind)
        try:
            sending = connection.answer(self.id, self._result())
        except BaseException as error:  # whatever it is, the plugin is owed an answer
            if self.id not in connection.serving:
                raise
            sending = connection.refuse(self.id, *self._failure(error))
        finally:
            serving.reset(tokens[0])
            served.reset(tokens[1])
            on_behalf.reset(tokens[2])
        channel.send(sending)

    def _failure(self, error: BaseException) -> Failure:
        if isinstance(error, CallTimeoutError) and self.remaining == 0.0:
            return Failure(Code.DEADLINE_PASSED, f"the time for {self.name!r} is up", UNSET)
        return failure_of(error)

    def _result(self) -> Any:
        self.check()
        method = self._end.find(self.name, stream=self._request.credit is not None)
        args, kwargs = self._arguments(method)
        if bool(method.is_stream) is not (self._request.credit is not None):
            raise misused(is_stream=bool(method.is_stream))
        if method.takes_timeout:
            kwargs["timeout"] = self.remaining
        if method.is_stream:
            return self._stream(method.function(*args, **kwargs))
        if method.is_async:
            return self._on_loop(lambda: method.function(*args, **kwargs))
        return method.function(*args, **kwargs)

    def _arguments(self, method: Served) -> tuple[Any, Any]:
        request = self._request
        if method.binding is not None:
            return method.binding.bind(request.args, request.kwargs, request.buffers)
        return unpack_arguments(request.args, request.kwargs, request.buffers)

    def _on_loop(self, function: Callable[[], Any]) -> Any:
        from concurrent.futures import CancelledError

        loop = self._end.loop
        if loop is None:
            raise RuntimeError(f"{self.name!r} is asynchronous, and there is no event loop for it")
        try:
            return loop.run(function, self._began)
        except CancelledError:
            raise CallCancelledError(f"the call of {self.name!r} has been cancelled") from None

    def _began(self, cancel: Callable[[], object]) -> None:
        self._cancel = cancel
        if self._cancelled:
            cancel()

    # --- streams --------------------------------------------------------------------------

    def _stream(self, values: Any) -> Any:
        if hasattr(values, "__await__"):
            coroutine = values
            values = self._on_loop(lambda: coroutine)
        is_async = hasattr(values, "__anext__")
        try:
            return self._send_all(self._async_values(values) if is_async else iter(values))
        finally:
            close = getattr(values, "aclose" if is_async else "close", None)
            if close is not None:
                self._on_loop(close) if is_async else close()

    def _send_all(self, values: Iterator[Any]) -> Any:
        channel = self._end.channel
        while True:
            self._await_credit()
            try:
                value = next(values)
            except StopIteration as end:
                return end.value
            self.check()
            try:
                channel.send(channel.connection.chunk(self.id, value))
            except UnsendableValueError as error:
                raise UnsendableValueError(f"{self.name!r}: {error}") from None

    def _await_credit(self) -> None:
        """Wait until one more value may be sent. Raises as `check` does."""
        while not self._end.channel.connection.credit_left(self.id):
            self._credit.clear()
            if not self._end.channel.connection.credit_left(self.id):
                self.check()
                self._credit.wait(self.remaining)
        self.check()

    def _async_values(self, values: AsyncIterator[Any]) -> Iterator[Any]:
        while True:
            try:
                yield self._on_loop(values.__anext__)
            except StopAsyncIteration:
                return


def _nothing() -> None: ...
