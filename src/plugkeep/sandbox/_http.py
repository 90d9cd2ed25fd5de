"""The host's side of HTTP: hands a request to the plugin's application, and its response back.

See `plugkeep.wire.http` for what travels. An exchange belongs to the task that the server has
made for it, on whichever event loop that runs; a second task, which reads what the client sends,
is there only once the application has asked for more than came with the request.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from plugkeep.channel._async_waiters import AsyncWaiter, Bell, ring
from plugkeep.channel._sides import side_of
from plugkeep.channel.calling import PLAIN
from plugkeep.channel.channel import Retired
from plugkeep.errors import CallError, CallTimeoutError, HttpError, InvalidResponseEventError
from plugkeep.wire.events import Chunk
from plugkeep.wire.http import (
    HTTP,
    INLINE,
    LONGEST_PIECE,
    WINDOW,
    UnfitEvent,
    check_body,
    check_headers,
    check_status,
    pack_event,
    pack_scope,
    take_apart,
    unpack_event,
)
from plugkeep.wire.messages import Id

if TYPE_CHECKING:
    from plugkeep.channel._sides import Side
    from plugkeep.sandbox._link import Link
    from plugkeep.wire.events import Progress, Request

log = logging.getLogger("plugkeep.web")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

#: A body that is known to be this short is read before the plugin hears of its request.
_SHORT_BODY: Final = 64 * 1024


async def exchange(
    link: Link,
    target: Callable[[Link], dict[str, Any]],
    scope: Scope,
    receive: Receive,
    send: Send,
) -> None:
    """Have the plugin's application answer a request, or serve a WebSocket.

    `target` says which: a route, or nothing for the whole application. Raises HttpError where a
    handler has raised an HTTPException; RemoteError for whatever else the application has raised,
    and PluginError where it breaks ASGI's rules; ProcessExitedError where its process has ended.
    """
    body: bytes | None = b""
    more = False
    if scope["type"] == "websocket":
        more = True
        await receive()  # that it wants to connect, which goes without saying
    elif size := _body_size(scope):
        body, more = await _beginning(size, receive)
    if body is None:
        return  # the client is gone already
    beginning: dict[str, Any] = {"scope": pack_scope(scope), "body": body, "more": more}
    while True:
        try:
            await _relay(link, beginning, target(link), scope["type"], receive, send)
        except Retired:
            link = link.instead()
        else:
            return


async def _relay(
    link: Link,
    beginning: dict[str, Any],
    target: dict[str, Any],
    kind: str,
    receive: Receive,
    send: Send,
) -> None:
    """Do one exchange over one link. Raises Retired where that takes no more of them."""
    if target:
        beginning = beginning | {"scope": beginning["scope"] | target}
    side = side_of(link.channel)
    own = _Exchange(side, link, kind, receive, send)
    side.enter()
    try:
        if link.channel.outbox.queue:
            await side.drain()
        own.open(beginning)
        await own.relay()
    except BaseException as error:
        side.withdraw(own.number)
        if isinstance(error, CallError) and error.plugin is None:
            raise link.caller.named(error) from None
        raise
    finally:
        own.close()
        side.leave()


async def _beginning(size: float, receive: Receive) -> tuple[bytes | None, bool]:
    """Return what is sent along with the head: all of a short body, else nothing of it.

    None where the client has gone before it was complete.
    """
    if size > _SHORT_BODY:
        return b"", True
    pieces: list[bytes] = []
    while True:
        event = await receive()
        if event["type"] != "http.request":
            return None, False
        pieces.append(event.get("body", b""))
        if not event.get("more_body", False):
            return b"".join(pieces), False
        if sum(map(len, pieces)) > size:  # the server should not have let it through
            return b"".join(pieces), True


def _body_size(scope: Scope) -> float:
    """Return how long the body will be, infinite where that is not known, or not to be asked."""
    length: float | None = None
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            length = int(value[:20])
        elif name == b"transfer-encoding" or name == b"expect":  # 100-continue: let it decide
            return float("inf")
    if length is None:
        # Before HTTP/2 there is no body without one of the two (RFC 9112, 6.3).
        return 0 if scope.get("http_version", "1.1").startswith("1") else float("inf")
    return length


class _Exchange(AsyncWaiter):
    """One exchange. What is read of the wire tells it, on any thread; all else is its task's."""

    # Most exchanges come to an end without anything but an answer, and never set most of these.
    number = 0
    _is_started = _is_complete = _trailers = False
    _is_left = False  # by the client, as the plugin has been told
    _is_sized = False  # the response says how long it is
    _is_whole = False  # the plugin has been told all of the request
    _granted = 0
    #: When the application was last sent anything, where there is a limit.
    _moved = 0.0
    #: The number of the plugin's call for more of the request, while it is served.
    _pumped: Id | None = None
    _cancel_pump: Callable[[], object] | None = None
    #: Told when there is credit for what the client sends.
    _credited: Bell | None = None

    def __init__(self, side: Side, link: Link, kind: str, receive: Receive, send: Send) -> None:
        super().__init__(side)
        self._link = link
        self._connection = link.channel.connection
        self._type = kind
        self._receive, self._send = receive, send
        self._chunks: deque[Chunk] = deque()
        self._asked: deque[Request] = deque()  # calls for more of the request

    def open(self, params: dict[str, Any]) -> None:
        """Tell the plugin of the request."""
        self._is_whole = not params["more"]
        if len(params["body"]) < INLINE:
            self.number = self.side.open_stream(HTTP, params, self, WINDOW)
        else:
            self.number = self.side.open_in_full(HTTP, (), params, self, credit=WINDOW)

    def close(self) -> None:
        """Have nothing more to do with it."""
        if self._pumped is None and not self._asked:
            return
        if self._cancel_pump is not None:
            self._cancel_pump()
        for number in (self._pumped, *(request.id for request in self._asked)):
            self._conclude(number)

    # --- the wire tells -------------------------------------------------------------------

    def asked(self, request: Request) -> None:
        """The application wants more of the request."""
        self._asked.append(request)
        self.news()

    def credited(self) -> None:
        """There is credit for what the client sends."""
        with suppress(RuntimeError):  # the loop has been closed
            self.side.loop.soon_from_afar(self._ring_credited)

    def received(self, item: Chunk | Progress) -> None:
        if type(item) is Chunk:
            self._chunks.append(item)
            self.news()

    def has_news(self) -> bool:
        return bool(self.answer is not None or self.is_lost or self._chunks or self._asked)

    def _ring_credited(self) -> None:
        if self._credited is not None:
            ring(self._credited)

    # --- from the plugin to the client ----------------------------------------------------

    async def relay(self) -> None:
        """Pass on what the application sends, until it has done."""
        if (patience := self._link.patience) is not None:
            self._moved = monotonic()
            await self._await_first(patience)
        elif not self.bell.done():
            await self.bell
        while True:
            await self.wait(None)
            while self._chunks:
                chunk = self._chunks.popleft()
                value = self._link.caller.chunk_of(chunk, HTTP, PLAIN)
                await self._pass_on(value)
                self._grant()
            if self._asked:
                self._begin_pump()
            if self.answer is not None:
                await self._finish(self._link.caller.result_of(self.answer, HTTP, PLAIN))
                return
            self._link.channel.check()

    async def _await_first(self, patience: float) -> None:
        """Wait until the application sends anything: for so long after it was last sent anything.

        Raises CallTimeoutError.
        """
        while await self.wait(self._moved + patience) or self._moved + patience > monotonic():
            if self._chunks or self.answer is not None:
                return
            if self._asked:
                self._begin_pump()
            self._link.channel.check()
        plugin = self._link.caller.plugin
        raise CallTimeoutError(
            f"the application of plugin {plugin!r} has not answered within {patience:g} s",
            timeout=patience,
            plugin=plugin,
        )

    def _grant(self) -> None:
        """Take as many more as were passed on, half a window at a time."""
        self._granted += 1
        if self._granted * 2 >= WINDOW and self.answer is None:
            self._link.channel.grant(self.number, self._granted)
            self._granted = 0

    async def _pass_on(self, value: Any) -> None:
        try:
            frame = "websocket.send" if self._type == "websocket" else ""
            event = unpack_event(value, "http.response.body", frame)
        except UnfitEvent as unfit:
            raise self._broke_rules(str(unfit)) from None
        if (sizes := event.pop("sizes", None)) is None:
            await self._send_on(event)
            return
        body = event.pop("body", b"")
        if event["type"] == "http.response.start":
            await self._send_on(event)
        try:
            # Where the length is known nobody can tell the pieces from the whole.
            pieces = [check_body(body)] if self._is_sized else take_apart(body, sizes)
        except UnfitEvent as unfit:
            raise self._broke_rules(str(unfit)) from None
        for piece in pieces:
            await self._send_on({"type": "http.response.body", "body": piece, "more_body": True})

    async def _send_on(self, event: dict[str, Any]) -> None:
        kind = event["type"]
        if kind == "http.response.start":
            self._is_started, self._trailers = True, bool(event.get("trailers"))
            self._is_sized = any(name == b"content-length" for name, _ in event.get("headers", ()))
        elif kind == "http.response.body" and not event.get("more_body"):
            self._is_complete = not self._trailers
        elif kind == "http.response.trailers" and not event.get("more_trailers"):
            self._is_complete = True
        await self._send(event)

    async def _finish(self, result: Any) -> None:
        if self._type == "websocket":
            return
        if not isinstance(result, dict):
            if not self._is_complete and not self._is_left:
                what = "its response" if self._is_started else "a response"
                raise self._broke_rules(f"returned without sending {what} to the end")
            return
        try:
            if (raised := result.get("exception")) is not None:
                raise _http_error(raised)
            if "status" in result:
                start = {
                    "type": "http.response.start",
                    "status": check_status(result["status"]),
                    "headers": check_headers(result.get("headers")),
                }
                self._is_started = True
                await self._send(start)
            body = check_body(result.get("body"))
        except UnfitEvent as unfit:
            raise self._broke_rules(str(unfit)) from None
        self._is_complete = True
        await self._send({"type": "http.response.body", "body": body, "more_body": False})

    def _broke_rules(self, reason: str) -> InvalidResponseEventError:
        plugin = self._link.caller.plugin
        return InvalidResponseEventError(
            f"the application of plugin {plugin!r} {reason}", plugin=plugin
        )

    # --- from the client to the plugin ----------------------------------------------------

    def _begin_pump(self) -> None:
        if self._pumped is not None:  # one at a time
            self._conclude(self._asked.popleft().id)
            return
        self._pumped = self._asked.popleft().id
        self._link.end.receiving[self._pumped] = self
        self._cancel_pump = self.side.loop.spawn(self._pump)

    async def _pump(self) -> None:
        """Pass on what the client sends, as there is credit for it, until the client is gone."""
        number = self._pumped
        assert number is not None  # noqa: S101  # set where this is begun
        try:
            while await self._await_credit(number) and await self._pump_one(number):
                pass
        except Exception:
            log.exception("reading a request for plugin %r failed", self._link.caller.plugin)
        self._conclude(number)

    async def _pump_one(self, number: Id) -> bool:
        """Pass on one event; return False where it was the last."""
        event = dict(await self._receive())
        if self._is_whole and event["type"] == "http.request":
            return True  # which says that there is no body, as the plugin knows
        if event["type"] in ("http.disconnect", "websocket.disconnect"):
            self._is_left = True
            await self._chunk(number, pack_event(event))
            return False
        if len(body := event.get("body", b"")) > LONGEST_PIECE:
            left = memoryview(body)
            while len(left) > LONGEST_PIECE:
                await self._chunk(number, bytes(left[:LONGEST_PIECE]))
                left = left[LONGEST_PIECE:]
            event["body"] = bytes(left)
        await self._chunk(number, pack_event(event))
        return True

    async def _chunk(self, number: Id, packed: Any) -> None:
        if not await self._await_credit(number):
            return
        self._moved = monotonic()
        self._link.channel.outbox.put(self._connection.chunk(number, packed))
        self.side.see_to_it()

    async def _await_credit(self, number: Id) -> bool:
        """Wait until something may be sent; False: nobody wants it any more."""
        connection = self._connection
        while not connection.credit_left(number):
            if number not in connection.serving:
                return False
            self._credited = self.side.new_bell()
            if not connection.credit_left(number):
                await self._credited
        return True

    def _conclude(self, number: Id | None) -> None:
        """Say that nothing more comes."""
        if number is None:
            return
        self._link.end.receiving.pop(number, None)
        if number in self._connection.serving and not self._link.channel.is_lost:
            self._link.channel.post(self._connection.answer(number, None))


def _http_error(raised: Any) -> HttpError:
    match raised:
        case [int(status), str(detail), list() | None as headers] if 100 <= status <= 999:
            pairs = check_headers(headers or [])
            found = {name.decode("latin-1"): value.decode("latin-1") for name, value in pairs}
            return HttpError(detail, status=status, headers=found)
    raise UnfitEvent(f"raised {raised!r:.200}, which is no HTTPException")
