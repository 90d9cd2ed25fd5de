"""The plugin's side of HTTP: serves the host's requests by the plugin's routes and application.

See `plugkeep.wire.http` for what travels. Applications run on the plugin's event loop, each
request in a task of its own.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any

from plugkeep.channel._async_waiters import AsyncListener
from plugkeep.channel._sides import side_of
from plugkeep.channel.failures import raised
from plugkeep.runner._calls import Call
from plugkeep.wire.http import (
    INLINE,
    LONGEST_PIECE,
    RECEIVE,
    WINDOW,
    pack_event,
    unpack_event,
)
from plugkeep.wire.values import unpack

if TYPE_CHECKING:
    from plugkeep.runner.runner import Runner
    from plugkeep.wire.connection import Sending

log = logging.getLogger("plugkeep.web")

#: Seconds for which the head of a response waits for a body that is short.
_HOLD = 0.005

#: What a client that has gone sends, by what it came with.
_GONE: dict[str, dict[str, Any]] = {
    "http": {"type": "http.disconnect"},
    "websocket": {"type": "websocket.disconnect", "code": 1006},  # RFC 6455, 7.1.5
}


class Exchange:
    """One request, or WebSocket, that an application serves: all on the loop's thread."""

    def __init__(self, runner: Runner, call: Call, scope: dict[str, Any], body: bytes) -> None:
        self._runner = runner
        self._call = call
        self._connection = runner.connection
        self._type = scope["type"]
        self._what = f"{scope.get('method', 'WebSocket')} {scope.get('path')}"
        self._first: dict[str, Any] | None
        if self._type == "websocket":
            self._first, self._frame = {"type": "websocket.connect"}, "websocket.receive"
        else:
            more = bool(call.request.kwargs.get("more"))
            self._first = {"type": "http.request", "body": body, "more_body": more}
            self._frame = ""
            if more and not body:
                self._first = None
        #: The head of the response, until it is known whether the body comes with it.
        self._head: dict[str, Any] | None = None
        self._is_started = self.is_complete = self._has_trailers = False
        self._incoming: AsyncListener | None = None
        self._taken = 0
        self._news = asyncio.Event()
        self._number = 0
        self._flushing: asyncio.Handle | None = None
        self.task: asyncio.Task[None] | None = None

    def nudge(self) -> None:
        """There is credit, or the host has lost interest, or the plugin is about to stop."""
        self._news.set()
        if self._incoming is not None:
            self._incoming.ring()

    # --- what the application receives ----------------------------------------------------

    async def receive(self) -> dict[str, Any]:
        """See ASGI."""
        if self._first is not None:
            event, self._first = self._first, None
            return event
        while True:
            if self.is_complete or not self._call.is_open or self._call.cancelled:
                return _GONE[self._type]
            incoming = self._incoming or self._open()
            if incoming.chunks:
                return self._take(incoming)
            if incoming.answer is not None or incoming.is_lost:
                return _GONE[self._type]
            incoming.bell = incoming.side.new_bell() if incoming.bell.done() else incoming.bell
            if not incoming.has_news():
                await incoming.bell

    def _open(self) -> AsyncListener:
        side = side_of(self._runner.channel)
        self._incoming = incoming = AsyncListener(side, wants_progress=False)
        side.enter()
        self._number = side.open(RECEIVE, (), {}, incoming, credit=WINDOW)
        return incoming

    def _take(self, incoming: AsyncListener) -> dict[str, Any]:
        chunk = incoming.chunks.popleft()
        self._taken += 1
        if self._taken * 2 >= WINDOW:
            self._runner.channel.grant(self._number, self._taken)
            self._taken = 0
        value = unpack(chunk.value, chunk.buffers, "bytes") if chunk.buffers else chunk.value
        return unpack_event(value, "http.request", self._frame)

    # --- what it sends --------------------------------------------------------------------

    async def send(self, event: dict[str, Any]) -> None:
        """See ASGI."""
        if not self._call.is_open:
            if self.is_complete:
                raise RuntimeError(f"{event['type']!r} was sent after the response was complete")
            return  # nobody is there any more
        await _SENDERS.get(event["type"], Exchange._send_any)(self, event)

    async def _send_start(self, event: dict[str, Any]) -> None:
        if self._is_started:
            raise RuntimeError("'http.response.start' was sent twice")
        self._is_started = True
        self._has_trailers = bool(event.get("trailers"))
        self._head = {
            "status": int(event["status"]),
            "headers": list(event.get("headers", ())),
        }
        # Most bodies come in the very same step; where one does not, the head goes ahead. (Not at
        # once where the body is known to be short: that costs as much as all else here.)
        loop = asyncio.get_running_loop()
        if _is_short(self._head["headers"]):
            self._flushing = loop.call_later(_HOLD, self._flush_head)
        else:
            self._flushing = loop.call_soon(self._flush_head)

    def _flush_head(self) -> None:
        if self._head is not None and self._call.is_open:
            head, self._head = self._head, None
            if self._has_trailers:
                head["trailers"] = True
            self._post(self._connection.chunk(self._call.id, {"type": _START, **head}))

    async def _send_body(self, event: dict[str, Any]) -> None:
        if not self._is_started:
            raise RuntimeError("'http.response.body' was sent before 'http.response.start'")
        body, more = event.get("body", b""), event.get("more_body", False)
        if more or self._has_trailers or len(body) > LONGEST_PIECE:
            self._flush_head()
        while len(body) > LONGEST_PIECE:
            await self._chunk(bytes(body[:LONGEST_PIECE]))
            body = body[LONGEST_PIECE:]
        if self._has_trailers and not more:
            await self._chunk({"type": _BODY, "body": bytes(body), "more_body": False})
        elif more:
            if body:
                await self._chunk(bytes(body))
        else:
            if self._flushing is not None:
                self._flushing.cancel()
            self._complete({**(self._head or {}), "body": bytes(body)})

    async def _send_any(self, event: dict[str, Any]) -> None:
        self._flush_head()
        await self._chunk(pack_event(event))

    async def _chunk(self, packed: Any) -> None:
        call = self._call
        while not call.credit:
            if not call.is_open:
                return
            self._news.clear()
            await self._news.wait()
        self._post(self._connection.chunk(call.id, packed))

    def _complete(self, result: dict[str, Any]) -> None:
        self._head, self.is_complete = None, True
        is_short = len(result["body"]) < INLINE
        self._answer(self._connection.answer(self._call.id, result, as_is=is_short))

    # --- how it ends ----------------------------------------------------------------------

    def end(self, error: BaseException | None) -> None:
        """The application has returned, or raised."""
        self._flush_head()
        if self._incoming is not None:
            self._incoming.side.leave()
        if not self._call.is_open:
            if isinstance(error, (Exception, SystemExit)):
                log.error("%s failed after its response", self._what, exc_info=error)
            return
        if error is None:
            self._answer(self._connection.answer(self._call.id, None))
        elif (exception := http_exception(error)) is not None and not self._is_started:
            self._answer(self._connection.answer(self._call.id, {"exception": exception}))
        else:
            self._answer(self._connection.refuse(self._call.id, *raised(error)))

    def _post(self, sending: Sending) -> None:
        self._runner.channel.post(sending)

    def _answer(self, sending: Sending) -> None:
        self._runner.service.end(self._call, sending)


def _is_short(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    return any(name == b"content-length" and len(value) < 6 for name, value in headers)


def http_exception(error: BaseException) -> list[Any] | None:
    """Return what the host is told of an HTTPException, for it to answer; None: it is none."""
    starlette = sys.modules.get("starlette.exceptions")
    if starlette is None or not isinstance(error, starlette.HTTPException):
        return None
    headers = [
        [str(each).encode("latin-1") for each in pair] for pair in (error.headers or {}).items()
    ]
    return [error.status_code, str(error.detail), headers]


_START, _BODY = "http.response.start", "http.response.body"
_SENDERS: dict[str, Callable[[Exchange, dict[str, Any]], Awaitable[None]]] = {
    _START: Exchange._send_start,
    _BODY: Exchange._send_body,
}
