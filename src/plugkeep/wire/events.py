"""What comes out of a connection: what the other end has said, and what follows from it.

Where an event has `buffers`, its values hold references to them; see `values.unpack`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from plugkeep.wire.messages import ErrorObject, Id
from plugkeep.wire.ndjson import Noise


class Request(Struct, gc=False):
    """The other end calls. It is owed one `answer` or `refuse`."""

    id: Id
    method: str
    args: list[Any]
    kwargs: dict[str, Any]
    #: Empty for nearly all calls.
    buffers: Sequence[Any]
    #: Milliseconds; None: no limit.
    deadline_ms: int | None
    #: How many chunks the caller takes; None: it wants no stream.
    credit: int | None
    #: Our own call on whose behalf this one is made.
    within: Id | None


class Answer(Struct, gc=False):
    """A call of ours has been answered. `waiter` is what was given to `request`."""

    id: Id
    waiter: Any
    result: Any
    error: ErrorObject | None
    buffers: Sequence[Any]


class Chunk(Struct, gc=False):
    """The next value of a stream that we have asked for."""

    id: Id
    waiter: Any
    value: Any
    buffers: Sequence[Any]


class Progress(Struct, gc=False):
    """How far a call of ours has come."""

    id: Id
    waiter: Any
    value: Any
    buffers: Sequence[Any] = ()


class Cancel(Struct, gc=False):
    """The other end has lost interest in a call that we are serving. Answer it all the same."""

    id: Id


class Credit(Struct, gc=False):
    """The other end takes more chunks of a stream that we are serving."""

    id: Id


class Log(Struct, gc=False):
    """A log record of the plugin's. `level` is one of `LEVELS`."""

    level: str
    logger: str
    message: str
    fields: dict[str, Any]


class Notification(Struct, gc=False):
    """One that is not the wire's own."""

    method: str
    args: list[Any]
    kwargs: dict[str, Any]
    buffers: Sequence[Any] = ()


class Stop(Struct, gc=False):
    """The stop message of level 0."""


class Refusal(Struct, gc=False):
    """A request that could not be read; `data` is the answer, to be sent."""

    data: bytes | bytearray
    reason: str


class Dropped(Struct, gc=False):
    """Something that came and makes no difference. `reason`, if there is one, should be logged."""

    reason: str


Event = (
    Request
    | Answer
    | Chunk
    | Progress
    | Cancel
    | Credit
    | Log
    | Notification
    | Stop
    | Refusal
    | Dropped
    | Noise
)

#: How grave a log record may be; any other word counts as "info".
LEVELS = frozenset({"debug", "info", "warning", "error", "critical"})
