"""What connects the host with a plugin that speaks level 1 or 2 of the wire."""

from __future__ import annotations

import math
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakKeyDictionary

from msgspec import UNSET

from plugkeep.channel import behalf
from plugkeep.channel.calling import PLAIN, Caller
from plugkeep.channel.channel import Channel, serving
from plugkeep.errors import (
    ConfigError,
    InvalidReadyError,
    ProtocolViolationError,
    RemoteError,
)
from plugkeep.health import reason_of, reason_of_error
from plugkeep.sandbox._host_end import HostEnd
from plugkeep.sandbox._life import STOP_MESSAGE
from plugkeep.wire.connection import Connection
from plugkeep.wire.events import Answer
from plugkeep.wire.frames import Frames
from plugkeep.wire.http import Offer, UnfitEvent, read_offer
from plugkeep.wire.messages import HEALTH, PING, START, STOP, Code
from plugkeep.wire.ndjson import Ndjson, Noise

if TYPE_CHECKING:
    from collections import deque

    from plugkeep.channel.announcement import Announcement
    from plugkeep.channel.ends import Ends
    from plugkeep.channel.io_thread import IoThread
    from plugkeep.channel.proxies import Proxy
    from plugkeep.errors import PluginError
    from plugkeep.sandbox.granting import Grants
    from plugkeep.wire.messages import Id

#: What our own runner raises where the plugin's configuration is not what the plugin asks for.
_MISCONFIGURED = f"{ConfigError.__module__}.{ConfigError.__qualname__}"


#: Seconds between two looks at whether calls are under way, at first and in the end.
_FIRST_LOOK, _LOOKS = 0.0005, 0.01
#: In the place of a result: the plugin has no such method.
_UNKNOWN = object()


class Fate(Protocol):
    """Knows of the process at the other end."""

    def lost(self, error: ProtocolViolationError | None) -> None: ...
    def explain(self) -> PluginError: ...


class _HostChannel(Channel):
    """Notes of each call on whose behalf it is made, for calls that come back within it."""

    end: HostEnd

    def open(
        self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any], waiter: Any, **how: Any
    ) -> int:
        """See `Channel.open`."""
        if serving.get() is not None:
            self._note(waiter)
        return super().open(method, args, kwargs, waiter, **how)

    def _note(self, waiter: Any) -> None:
        behalf.note(waiter)
        if (within := self.within()) is not UNSET:
            with suppress(AttributeError):
                waiter.within = within

    def _abandon(self, number: Id) -> None:
        super()._abandon(number)
        self.end.abandoned(number)


def _codec(announcement: Announcement) -> Frames | Ndjson:
    if announcement.level != 2:
        return Ndjson()
    codec = Frames(announcement.codec)
    codec.takes_batches = codec.sends_batches = announcement.batch
    return codec


class Link:
    """A channel to a plugin, from its ready message to the end of its process."""

    def __init__(
        self,
        plugin: str,
        announcement: Announcement,
        ends: Ends,
        fate: Fate,
        *,
        grants: Grants | None,
        thread: IoThread,
        exit_fd: int,
        received: bytes,
        recent: deque[str] | None = None,
    ) -> None:
        self.announcement = announcement
        #: Seconds that a request by HTTP may take to be answered; None: no limit.
        self.patience: float | None = None
        #: What the plugin offers by HTTP, once it has started.
        self.offer = Offer()
        #: Of each protocol that was asked for, the class of the proxies; None: it does not fit.
        self.proxies: WeakKeyDictionary[Any, type[Proxy] | None] = WeakKeyDictionary()
        codec = _codec(announcement)
        self.end = HostEnd(plugin, grants, fate.lost, recent)
        self.channel = self.end.channel = channel = _HostChannel(
            Connection(codec),
            ends,
            self.end,
            fate.explain,
            thread=thread,
            exit_fd=exit_fd,
            received=received,
        )
        channel.end = self.end
        self.caller = Caller(self.channel, plugin, lambda: announcement.methods or ())
        #: Whether the plugin can be asked for more than whether it lives.
        self._says_how = True
        #: What is used instead, once this takes no more calls; None: nothing.
        self.successor: Link | None = None
        self.channel.settle()

    def start(self, config: Any, deadline: float) -> PluginError | None:
        """Have the plugin do its own start; return what it raised, if anything.

        What it offers by HTTP is in `offer` then.

        Raises CallTimeoutError, UnsendableValueError where the config cannot travel, and what the
        channel does where the plugin has gone.
        """
        result, error = self._ask(START, {"config": config, "host": self.end.granted}, deadline)
        if isinstance(error, RemoteError) and error.type == _MISCONFIGURED:
            text = f"plugin {self.caller.plugin!r}: {error.remote_message}"
            return ConfigError(text, plugin=self.caller.plugin)
        if error is None and isinstance(result, dict):
            return self._take_offer(result)
        return error

    def _take_offer(self, result: dict[str, Any]) -> PluginError | None:
        plugin = self.caller.plugin
        try:
            self.offer = read_offer(result)
            if self.offer != Offer() and self.announcement.codec != "msgpack":
                raise UnfitEvent("offers something by HTTP, which takes level 2 and msgpack")  # noqa: TRY301
        except UnfitEvent as unfit:
            return InvalidReadyError(f"plugin {plugin!r} {unfit}", plugin=plugin)
        return None

    def stop(self, deadline: float) -> PluginError | None:
        """Have the plugin do its own stop; return what it raised, if anything.

        Raises CallTimeoutError, and what the channel does where the plugin has gone.
        """
        self.end.cancel_all()  # the plugin may be waiting for their answers
        result, error = self._ask(STOP, {}, deadline)
        if result is _UNKNOWN and self.announcement.level == 1:
            self.channel.post((STOP_MESSAGE, ()))
        return error

    def health(self, timeout: float | None) -> str | None:
        """Return why the plugin is degraded; None: it is well, or can only say that it lives.

        Raises CallTimeoutError, and what the channel does where the plugin has gone.
        """
        if not self._says_how:
            self.channel.call(PING, (), {}, timeout)
            return None
        answer = self.channel.call(HEALTH, (), {}, timeout)
        error = answer.error if isinstance(answer, Answer) else None
        if error is None:
            return reason_of(answer.result)
        if error.code == Code.METHOD_NOT_FOUND:
            self._says_how = False  # and need not be asked again
            return None
        return reason_of_error(self.caller.error_of(error, HEALTH, PLAIN))

    def retire(self, successor: Link | None = None) -> None:
        """Take no more calls; those under way go on. `successor` takes them."""
        self.successor = successor
        self.caller.successor = None if successor is None else successor.caller
        self.channel.retire()

    def take_again(self) -> None:
        """Take calls as before."""
        self.channel.is_retired = False

    def instead(self) -> Link:
        """Return what is used now that this takes no more calls. Raises NotStartedError."""
        self.caller.instead()
        assert self.successor is not None  # noqa: S101  # see there
        return self.successor

    def drain(self, seconds: float) -> bool:
        """Wait so long for the calls that are under way; say whether none is left.

        To be told of the end of each would cost each call; so it is looked, less and less often.
        """
        deadline, pause = time.monotonic() + seconds, _FIRST_LOOK
        while not (self.channel.is_idle or self.channel.is_lost):
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(pause, left))
            pause = min(pause * 2, _LOOKS)
        return True

    def settle(self) -> None:
        """Deal with what is left of a process that has ended, to its last line."""
        self.channel.settle()
        if self.channel.is_lost:
            self._log_rest()

    def close(self) -> None:
        """Let nothing of it remain; the process has ended."""
        self.channel.settle()
        self.channel.close()
        self._log_rest()
        self.end.close()

    def _log_rest(self) -> None:
        """Log what has come without a newline; nobody reads any more."""
        codec = self.channel.connection.codec
        if not isinstance(codec, Ndjson):
            return
        with suppress(ProtocolViolationError):  # too long a line, which has been told already
            for item in codec.rest():
                if isinstance(item, Noise):
                    self.end.printed(item)
                else:
                    self.end.dropped("a message that ends without a newline")

    def _ask(
        self, method: str, params: dict[str, Any], deadline: float
    ) -> tuple[Any, PluginError | None]:
        """Return the result, `_UNKNOWN` where there is no such method, and what it raised."""
        left = None if deadline == math.inf else max(deadline - time.monotonic(), 0.0)
        answer = self.channel.call(method, (), params, left)
        error = answer.error if isinstance(answer, Answer) else None
        if error is None:
            return answer.result, None
        if error.code == Code.METHOD_NOT_FOUND:
            return _UNKNOWN, None
        return None, self.caller.error_of(error, method.removeprefix("$/"), PLAIN)
