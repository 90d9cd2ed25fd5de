"""The host's end of the wire: what a plugin says without being asked."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from plugkeep.errors import ProtocolViolationError
from plugkeep.sandbox._output import log_safely
from plugkeep.wire.messages import Code

if TYPE_CHECKING:
    from plugkeep.channel.channel import Channel
    from plugkeep.wire.events import Log, Notification, Noise, Request
    from plugkeep.wire.messages import Id


class HostEnd:
    """What a channel tells the host about a plugin."""

    is_serving = False

    def __init__(
        self, plugin: str, when_lost: Callable[[ProtocolViolationError | None], object]
    ) -> None:
        self.plugin = plugin
        self.channel: Channel
        self.lost = when_lost
        self._logger = logging.getLogger(f"plugkeep.plugin.{plugin}")

    def requested(self, request: Request) -> None:
        refusal = self.channel.connection.refuse(
            request.id, Code.METHOD_NOT_FOUND, f"the host has no method {request.method!r:.200}"
        )
        self.channel.post(refusal)

    def cancelled(self, number: Id) -> None:
        pass

    def credited(self, number: Id) -> None:
        pass

    def logged(self, log: Log) -> None:
        level = logging.getLevelNamesMapping()[log.level.upper()]
        log_safely(self._logger, level, log.message, plugin=self.plugin, stream="log")

    def noticed(self, notification: Notification) -> None:
        pass

    def printed(self, noise: Noise) -> None:
        log_safely(self._logger, logging.INFO, noise.line, plugin=self.plugin, stream="stdout")

    def dropped(self, reason: str) -> None:
        log_safely(self._logger, logging.DEBUG, reason, plugin=self.plugin, stream=None)

    def stop(self) -> None:
        pass
