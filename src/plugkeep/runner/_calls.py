"""The calls that the host makes: what is known of each while it is served."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from msgspec import UNSET

from plugkeep.current import CurrentCall
from plugkeep.errors import CallCancelledError, CallTimeoutError
from plugkeep.wire import messages as m
from plugkeep.wire.connection import LONGEST_MS
from plugkeep.wire.events import Request

if TYPE_CHECKING:
    from plugkeep.runner.runner import Runner
    from plugkeep.wire.messages import Id
    from plugkeep.wire.sending import Sending


def nothing() -> None:
    """Do nothing."""


def whole(request: Any) -> Request:
    """Return a plain request as what it is a short form of."""
    if isinstance(request, Request):
        return request
    deadline = request.deadline_ms
    deadline = None if deadline is UNSET else max(0, min(deadline, LONGEST_MS))
    return Request(request.id, request.method, request.params, {}, (), deadline, None, None)


class Call(CurrentCall):
    """One call of the host's that is being served, or waits for its turn."""

    def __init__(
        self, runner: Runner, request: Request, *, depth: int = 1, since: float | None = None
    ) -> None:
        self.runner = runner
        self.request = request
        self.id: Id = request.id
        self.name = request.method
        #: The call of ours on whose behalf this one is made.
        self.within = request.within
        self.wants_stream = request.credit is not None
        #: Whether it is the stop itself, which is not cancelled by itself.
        self.is_own = False
        #: How many calls, each within the one before, have led to this one; itself included.
        self.depth = depth
        limit = request.deadline_ms
        self._limit = None if limit is None else limit / 1000
        #: It counts from when the call came: `since`, or now.
        self._deadline = None
        if limit is not None:
            self._deadline = (time.monotonic() if since is None else since) + limit / 1000
        #: How what is said of it is sent.
        self.send: Callable[[Sending], object] = runner.channel.send
        #: Told when the call is cancelled, or its stream is given credit; may not wait.
        self.nudge: Callable[[], object] = nothing

    @property
    def remaining(self) -> float | None:
        """See `CurrentCall`."""
        return None if self._deadline is None else max(self._deadline - time.monotonic(), 0.0)

    @property
    def cancelled(self) -> bool:
        """See `CurrentCall`."""
        return self.id in self.runner.unwanted or (self.runner.is_stopping and not self.is_own)

    @property
    def is_wanted(self) -> bool:
        """Whether there is any reason to go on."""
        return not self.cancelled and self.remaining != 0.0

    @property
    def is_open(self) -> bool:
        """Whether it still has to be answered."""
        return self.id in self.runner.connection.serving

    @property
    def credit(self) -> int:
        """How many values its stream may send now."""
        return self.runner.connection.credit_left(self.id)

    def check(self) -> None:
        """See `CurrentCall`."""
        if self.cancelled:
            raise CallCancelledError(f"the call of {self.name!r} has been cancelled")
        if self._deadline is not None and time.monotonic() >= self._deadline:
            raise CallTimeoutError(
                f"the {self._limit:g} s that the caller of {self.name!r} gave have passed",
                timeout=self._limit or 0.0,
            )

    def progress(self, value: Any) -> None:
        """See `CurrentCall`."""
        sending = self.runner.connection.notify(m.PROGRESS, id=self.id, value=value)
        if self.is_open:
            self.runner.tell(sending)
