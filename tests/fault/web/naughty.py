"""Web applications that break the rules of ASGI, or stop half-way. Runs in sandboxes."""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any

Event = dict[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
Handler = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]

PIECE = bytes(64 * 1024)
#: 64 MiB, where nobody is waited for.
PIECES = 1024
#: Seconds of waiting from which on somebody is waited for.
STALLED = 0.25

START: Event = {"type": "http.response.start", "status": 200, "headers": []}
handlers: dict[str, Handler] = {}
#: What has happened, for `happenings`: to requests with the same query as the one that asks.
events: defaultdict[bytes, list[str]] = defaultdict(list)
news: defaultdict[bytes, asyncio.Event] = defaultdict(asyncio.Event)
released = asyncio.Event()
arrivals = asyncio.Semaphore(0)


def handler(function: Handler) -> Handler:
    handlers[function.__name__] = function
    return function


def happened(scope: Any, what: str) -> None:
    events[scope["query_string"]].append(what)
    news[scope["query_string"]].set()


async def answer(send: Send, body: bytes) -> None:
    await send({**START, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


@handler
async def hello(scope: Any, receive: Receive, send: Send) -> None:
    await answer(send, b"hello")


@handler
async def process(scope: Any, receive: Receive, send: Send) -> None:
    await answer(send, b"%d" % os.getpid())


@handler
async def happenings(scope: Any, receive: Receive, send: Send) -> None:
    """Answer with what has happened, once that is anything."""
    key = scope["query_string"]
    await news[key].wait()
    news[key].clear()
    await answer(send, "; ".join(events.pop(key)).encode())


# --- what comes in --------------------------------------------------------------------------------


@handler
async def count(scope: Any, receive: Receive, send: Send) -> None:
    """Count the bytes of the body."""
    size, more = 0, True
    while more:
        event = await receive()
        if event["type"] == "http.disconnect":
            happened(scope, f"disconnected after {size}")
            return
        size += len(event.get("body", b""))
        more = event.get("more_body", False)
    await answer(send, b"%d" % size)


@handler
async def headers(scope: Any, receive: Receive, send: Send) -> None:
    """Count the headers."""
    await answer(send, b"%d" % len(scope["headers"]))


@handler
async def release(scope: Any, receive: Receive, send: Send) -> None:
    released.set()
    await answer(send, b"")


@handler
async def late(scope: Any, receive: Receive, send: Send) -> None:
    """Read the body once somebody has said so."""
    await released.wait()
    released.clear()
    await count(scope, receive, send)


@handler
async def greedy(scope: Any, receive: Receive, send: Send) -> None:
    """Receive more often than there is anything."""
    kinds = [(await receive())["type"]]
    await answer(send, b"hello")
    kinds += [(await receive())["type"], (await receive())["type"]]
    happened(scope, " ".join(kinds))


@handler
async def twofold(scope: Any, receive: Receive, send: Send) -> None:
    """Receive in two tasks at once."""
    tasks = [asyncio.create_task(receive()) for _ in range(2)]
    _, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    await answer(send, b"hello")
    for task in pending:
        task.cancel()


# --- what goes out --------------------------------------------------------------------------------


async def noting(scope: Any, what: str, awaitable: Awaitable[None]) -> None:
    """Say so where something takes long."""
    task = asyncio.ensure_future(awaitable)
    await asyncio.wait({task}, timeout=STALLED)
    if not task.done():
        happened(scope, f"stalled after {what}")
    await task


@handler
async def download(scope: Any, receive: Receive, send: Send) -> None:
    """Send a large body, and say where it got stuck."""
    await send(START)
    for n in range(PIECES):
        body = {"type": "http.response.body", "body": PIECE, "more_body": True}
        await noting(scope, str(n), send(body))
    await send({"type": "http.response.body"})
    happened(scope, "all sent")


@handler
async def endless(scope: Any, receive: Receive, send: Send) -> None:
    """Send until the client has gone."""
    gone = asyncio.create_task(receive_until_gone(receive))
    await send(START)
    try:
        while not gone.done():
            await send({"type": "http.response.body", "body": b"x" * 1000, "more_body": True})
            await asyncio.sleep(0)
    finally:
        happened(scope, "gone" if gone.done() else "cancelled")
    # It has nothing to say any more, but says it.
    await send({"type": "http.response.body", "body": b"still there?", "more_body": True})
    await send({"type": "http.response.body"})
    happened(scope, "done")


@handler
async def stubborn(scope: Any, receive: Receive, send: Send) -> None:
    """Send what no server takes, and then go on as if nothing had happened."""
    try:
        await send(START)
        await send({"type": "websocket.send", "text": "x"})
        for _ in range(PIECES):
            await send({"type": "http.response.body", "body": PIECE, "more_body": True})
        await send({"type": "http.response.body"})
    finally:
        happened(scope, "ended")


async def receive_until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


@handler
async def waiting(scope: Any, receive: Receive, send: Send) -> None:
    """Answer nothing, until released."""
    arrivals.release()
    await released.wait()
    await answer(send, b"released")


@handler
async def begun(scope: Any, receive: Receive, send: Send) -> None:
    """Begin to answer, and go no further until released."""
    await send(START)
    await send({"type": "http.response.body", "body": b"begun", "more_body": True})
    await released.wait()
    await send({"type": "http.response.body", "body": b"done"})


@handler
async def crowd(scope: Any, receive: Receive, send: Send) -> None:
    """Answer once as many more as the query says wait."""
    for _ in range(int(scope["query_string"])):
        await arrivals.acquire()
    await answer(send, scope["query_string"])


@handler
async def dies(scope: Any, receive: Receive, send: Send) -> None:
    os._exit(3)


# --- breaking the rules ---------------------------------------------------------------------------


@handler
async def never(scope: Any, receive: Receive, send: Send) -> None:
    """Return without an answer."""


@handler
async def half(scope: Any, receive: Receive, send: Send) -> None:
    await send(START)
    await send({"type": "http.response.body", "body": b"half", "more_body": True})


@handler
async def headless(scope: Any, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.body", "body": b"no head"})


@handler
async def only_head(scope: Any, receive: Receive, send: Send) -> None:
    await send(START)


@handler
async def two_heads(scope: Any, receive: Receive, send: Send) -> None:
    await send(START)
    await send(START)


@handler
async def two_answers(scope: Any, receive: Receive, send: Send) -> None:
    await answer(send, b"first")
    await answer(send, b"second")


@handler
async def too_short(scope: Any, receive: Receive, send: Send) -> None:
    await send({**START, "headers": [(b"content-length", b"10")]})
    await send({"type": "http.response.body", "body": b"short"})


@handler
async def too_long(scope: Any, receive: Receive, send: Send) -> None:
    await send({**START, "headers": [(b"content-length", b"3")]})
    await send({"type": "http.response.body", "body": b"far too long"})


@handler
async def raises_before(scope: Any, receive: Receive, send: Send) -> None:
    raise RuntimeError("before")


@handler
async def raises_during(scope: Any, receive: Receive, send: Send) -> None:
    await send(START)
    await send({"type": "http.response.body", "body": b"half", "more_body": True})
    raise RuntimeError("during")


@handler
async def raises_after_head(scope: Any, receive: Receive, send: Send) -> None:
    await send(START)
    raise RuntimeError("after the head")


@handler
async def raises_after(scope: Any, receive: Receive, send: Send) -> None:
    await answer(send, b"hello")
    raise RuntimeError("after")


@handler
async def raises_odd(scope: Any, receive: Receive, send: Send) -> None:
    """Raise what is no Exception."""
    kind = scope["query_string"].decode()
    raise {"exit": SystemExit(3), "cancel": asyncio.CancelledError()}[kind]


@handler
async def raises_unsendable(scope: Any, receive: Receive, send: Send) -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            raise RuntimeError("not even this")

    raise Odd


#: Heads that are none, by name.
HEADS: dict[str, Event] = {
    "status-text": {"status": "200"},
    "status-none": {"status": None},
    "status-low": {"status": 99},
    "status-high": {"status": 1000},
    "status-negative": {"status": -1},
    "header-text": {"headers": [("x-a", "b")]},
    "header-numbers": {"headers": [(b"x-a", 1)]},
    "header-none": {"headers": [None]},
    "header-three": {"headers": [(b"x-a", b"b", b"c")]},
    "header-map": {"headers": {"x-a": "b"}},
    "header-no-list": {"headers": 5},
    "header-line": {"headers": [(b"x-a", b"b\r\nx-evil: 1")]},
    "header-name-line": {"headers": [(b"x-a: b\nx-evil", b"1")]},
    "header-null": {"headers": [(b"x-a", b"\0")]},
    "header-space": {"headers": [(b"x a", b"b")]},
    "header-colon": {"headers": [(b"x-a:", b"b")]},
    "header-empty": {"headers": [(b"", b"b")]},
    "header-large": {"headers": [(b"x-a", b"b" * 70_000)]},
}


@handler
async def head(scope: Any, receive: Receive, send: Send) -> None:
    """Send the head that the query names, at once with a body or ahead of it."""
    name, _, how = scope["query_string"].decode().partition("&")
    await send({**START, **HEADS[name]})
    if how == "ahead":
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
    await send({"type": "http.response.body", "body": b"b"})


EVENTS: dict[str, Any] = {
    "none": None,
    "text": "http.response.body",
    "untyped": {"body": b"x"},
    "type-number": {"type": 5},
    "type-unknown": {"type": "http.nonsense"},
    "type-websocket": {"type": "websocket.send", "text": "x"},
    "body-text": {"type": "http.response.body", "body": "text", "more_body": True},
    "body-number": {"type": "http.response.body", "body": 5, "more_body": True},
    "body-last-text": {"type": "http.response.body", "body": "text"},
    "body-unsendable": {"type": "http.response.body", "body": object()},
}


@handler
async def event(scope: Any, receive: Receive, send: Send) -> None:
    """Send the event that the query names, in the middle of a response."""
    await send(START)
    await send({"type": "http.response.body", "body": b"begun", "more_body": True})
    await send(EVENTS[scope["query_string"].decode()])
    await send({"type": "http.response.body", "body": b"", "more_body": False})


@handler
async def many_headers(scope: Any, receive: Receive, send: Send) -> None:
    found = [(b"x-%d" % n, b"%d" % n) for n in range(1000)]
    await send({**START, "headers": [*found, (b"content-length", b"0")]})
    await send({"type": "http.response.body"})


@handler
async def octets(scope: Any, receive: Receive, send: Send) -> None:
    """Send a body as what is no bytes, and yet is as good."""
    kind = {b"bytearray": bytearray, b"memoryview": memoryview}[scope["query_string"]]
    await send({**START, "headers": []})
    await send({"type": "http.response.body", "body": kind(b"one,"), "more_body": True})
    await send({"type": "http.response.body", "body": kind(b"two")})


# --- WebSockets -----------------------------------------------------------------------------------


@handler
async def echo(scope: Any, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        await send({**event, "type": "websocket.send"})
    happened(scope, f"closed {event['code']}")


@handler
async def flood(scope: Any, receive: Receive, send: Send) -> None:
    """Send many messages, and say where it got stuck."""
    await receive()
    await send({"type": "websocket.accept"})
    for n in range(PIECES):
        await noting(scope, str(n), send({"type": "websocket.send", "bytes": PIECE}))
    happened(scope, "all sent")
    await send({"type": "websocket.close"})


@handler
async def deaf(scope: Any, receive: Receive, send: Send) -> None:
    """Accept, and listen once released."""
    await receive()
    await send({"type": "websocket.accept"})
    await released.wait()
    released.clear()
    size = 0
    while (event := await receive())["type"] == "websocket.receive":
        size += len(event["bytes"])
    happened(scope, f"received {size}")


#: What is not to be sent before a WebSocket is accepted, and after.
FRAMES: dict[str, list[Any]] = {
    "send-first": [{"type": "websocket.send", "text": "too soon"}],
    "accept-twice": [{"type": "websocket.accept"}] * 2,
    "http": [{"type": "websocket.accept"}, START],
    "http-first": [START],
    "nothing-in-it": [{"type": "websocket.accept"}, {"type": "websocket.send"}],
    "wrong-types": [
        {"type": "websocket.accept"},
        {"type": "websocket.send", "text": b"octets", "bytes": None},
    ],
    "number": [{"type": "websocket.accept"}, {"type": "websocket.send", "bytes": 5}],
    "headers": [{"type": "websocket.accept", "headers": [(b"x-a", b"b\r\nx-evil: 1")]}],
    "close-code": [{"type": "websocket.accept"}, {"type": "websocket.close", "code": "x"}],
    "close-twice": [{"type": "websocket.accept"}, *[{"type": "websocket.close"}] * 2],
    "none": [{"type": "websocket.accept"}, None],
}


@handler
async def frames(scope: Any, receive: Receive, send: Send) -> None:
    """Send what the query names."""
    await receive()
    for each in FRAMES[scope["query_string"].decode()]:
        await send(each)
    await receive()


@handler
async def unanswered(scope: Any, receive: Receive, send: Send) -> None:
    """Neither accept a WebSocket nor refuse it."""


# --- plugins --------------------------------------------------------------------------------------


async def application(scope: Any, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        raise RuntimeError("it has none")
    below = scope["path"].removeprefix(scope["root_path"])
    await handlers[below.strip("/")](scope, receive, send)


class Naughty:
    name = "naughty"
    application = staticmethod(application)

    def start(self) -> None: ...
    def stop(self) -> None: ...


class Live:
    """A plugin whose application's lifespan goes as its config says."""

    name = "live"
    config: dict[str, str]

    def start(self) -> None: ...

    def stop(self) -> None:
        print("the plugin was stopped", flush=True)

    async def application(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await answer(send, b"alive")
            return
        for step in ("startup", "shutdown"):
            await receive()
            match self.config.get(step):
                case "fail":
                    message = {"message": f"the {step} is not to be"}
                    await send({"type": f"lifespan.{step}.failed", **message})
                    return
                case "fail without a word":
                    await send({"type": f"lifespan.{step}.failed"})
                case "raise":
                    raise RuntimeError(f"in the {step}")
                case "return":
                    return
                case "hang":
                    await asyncio.Event().wait()
                case _:
                    await send({"type": f"lifespan.{step}.complete"})
