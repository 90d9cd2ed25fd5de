"""What an application sends, on its way to the host: gathered, for a message takes its time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from plugkeep.wire.http import (
    INLINE,
    LONGEST_PIECE,
    UnfitEvent,
    check_headers,
    octets,
    pack_event,
)

if TYPE_CHECKING:
    from plugkeep.runner._calls import Call

#: Seconds for which the head of a response waits, at most, for a body that is short.
_HOLD = 0.005
#: So many pieces of a body travel in one message.
_MOST_PIECES = 64

_START, _BODY = "http.response.start", "http.response.body"
_TRAILERS = "http.response.trailers"


class Held:
    """Heads of responses that wait for their bodies: one timer for all, for one each is dear."""

    def __init__(self) -> None:
        self._responses: dict[Response, None] = {}
        self._is_ticking = False

    def add(self, response: Response) -> None:
        """Have the head go ahead soon, unless the response is removed before."""
        self._responses[response] = None
        if not self._is_ticking:
            self._is_ticking = True
            asyncio.get_running_loop().call_later(_HOLD, self._tick)

    def remove(self, response: Response) -> None:
        """Wait no more, for its body is there."""
        self._responses.pop(response, None)

    def _tick(self) -> None:
        self._is_ticking = False
        responses, self._responses = self._responses, {}
        for response in responses:
            response.nudge()


class Response:
    """The sending side of one exchange; all on the loop's thread.

    What is sent within one step of the application's travels together. Where the host has given no
    more credit it waits, and where that becomes too much the application does.
    """

    is_started = is_complete = False
    _has_trailers = False
    _size = 0  # of the pieces of the body that have not been sent
    _flushing: asyncio.Handle | None = None
    _moved: asyncio.Event | None = None

    def __init__(self, call: Call, held: Held, *, gathers: bool) -> None:
        self._call = call
        self._connection = call.runner.connection
        self._held = held
        self._gathers = gathers  # messages of a WebSocket stay apart
        #: Events, and pieces of the body, that have not been sent.
        self._waiting: deque[Any] = deque()

    def send(self, event: dict[str, Any]) -> Awaitable[None]:
        """See ASGI."""
        if self.is_complete:
            raise RuntimeError(f"{event['type']!r} was sent after the response was complete")
        if not self.is_wanted:
            return _nothing()
        return _SENDERS.get(event["type"], Response._send_any)(self, event)

    @property
    def is_wanted(self) -> bool:
        """Whether anybody is there who waits for it."""
        return self._call.is_open and self._call.id not in self._call.runner.unwanted

    def nudge(self) -> None:
        """There is credit, or nobody is there any more."""
        if self._waiting and self._call.is_open:
            self._flush()
        if self._moved is not None:
            self._moved.set()

    # --- events ---------------------------------------------------------------------------

    async def _send_start(self, event: dict[str, Any]) -> None:
        if self.is_started:
            raise RuntimeError(f"{_START!r} was sent twice")
        self.is_started = True
        if not isinstance(status := event["status"], int):
            raise UnfitEvent(f"the status {status!r:.80} was sent, which is no int")
        headers = check_headers(_copied(event.get("headers", ())))
        head = {"type": _START, "status": int(status), "headers": headers}
        if event.get("trailers"):
            self._has_trailers = head["trailers"] = True
        self._waiting.append(head)
        # Most bodies come in the very same step; where one does not, the head goes ahead. (Not at
        # once where the body is known to be short: that costs as much as all else here.)
        if len(self._waiting) == 1 and _is_short(headers):
            self._held.add(self)
        else:
            self._flush_soon()

    async def _send_body(self, event: dict[str, Any]) -> None:
        if not self.is_started:
            raise RuntimeError(f"{_BODY!r} was sent before {_START!r}")
        whole, more = octets(event.get("body", b"")), event.get("more_body", False)
        body = await self._send_pieces(memoryview(whole)) if len(whole) > LONGEST_PIECE else whole
        if more:
            if body:
                await self._put(bytes(body), len(body))
        elif self._has_trailers:
            await self._put({"type": _BODY, "body": bytes(body), "more_body": False}, 0)
        else:
            await self._complete(bytes(body))

    async def _send_pieces(self, body: memoryview) -> memoryview:
        """Send all of a long body but the end, which is returned."""
        while len(body) > LONGEST_PIECE:
            await self._put(bytes(body[:LONGEST_PIECE]), LONGEST_PIECE)
            body = body[LONGEST_PIECE:]
        return body

    async def _send_any(self, event: dict[str, Any]) -> None:
        await self._put(pack_event(event), 0)
        if event["type"] == _TRAILERS and not event.get("more_trailers"):
            await self.drain()

    async def _complete(self, body: bytes) -> None:
        """Send the end of the body; where the head still waits, all is the answer."""
        waiting = self._waiting
        if len(waiting) == 1 and isinstance(waiting[0], dict) and waiting[0]["type"] == _START:
            head = waiting.popleft()
            result = {"status": head["status"], "headers": head["headers"], "body": body}
        else:
            await self.drain()
            result = {"body": body}
        self.is_complete = True
        self._held.remove(self)
        if self._flushing is not None:
            self._flushing.cancel()
        if self._call.is_open:
            answer = (
                self._connection.answer_as_is if len(body) < INLINE else self._connection.answer
            )
            self._call.runner.service.end(self._call, answer(self._call.id, result))

    # --- sending --------------------------------------------------------------------------

    async def _put(self, item: Any, size: int) -> None:
        self._waiting.append(item)
        self._size += size
        if self._size < LONGEST_PIECE and len(self._waiting) < _MOST_PIECES:
            self._flush_soon()
        else:
            await self.drain()

    def _flush_soon(self) -> None:
        if self._flushing is None or self._flushing.cancelled():
            self._flushing = asyncio.get_running_loop().call_soon(self._flush)

    async def drain(self) -> None:
        """Send all that waits, as there is credit for it."""
        self._flush()
        while self._waiting and self.is_wanted:
            if self._moved is None or self._moved.is_set():
                self._moved = asyncio.Event()
            await self._moved.wait()
            self._flush()

    def _flush(self) -> None:
        """Send what waits and there is credit for."""
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
        call = self._call
        while self._waiting and call.is_open and call.credit:
            call.runner.channel.post(self._connection.chunk(call.id, self._take()))

    def _take(self) -> Any:
        """Take what travels in one message: an event, or pieces of the body, or the head and such.

        Several pieces are put together, with their lengths beside them.
        """
        waiting = self._waiting
        first = waiting.popleft()
        is_piece = isinstance(first, bytes)
        if not self._gathers or not (is_piece or first["type"] == _START):
            return first
        pieces = [first] if is_piece else []
        size = len(first) if is_piece else 0
        while waiting and isinstance(waiting[0], bytes) and size < LONGEST_PIECE:
            pieces.append(waiting.popleft())
            size += len(pieces[-1])
        self._size -= size
        if is_piece and len(pieces) == 1:
            return first
        together: dict[str, Any] = {"type": _BODY} if is_piece else first
        if pieces:
            together |= {"body": b"".join(pieces), "sizes": list(map(len, pieces))}
        return together


def _copied(headers: Iterable[Any]) -> list[Any]:
    """Return a copy, for they wait here a moment, and are still the application's."""
    pairs = list(headers)
    try:
        return list(map(tuple, pairs))
    except TypeError:
        return pairs  # which are none, as is about to be found


def _is_short(headers: Iterable[Sequence[bytes]]) -> bool:
    for name, value in headers:
        if name == b"content-length":
            return len(value) < 6
    return False


async def _nothing() -> None:
    pass


_SENDERS: dict[str, Callable[[Response, dict[str, Any]], Awaitable[None]]] = {
    _START: Response._send_start,
    _BODY: Response._send_body,
}
