"""The calls that the host makes: what is known of each while it is served."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from plugkeep.current import CurrentCall
from plugkeep.errors import CallCancelledError, CallTimeoutError
from plugkeep.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable

    from plugkeep.channel.exposed import ExposedMethod
    from plugkeep.runner.runner import Runner
    from plugkeep.wire.events import Request
    from plugkeep.wire.messages import Id


class Call(CurrentCall):
    """One call of the host's that is being served, or waits for it."""

    def __init__(self, runner: Runner, method: ExposedMethod | None, request: Request) -> None:
        self.runner = runner
        self.method = method
        self.request = request
        self.id: Id = request.id
        self.within = request.within
        self.wants_stream = request.credit is not None
        limit = request.deadline_ms
        self._limit = None if limit is None else limit / 1000
        self._deadline = None if limit is None else time.monotonic() + limit / 1000
        #: How many calls, each within the one before, lead to this one.
        self.depth = 1
        #: Told when the call is cancelled, or its stream gets credit; may not wait.
        self.nudge: Callable[[], None] = _nothing

    @property
    def name(self) -> str:
        """The method's name."""
        return self.request.method

    @property
    def remaining(self) -> float | None:
        """See `CurrentCall`."""
        return None if self._deadline is None else max(self._deadline - time.monotonic(), 0.0)

    @property
    def cancelled(self) -> bool:
        """See `CurrentCall`."""
        return self.id in self.runner.unwanted or self.runner.is_stopping

    @property
    def is_overdue(self) -> bool:
        """Whether its time is up."""
        return self._deadline is not None and time.monotonic() >= self._deadline

    def check(self) -> None:
        """See `CurrentCall`."""
        if self.cancelled:
            raise CallCancelledError(f"the call of {self.name!r} has been cancelled")
        if self.is_overdue:
            raise CallTimeoutError(
                f"the {self._limit:g} s that the caller of {self.name!r} gave have passed",
                timeout=self._limit or 0.0,
            )

    def progress(self, value: Any) -> None:
        """See `CurrentCall`."""
        connection = self.runner.connection
        if self.id in connection.serving:
            self.runner.tell(connection.notify(m.PROGRESS, id=self.id, value=value))


def _nothing() -> None: ...
