"""An ASGI application as a WSGI one: a2wsgi, with a loop that ends and requests that can."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Self, cast

from a2wsgi import ASGIMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

log = logging.getLogger("plugkeep.web")


class WsgiApp:
    """Serves an ASGI application to WSGI servers; see `plugkeep.web.wsgi`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        # Reentrant: the collector may end a forgotten answer while this very thread holds it.
        self._lock = threading.RLock()
        self._exchanges: set[_Exchange] = set()
        self._loop: _LoopThread | None = None
        self._closed = False

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        refusal = _unreadable(environ)
        if refusal:
            return _refuse(refusal, start_response)
        return self._answer(environ, start_response)

    def close(self, timeout: float = 5.0) -> None:
        """Cancel the requests under way and end the event loop and its thread.

        Requests from now on get 503. A plain handler cannot be cancelled: its thread ends when it
        returns, only its client is told now. Waits `timeout` seconds at most; what takes longer,
        such as a server that does not come back for its answer, ends the loop when it is through.
        Calling it again is harmless.
        """
        with self._lock:
            self._closed = True
            for exchange in [*self._exchanges]:
                exchange.cancel()
            self._end_when_idle()
        if self._loop is not None and not self._loop.join(timeout):
            log.warning(
                "requests have not ended %g s after close: %d", timeout, len(self._exchanges)
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _answer(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        # A generator: its end, however it comes about, is where the request ends.
        exchange = _Exchange(self._app)
        loop = self._admit(exchange)
        if loop is None:
            yield from _refuse("503 Service Unavailable", start_response)
            return
        try:
            bridge: Any = ASGIMiddleware(cast("Any", exchange.run), loop=loop)
            yield from bridge(environ, start_response)
            exchange.check_answered()  # a2wsgi may pass over an error that comes just then
        finally:
            self._dismiss(exchange)

    def _admit(self, exchange: _Exchange) -> asyncio.AbstractEventLoop | None:
        with self._lock:
            if self._closed:
                return None
            self._exchanges.add(exchange)
            # Not before the first request: servers fork after importing, and threads do not.
            self._loop = self._loop or _LoopThread()
            return self._loop.loop

    def _dismiss(self, exchange: _Exchange) -> None:
        exchange.abandon()
        with self._lock:
            self._exchanges.remove(exchange)
            self._end_when_idle()

    def _end_when_idle(self) -> None:
        if self._closed and not self._exchanges and self._loop is not None:
            self._loop.end()


class _Exchange:
    """One request on its way through the loop."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._task: asyncio.Task[Any] | None = None
        self._answered = self._cancelled = self._abandoned = False

    async def run(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._task = asyncio.current_task()
        try:
            if self._cancelled:
                raise asyncio.CancelledError  # noqa: TRY301  (before there was a task to cancel)
            await self._app(scope, _until_the_end(receive), self._noting(send))
        except asyncio.CancelledError:
            if self._abandoned:
                raise
        self.check_answered()  # or a2wsgi would have the server wait for the rest for ever

    def check_answered(self) -> None:
        """Raise ConnectionAbortedError unless the request has been answered to its end."""
        if not self._answered:
            raise ConnectionAbortedError("the request has not been answered to its end")

    def _noting(self, send: Send) -> Send:
        async def note_the_end(message: Message) -> None:
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                self._answered = True

        return note_the_end

    def cancel(self) -> None:
        """Have the request end with an error, wherever it is."""
        self._cancelled = True
        if self._task is not None and not self._task.done():
            self._task.get_loop().call_soon_threadsafe(self._task.cancel)

    def abandon(self) -> None:
        """End the request: nobody reads the answer any more."""
        self._abandoned = True
        self.cancel()


def _until_the_end(receive: Receive) -> Receive:
    """Return a `receive` that ends where the client has gone before its announced body did.

    a2wsgi would go on for ever, handing out nothing.
    """

    async def receive_or_end() -> Message:
        message = await receive()
        gone = message["type"] == "http.request" and message["more_body"] and not message["body"]
        return {"type": "http.disconnect"} if gone else message

    return receive_or_end


class _LoopThread:
    """A daemon thread with an event loop."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self.loop = self._runner.get_loop()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="plugkeep-wsgi", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Have loop and thread end; calling it again is harmless."""
        if not self._ended:
            self._ended = True
            self.loop.call_soon_threadsafe(self.loop.stop)

    def join(self, timeout: float) -> bool:
        """Wait `timeout` seconds for the end; say whether it has come."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        # Not Runner.run(): AnyIO keeps its worker threads, which are no daemons, until the task
        # at the root has ended. Here that is the request, there it would be one that never ends
        # unless somebody closes, and the interpreter would wait for them when it exits.
        with self._runner:
            self.loop.run_forever()


def _unreadable(environ: WSGIEnvironment) -> str:
    """Return the status for a request that cannot be put into a scope; "" for any other."""
    try:
        for key in ("SCRIPT_NAME", "PATH_INFO"):
            environ.get(key, "").encode("latin-1").decode()
        environ.get("QUERY_STRING", "").encode("ascii")
        length = int(environ.get("CONTENT_LENGTH") or 0)
    except ValueError:
        return "400 Bad Request"
    if length < 0:
        return "400 Bad Request"
    # a2wsgi reads as much as is announced: a body in chunks would be lost without a word.
    chunked = "HTTP_TRANSFER_ENCODING" in environ and not environ.get("CONTENT_LENGTH")
    return "411 Length Required" if chunked else ""


def _refuse(status: str, start_response: StartResponse) -> list[bytes]:
    body = status.partition(" ")[2].encode()
    headers = [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))]
    start_response(status, headers)
    return [body]
