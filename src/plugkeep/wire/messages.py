"""The messages of levels 1 and 2 of the wire: JSON-RPC 2.0, with a few more members at the top."""

from __future__ import annotations

import reprlib
from enum import IntEnum
from typing import Annotated, Any, Final

from msgspec import UNSET, Meta, MsgspecError, Struct, UnsetType

#: Each end numbers its own calls; others than we may use texts.
Id = int | str

#: Methods and notifications of the wire itself begin so.
RESERVED: Final = "$/"
START: Final = "$/start"
STOP: Final = "$/stop"
PING: Final = "$/ping"
HEALTH: Final = "$/health"
CANCEL: Final = "$/cancel"
CHUNK: Final = "$/chunk"
CREDIT: Final = "$/credit"
PROGRESS: Final = "$/progress"
LOG: Final = "$/log"
#: The host's capabilities begin so.
HOST: Final = "host."


class Code(IntEnum):
    """Error codes: those of JSON-RPC, that of LSP for a cancelled call, and our own."""

    PARSE_ERROR = -32700
    INVALID_REQUEST = -32600
    METHOD_NOT_FOUND = -32601
    INVALID_PARAMS = -32602
    INTERNAL_ERROR = -32603
    CANCELLED = -32800
    RAISED = -32000
    DEADLINE_PASSED = -32001
    UNSENDABLE = -32002
    NOT_GRANTED = -32003
    TOO_DEEP = -32004
    BUSY = -32005
    NOT_RUNNING = -32006


class ErrorObject(Struct, gc=False):
    """Why a call has no result. `data` depends on the code."""

    code: int
    message: str
    data: Any = UNSET


class Message(Struct, tag_field="jsonrpc", tag="2.0", gc=False):
    """Any message. Which one it is follows from the members that are there; see `Connection`.

    One type for all, for a reader cannot know before it has read.
    """

    id: Id | UnsetType | None = UNSET
    method: str | UnsetType = UNSET
    params: Any = UNSET
    result: Any = UNSET
    error: ErrorObject | UnsetType = UNSET
    #: Milliseconds that are left of the caller's time.
    deadline_ms: int | UnsetType = UNSET
    #: The caller wants a stream, and takes so many chunks unasked.
    credit: int | UnsetType = UNSET
    #: The receiver's own call on whose behalf this one is made.
    within: Id | UnsetType = UNSET
    #: What travels beside the message. In a message that has arrived: the buffers themselves.
    buffers: list[Any] | UnsetType = UNSET
    #: ``"stop"``: the stop message of level 0, which is obeyed at every level.
    cmd: str | UnsetType = UNSET


#: What decoding raises for what is no message: ValueError where it is not UTF-8, RecursionError
#: where it is nested too deeply.
UNDECODABLE: Final = (MsgspecError, ValueError, RecursionError)
#: What msgspec raises for what it cannot encode, and so do we.
UNENCODABLE: Final = (TypeError, ValueError, OverflowError, RecursionError, MsgspecError)


class PlainRequest(
    Struct,
    tag_field="jsonrpc",
    tag="2.0",
    forbid_unknown_fields=True,
    omit_defaults=True,
    gc=False,
):
    """What most requests are. Whatever says more is no such one, and the decoder finds that out.

    It takes a third less time to read than a `Message`, and nothing need be looked at after that.
    """

    id: int
    method: str
    params: list[Any] = []
    deadline_ms: int | UnsetType = UNSET


class StreamRequest(Struct, tag_field="jsonrpc", tag="2.0", gc=False):
    """A request for a stream, with named arguments that hold nothing which needs a look inside."""

    id: int
    method: str
    params: dict[str, Any]
    credit: int


class PlainAnswer(Struct, tag_field="jsonrpc", tag="2.0", forbid_unknown_fields=True, gc=False):
    """What most answers are: a result, and nothing else."""

    id: Id
    result: Any


class CancelParams(Struct):
    """Of ``$/cancel``."""

    id: Id


class ChunkParams(Struct):
    """Of ``$/chunk`` and ``$/progress``."""

    id: Id
    value: Any


class CreditParams(Struct):
    """Of ``$/credit``."""

    id: Id
    n: Annotated[int, Meta(ge=1)]


class LogParams(Struct):
    """Of ``$/log``."""

    message: str
    level: str = "info"
    logger: str = ""
    fields: dict[str, Any] = {}


_short = reprlib.Repr()
_short.maxstring = _short.maxother = 120
_short.maxdict = _short.maxlist = 4
_short.maxlevel = 3


def shortened(value: object) -> str:
    """Return what was received as it can be shown in an error, in bounded length and time."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        value = bytes(value[:100])
    elif isinstance(value, Message):
        members = {name: getattr(value, name) for name in value.__struct_fields__}
        value = {name: member for name, member in members.items() if member is not UNSET}
    return _short.repr(value)
