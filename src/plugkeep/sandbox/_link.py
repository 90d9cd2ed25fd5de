"""What connects the host with a plugin that speaks level 1 or 2 of the wire."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from plugkeep.channel.channel import Channel
from plugkeep.errors import PluginError
from plugkeep.sandbox._host_end import HostEnd
from plugkeep.wire.connection import Answer, Connection
from plugkeep.wire.frames import Frames
from plugkeep.wire.messages import START, STOP, Code, ErrorObject
from plugkeep.wire.ndjson import Ndjson

if TYPE_CHECKING:
    from plugkeep.channel.ends import Ends
    from plugkeep.channel.io_thread import IoThread
    from plugkeep.sandbox._announcement import Announcement

class Link:
    """A channel to a plugin, from its ready message to the end of its process."""

    def __init__(
        self,
        announcement: Announcement,
        ends: Ends,
        end: HostEnd,
        explain: Callable[[], PluginError],
        *,
        thread: IoThread,
        exit_fd: int,
        received: bytes,
    ) -> None:
        self.announcement = announcement
        self.end = end
        codec = Frames(announcement.codec) if announcement.level == 2 else Ndjson()
        self.channel = end.channel = Channel(
            Connection(codec),
            ends,
            end,
            explain,
            thread=thread,
            exit_fd=exit_fd,
            received=received,
        )
        self.channel.settle()

    def start(self, config: Any, granted: list[str], deadline: float) -> ErrorObject | None:
        """Have the plugin do its own start; return the error that it answers, if it does.

        Raises CallTimeoutError, and what the channel does where the plugin has gone.
        """
        return self._ask(START, {"config": config, "host": granted}, deadline)

    def stop(self, deadline: float) -> ErrorObject | None:
        """Have the plugin do its own stop; return the error that it answers, if it does.

        Raises as `start` does.
        """
        return self._ask(STOP, {}, deadline)

    def _ask(self, method: str, params: dict[str, Any], deadline: float) -> ErrorObject | None:
        left = None if deadline == float("inf") else max(deadline - time.monotonic(), 0.0)
        answer = self.channel.call(method, (), params, left)
        error = answer.error if isinstance(answer, Answer) else None
        return None if error is None or error.code == Code.METHOD_NOT_FOUND else error
