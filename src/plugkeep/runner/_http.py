"""The plugin's side of HTTP: serves the host's requests by the plugin's routes and application.

See `plugkeep.wire.http` for what travels. Applications run on the plugin's event loop, each
request in a task of its own.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import TYPE_CHECKING, Any

from plugkeep.channel._async_waiters import AsyncListener
from plugkeep.channel._sides import side_of
from plugkeep.channel.failures import raised
from plugkeep.current import served
from plugkeep.errors import CallCancelledError
from plugkeep.runner._calls import Call, nothing
from plugkeep.runner._response import Held, Response
from plugkeep.runner._service import given_up
from plugkeep.wire.http import (
    RECEIVE,
    WINDOW,
    unpack_event,
)
from plugkeep.wire.values import unpack

if TYPE_CHECKING:
    from plugkeep.channel._sides import Side
    from plugkeep.runner.runner import Runner
    from plugkeep.wire.http_request import HttpParams
    from plugkeep.wire.sending import Sending

log = logging.getLogger("plugkeep.web")

#: Seconds in which what is cancelled ends, as it should.
_HEED = 0.2
#: What a client that has gone sends, by what it came with.
_GONE: dict[str, dict[str, Any]] = {
    "http": {"type": "http.disconnect"},
    "websocket": {"type": "websocket.disconnect", "code": 1006},  # RFC 6455, 7.1.5
}


class _Incoming(AsyncListener):
    """What the client sends. Any number of tasks may wait for it, and each be cancelled alone."""

    __slots__ = ("_waiting",)

    def __init__(self, side: Side, *, wants_progress: bool) -> None:
        super().__init__(side, wants_progress=wants_progress)
        self._waiting: list[asyncio.Future[None]] = []

    def answered(self, answer: Any) -> None:
        self.answer = answer
        self.news()

    def ring(self) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if not each.done():
                each.set_result(None)

    async def next(self) -> None:
        """Wait until something has come, or there is another reason to look."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        await future


class Exchange:
    """One request, or WebSocket, that an application serves: all on the loop's thread."""

    task: asyncio.Task[None] | None = None
    #: What is received first, unless that is yet to come.
    _first: dict[str, Any] | None = None
    _incoming: _Incoming | None = None
    _taken = _number = 0
    #: There is more of the request, beyond what has been received.
    _lacks = False

    def __init__(self, runner: Runner, call: Call, held: Held, params: HttpParams) -> None:
        self._runner = runner
        self.call = call
        scope = params.scope
        self._type = scope["type"]
        self._what = scope.get("method", "WebSocket"), scope["path"]
        if self._type == "websocket":
            self._first = {"type": "websocket.connect"}
        elif params.body or not params.more:
            body, more = params.body, params.more
            self._lacks = more
            self._first = {"type": "http.request", "body": body, "more_body": more}
        else:
            self._lacks = True
        self.response = Response(call, held, gathers=self._type == "http")

    def nudge(self) -> None:
        """There is credit, or the host has lost interest, or the plugin is about to stop."""
        self.response.nudge()
        if self.call.id in self._runner.unwanted and self.task is not None:
            self.task.cancel()
        if self._incoming is not None:
            self._incoming.ring()

    # --- what the application receives ----------------------------------------------------

    async def receive(self) -> dict[str, Any]:
        """See ASGI.

        Where the plugin is about to stop, and the request is not whole, all is cancelled: to say
        that the client has gone would be a lie, and to wait for more of it is too late.
        """
        if self._first is not None:
            event, self._first = self._first, None
            return event
        while True:
            if self.response.is_complete or not self.call.is_open or self.call.cancelled:
                if self._lacks and self.response.is_wanted:
                    await self._give_up()
                return _GONE[self._type]
            incoming = self._incoming or self._open()
            if incoming.chunks:
                return self._take(incoming)
            if incoming.answer is not None or incoming.is_lost:
                return _GONE[self._type]
            await incoming.next()

    async def _give_up(self) -> None:
        """Cancel the task that serves this. Raises CallCancelledError where that is not heeded."""
        if self.task is not None:
            self.task.cancel()
            await asyncio.sleep(_HEED)
        self.call.check()

    def _open(self) -> _Incoming:
        side = side_of(self._runner.channel)
        self._incoming = incoming = _Incoming(side, wants_progress=False)
        side.enter()
        # Whichever task this is, and on whatever behalf that runs: it is within this very call.
        before = served.set(self.call)
        try:
            self._number = side.open(RECEIVE, (), {}, incoming, credit=WINDOW)
        finally:
            served.reset(before)
        return incoming

    def _take(self, incoming: _Incoming) -> dict[str, Any]:
        chunk = incoming.chunks.popleft()
        self._taken += 1
        if self._taken * 2 >= WINDOW:
            self._runner.channel.grant(self._number, self._taken)
            self._taken = 0
        value = unpack(chunk.value, chunk.buffers, "bytes") if chunk.buffers else chunk.value
        frame = "websocket.receive" if self._type == "websocket" else ""
        event = unpack_event(value, "http.request", frame)
        self._lacks = event.get("more_body", False)
        return event

    # --- how it ends ----------------------------------------------------------------------

    def end(self, error: BaseException | None) -> None:
        """The application has returned, or raised."""
        incoming, self._incoming = self._incoming, None
        if incoming is not None:
            incoming.side.leave()
        call, connection = self.call, self._runner.connection
        call.nudge = nothing  # or the two would keep each other, and all that has come
        if not call.is_open:
            if isinstance(error, (Exception, SystemExit)):
                log.error("%s %s failed after its response", *self._what, exc_info=error)
            return
        try:
            sending = self._ending(error)
        except Exception as unfit:  # an HTTPException with what cannot be sent
            sending = connection.refuse(call.id, *raised(unfit))
        self._runner.service.end(call, sending)

    def _ending(self, error: BaseException | None) -> Sending:
        """Return what tells the host how it has ended; raises what comes of strange exceptions."""
        call, connection = self.call, self._runner.connection
        if error is None:
            return connection.answer(call.id, None)
        if (exception := http_exception(error)) is not None and not self.response.is_started:
            return connection.answer_as_is(call.id, {"exception": exception})
        if isinstance(error, (asyncio.CancelledError, CallCancelledError)):
            return connection.refuse(call.id, *(given_up(call) or raised(error)))
        return connection.refuse(call.id, *raised(error))


def http_exception(error: Any) -> list[Any] | None:
    """Return what the host is told of an HTTPException, for it to answer; None: it is none."""
    starlette = sys.modules.get("starlette.exceptions")
    if starlette is None or not isinstance(error, starlette.HTTPException):
        return None
    headers = [
        [str(each).encode("latin-1") for each in pair] for pair in (error.headers or {}).items()
    ]
    return [error.status_code, str(error.detail), headers]
