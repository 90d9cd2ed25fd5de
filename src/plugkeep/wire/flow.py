"""How far a stream may go before whoever takes it has to say so."""

from __future__ import annotations

from typing import Protocol

from plugkeep.wire.messages import Id


class StreamCall(Protocol):
    """A call of the other end's that wants a stream."""

    @property
    def id(self) -> Id: ...
    @property
    def credit(self) -> int: ...


class Flow:
    """The credit of one stream. Each number is written by one side only, so no lock is needed."""

    __slots__ = ("granted", "used")

    def __init__(self, granted: int) -> None:
        self.granted = granted
        self.used = 0

    @property
    def left(self) -> int:
        """How many chunks more there may be."""
        return self.granted - self.used
