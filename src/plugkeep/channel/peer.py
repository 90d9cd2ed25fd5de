"""What a channel tells about the other end."""

from __future__ import annotations

from typing import Protocol

from plugkeep.errors import ProtocolViolationError
from plugkeep.wire.events import Log, Notification, Request
from plugkeep.wire.messages import Id
from plugkeep.wire.ndjson import Noise


class Peer(Protocol):
    """What a channel tells about the other end. Called while the channel is being read, so none
    of it may wait.
    """

    #: Whether calls of the other end's are being served on threads that may call back.
    is_serving: bool

    def requested(self, request: Request) -> None: ...
    def cancelled(self, number: Id) -> None: ...
    def credited(self, number: Id) -> None: ...
    def logged(self, log: Log) -> None: ...
    def noticed(self, notification: Notification) -> None: ...
    def printed(self, noise: Noise) -> None: ...
    def dropped(self, reason: str) -> None: ...
    def stop(self) -> None: ...

    def lost(self, error: ProtocolViolationError | None) -> None:
        """The other end has gone, or has broken a rule: `error`. The channel is of no use now."""
        ...
