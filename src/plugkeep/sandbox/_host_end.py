"""The host's end of the wire: what a plugin says without being asked, and what it asks for."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from plugkeep.channel import behalf
from plugkeep.channel.failures import failure_of
from plugkeep.channel.workers import run
from plugkeep.errors import PluginBusyError, ReentryLimitError
from plugkeep.sandbox._host_calls import HostCall
from plugkeep.sandbox._log_queue import LogQueue
from plugkeep.sandbox.granting import Grants, Offer, Served, find_method
from plugkeep.wire.http import RECEIVE
from plugkeep.wire.messages import HOST, Code

if TYPE_CHECKING:
    from plugkeep.channel.channel import Channel
    from plugkeep.errors import PluginError, ProtocolViolationError
    from plugkeep.sandbox._loops import Loop
    from plugkeep.wire.events import Log, Notification, Request
    from plugkeep.wire.messages import Id
    from plugkeep.wire.ndjson import Noise


class Exchange(Protocol):
    """A request by HTTP that the plugin answers; told on any thread."""

    def asked(self, request: Request) -> None:
        """The plugin wants more of what the client sends."""
        ...

    def credited(self) -> None:
        """It takes more of that."""
        ...


#: So many calls of one plugin are served at once; others wait for their turn.
AT_ONCE: Final = 64
#: So many may wait; what is more is refused.
WAITING: Final = 10_000
#: So many calls may be inside one another, host's and plugin's counted together.
DEPTH: Final = 64


class HostEnd:
    """What a channel tells the host about a plugin."""

    def __init__(
        self,
        plugin: str,
        grants: Grants | None,
        lost: Callable[[ProtocolViolationError | None], object],
        recent: deque[str] | None = None,
    ) -> None:
        self.channel: Channel
        self.is_serving = False
        self._grants = grants
        self._lost = lost
        self._logs = LogQueue(plugin, recent)
        self._offers: dict[str, tuple[object, Offer]] = {}
        self._calls: dict[Id, HostCall] = {}
        self._waiting: deque[HostCall] = deque()
        #: By the plugin's calls for more of what a client sends: whose they are.
        self.receiving: dict[Id, Exchange] = {}
        self._at_work = 0  # on calls that had to wait for their turn, or would have had to
        self._lock = threading.Lock()

    @property
    def granted(self) -> list[str]:
        """The names of what the plugin may call."""
        return list(self._grants.names()) if self._grants is not None else []

    @property
    def loop(self) -> Loop | None:
        """Where asynchronous methods run."""
        return None if self._grants is None else self._grants.loop

    def find(self, name: str, *, stream: bool) -> Served:
        """Return the method that the plugin calls so. Raises NotGrantedError and others."""
        return find_method(self._grants, name, self._offers, stream=stream)

    def cancel_all(self) -> None:
        """Let the methods that the plugin has called give up."""
        for call in list(self._calls.values()):
            call.cancel()

    def abandoned(self, number: Id) -> None:
        """Let those give up that were called on behalf of a call which nobody waits for."""
        for call in [each for each in self._calls.values() if each.within == number]:
            call.cancel()

    def close(self) -> None:
        """Deliver what is to be logged; there will be no more."""
        self.cancel_all()
        self._logs.deliver()

    # --- the plugin calls -----------------------------------------------------------------

    def requested(self, request: Request) -> None:
        """See `Peer`."""
        if request.method == RECEIVE and (exchange := self._exchange(request)) is not None:
            exchange.asked(request)
            return
        if not request.method.startswith(HOST):
            text = f"the host has no method {request.method!r:.200}"
            self.channel.post(
                self.channel.connection.refuse(request.id, Code.METHOD_NOT_FOUND, text)
            )
            return
        outer = self._outer(request)
        behind = behalf.behind(self.channel.connection, request.within)
        call = HostCall(self, request, outer.depth + 1 if outer else 1, (*behind, self.channel))
        if call.depth > DEPTH:
            self._refuse(call, ReentryLimitError(f"host and plugin are {DEPTH} calls deep"))
            return
        with self._lock:
            # One that a call which we serve waits for must not wait for that to end.
            at_once = outer is not None or self._at_work < AT_ONCE
            accepted = at_once or len(self._waiting) < WAITING
            if accepted:
                self._calls[call.id] = call
                self.is_serving = True
            if not at_once and accepted:
                self._waiting.append(call)
            elif outer is None and accepted:
                self._at_work += 1
        if not accepted:
            self._refuse(call, PluginBusyError(f"{WAITING} calls of the host are waiting already"))
        elif at_once:
            run(self._serve_nested if outer else self._serve_and_go_on, call)

    def cancelled(self, number: Id) -> None:
        """See `Peer`."""
        call = self._calls.get(number)
        if call is None:
            return  # of what a client sends: that ends with its exchange
        call.cancel()
        with self._lock:
            try:
                self._waiting.remove(call)
            except ValueError:
                return  # whoever serves it answers
        run(self._serve_nested, call)

    def credited(self, number: Id) -> None:
        """See `Peer`."""
        if (call := self._calls.get(number) or self.receiving.get(number)) is not None:
            call.credited()

    def _exchange(self, request: Request) -> Exchange | None:
        """Return the exchange by HTTP that the plugin wants to receive more of."""
        waiter = self.channel.connection.calls.get(request.within)  # type: ignore[arg-type]
        return waiter if hasattr(waiter, "asked") else None

    def _outer(self, request: Request) -> HostCall | None:
        """Return the call that we serve, on whose behalf the call was made that this is within."""
        waiter = self.channel.connection.calls.get(request.within)  # type: ignore[arg-type]
        return self._calls.get(getattr(waiter, "within", None))  # type: ignore[arg-type]

    def _serve_and_go_on(self, call: HostCall | None) -> None:
        while call is not None:
            self._serve_nested(call)
            with self._lock:
                call = self._waiting.popleft() if self._waiting else None
                if call is None:
                    self._at_work -= 1

    def _serve_nested(self, call: HostCall) -> None:
        try:
            call.serve()
        finally:
            with self._lock:
                self._calls.pop(call.id, None)
                self.is_serving = bool(self._calls)

    def _refuse(self, call: HostCall, error: PluginError) -> None:
        self.channel.post(self.channel.connection.refuse(call.id, *failure_of(error)))

    # --- the plugin says ------------------------------------------------------------------

    def logged(self, log: Log) -> None:
        """See `Peer`."""
        self._logs.put_record(log)

    def printed(self, noise: Noise) -> None:
        """See `Peer`."""
        self._logs.put_line(noise)

    def dropped(self, reason: str) -> None:
        """See `Peer`."""
        self._logs.put_note(reason)

    def noticed(self, notification: Notification) -> None:
        """See `Peer`. Whoever is newer than we are may say more than we know."""

    def stop(self) -> None:
        """See `Peer`. That is for the host to say."""

    def lost(self, error: ProtocolViolationError | None) -> None:
        """See `Peer`."""
        self.cancel_all()
        self._lost(error)
