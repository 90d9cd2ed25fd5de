"""What a plugin says of itself when it is ready: its level of the wire, and what can be called."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from inspect import Parameter, Signature
from struct import Struct
from typing import Any, Literal, cast, get_args

from plugkeep.wire.ready import MAX_BYTES

CodecName = Literal["json", "msgpack"]

_HEADER = Struct("<III")
_parameter = re.compile(r"(\*{0,2})([^\W\d]\w*)(=?)").fullmatch


@dataclass(frozen=True, slots=True)
class Method:
    """A method that a plugin has announced."""

    name: str
    #: None: not known, and not checked.
    signature: Signature | None = None
    stream: bool = False
    doc: str = ""
    #: Whether a call may be made again whose answer was lost: twice is as good as once.
    idempotent: bool = False


@dataclass(frozen=True, slots=True)
class Announcement:
    """A ready message. At level 0 nothing in it matters."""

    level: int = 0
    name: str | None = None
    version: str | None = None
    codec: CodecName = "json"
    #: None: not known, any name may be tried.
    methods: Mapping[str, Method] | None = field(default=None, hash=False)
    #: Whether a frame may hold several messages.
    batch: bool = False
    #: What it has imported beyond what it was forked with.
    imports: tuple[str, ...] = ()
    #: When the process came to work of its own, in seconds since the epoch.
    began: float | None = None


class Refused(ValueError):
    """Raised for a ready message that cannot be agreed to; the text is the end of a sentence."""


def read_printed(message: bytes, offered: int) -> Announcement:
    """Return what an object on stdout says, which is a ready message of level 0 or 1.

    Raises Refused.
    """
    # The key could be written with escapes, and would count all the same.
    if not offered or not (b'"wire"' in message or b"\\u" in message):
        return Announcement()
    import json

    said = json.loads(message.decode("utf-8", "replace"))
    level = _level(said, offered)
    if level > 1:
        raise Refused(
            f"has wire {level} on stdout, where that level has its ready message in a frame"
        )
    return _read(said, level) if level else Announcement()


def read_frame(message: bytes, offered: int = 2) -> Announcement:
    """Return what the message of the first frame says. Raises Refused."""
    import json

    try:
        said = json.loads(message)
    except (ValueError, RecursionError) as error:
        raise Refused(f"is not JSON: {error}") from None
    if not isinstance(said, dict) or said.get("ready") is not True:
        raise Refused('has no "ready": true')
    level = _level(said, offered)
    if level != offered:
        raise Refused(f"has wire {level} in a frame, where only level {offered} speaks")
    return _read(said, level)


class FirstFrame:
    """Collects the first frame. `message` is what was in it, `rest` what came after it."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.message = b""
        self.rest = b""

    def feed(self, data: bytes) -> bool:
        """Take the next bytes; say whether the frame is complete. Raises Refused."""
        self.received += data
        if len(self.received) < _HEADER.size:
            return False
        length, message_length, flags = _HEADER.unpack_from(self.received)
        if flags or length != message_length or length > MAX_BYTES:
            raise Refused(
                f"begins with a frame of length {length}, message length {message_length} and "
                f"flags {flags}; both lengths have to be the same, up to {MAX_BYTES}, and flags 0"
            )
        end = _HEADER.size + length
        if len(self.received) < end:
            return False
        self.message, self.rest = bytes(self.received[12:end]), bytes(self.received[end:])
        return True


def _level(said: dict[str, Any], offered: int) -> int:
    level = said.get("wire", 0)
    if type(level) is not int or level < 0:
        raise Refused(f"has wire {level!r:.80}, which is no level of the wire")
    if level > offered:
        raise Refused(f"has wire {level}, where the host has offered {offered} at most")
    return level


def _read(said: dict[str, Any], level: int) -> Announcement:
    codec = said.get("codec", "json")
    if codec not in get_args(CodecName):
        raise Refused(f"has codec {codec!r:.80}, which is neither 'json' nor 'msgpack'")
    return Announcement(
        level,
        _text(said, "name"),
        _text(said, "version"),
        cast("CodecName", codec),
        _methods(said.get("methods")),
        level == 2 and _flag(said, "batch"),
        _names(said.get("imports", [])),
        _number(said, "began"),
    )


def _text(said: Mapping[str, Any], key: str) -> str | None:
    value = said.get(key)
    if value is not None and not isinstance(value, str):
        raise Refused(f"has {key} {value!r:.80}, which is no text")
    return value


def _names(said: object) -> tuple[str, ...]:
    """Return names of modules; what is none is passed over, for nothing depends on it."""
    names = said if isinstance(said, list) else []
    return tuple(name for name in names if isinstance(name, str) and name.isidentifier())


def _number(said: Mapping[str, Any], key: str) -> float | None:
    value = said.get(key)
    if value is not None and type(value) not in (int, float):
        raise Refused(f"has {key} {value!r:.80}, which is no number")
    return value


def _flag(said: Mapping[str, Any], key: str, of: str = "") -> bool:
    value = said.get(key, False)
    if not isinstance(value, bool):
        raise Refused(f"has {key} {value!r:.80}{of}, which is no boolean")
    return value


def _methods(said: object) -> dict[str, Method] | None:
    if said is None:
        return None
    if not isinstance(said, list):
        raise Refused(f"has methods {said!r:.80}, which is no array")
    return {method.name: method for method in map(_method, said)}


def _method(said: object) -> Method:
    if isinstance(said, str):
        said = {"name": said}
    if not isinstance(said, dict):
        raise Refused(f"has {said!r:.80} among its methods, which is neither text nor object")
    name = said.get("name")
    if not isinstance(name, str) or not name or name.startswith(("$/", "host.")):
        raise Refused(f"has a method named {name!r:.80}, which cannot be called")
    stream = _flag(said, "stream", f" of method {name!r:.80}")
    doc = _text(said, "doc") or ""
    idempotent = _flag(said, "idempotent", f" of method {name!r:.80}")
    return Method(name, _signature(name, said.get("params")), stream, doc, idempotent)


def _signature(name: str, params: object) -> Signature | None:
    """Return the signature that is written as ``["user", "limit=", "*", "flag="]``."""
    if params is None:
        return None
    try:
        return Signature(list(_parameters(params)))
    except (TypeError, ValueError) as error:
        raise Refused(f"has params {params!r:.200} of method {name!r:.80}: {error}") from None


def _parameters(params: object) -> Iterator[Parameter]:
    if not isinstance(params, list):
        raise TypeError("it is no array")
    kind: Any = Parameter.POSITIONAL_ONLY if "/" in params else Parameter.POSITIONAL_OR_KEYWORD
    for text in params:
        if text == "/":
            kind = Parameter.POSITIONAL_OR_KEYWORD
        elif text == "*":
            kind = Parameter.KEYWORD_ONLY
        elif isinstance(text, str) and (match := _parameter(text)):
            stars, name, default = match.groups()
            own = _STARS.get(stars, kind)
            yield Parameter(name, own, default=... if default else Parameter.empty)
            kind = Parameter.KEYWORD_ONLY if stars else kind
        else:
            raise ValueError(f"{text!r:.80} is no parameter")


_STARS: dict[str, Any] = {"*": Parameter.VAR_POSITIONAL, "**": Parameter.VAR_KEYWORD}
