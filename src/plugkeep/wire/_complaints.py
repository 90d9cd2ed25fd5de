"""What is wrong with a value that could not be sent, said so that its owner can find it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from plugkeep.errors import UnsendableValueError
from plugkeep.wire.messages import UNENCODABLE, Message
from plugkeep.wire.values import Packer, Unsendable


class _Codec(Protocol):
    @property
    def packer(self) -> Packer: ...
    def encode(self, message: Message, /) -> bytes: ...


def blame(
    codec: _Codec, method: str, args: Sequence[Any], kwargs: Mapping[str, Any], error: Exception
) -> UnsendableValueError:
    """Say which argument cannot travel."""
    named = [*((f"argument {i + 1}", value) for i, value in enumerate(args))]
    named += [(f"argument {name!r}", value) for name, value in kwargs.items()]
    for what, value in named:
        if complaint := _complaint(codec, value):
            return UnsendableValueError(f"{what} of {method!r} {complaint}")
    return UnsendableValueError(f"the arguments of {method!r}: {_read(error)}")


def why(codec: _Codec, value: Any, error: Exception) -> str:
    """Say why `value` could not be sent, and where in it; `error` is what became of it."""
    return _complaint(codec, value) or _read(error)


def _complaint(codec: _Codec, value: Any) -> str:
    try:
        codec.packer.examine(value)
        codec.encode(Message(params=codec.packer.pack(value)[0]))
    except UNENCODABLE as error:
        return _read(error)
    return ""


def _read(error: Exception) -> str:
    """Return what `error` has against a value, as the end of a sentence."""
    if isinstance(error, Unsendable):
        return str(error)
    if isinstance(error, RecursionError):
        return "is nested too deeply, or within itself"
    return f"cannot be encoded: {error}"
