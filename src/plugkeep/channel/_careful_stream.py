"""What a method yields, for tasks of an event loop that take care: see `careful`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plugkeep.channel.aio import AsyncStream
from plugkeep.channel.careful import check

if TYPE_CHECKING:
    from plugkeep.channel._async_waiters import AsyncListener
    from plugkeep.channel.turnstile import Ticket


class CarefulStream(AsyncStream):
    """A stream whose task waits for its turn, and for the plugin, before the first value."""

    #: Kept until its end. Where it is forgotten, that comes back by itself.
    _ticket: Ticket | None = None

    async def _open(self) -> AsyncListener:
        method = self._call[0]
        visit = self._caller.visit(method, self._options)  # type: ignore[attr-defined]
        try:
            caller = visit.at_once() or await visit.aenter()
            check(caller, method)
            self._ticket = visit.ticket
        except BaseException:
            visit.leave()
            raise
        self._caller, self._channel = caller, caller.channel
        return await super()._open()

    def _close(self) -> None:
        super()._close()
        if self._ticket is not None:
            self._ticket.leave()
