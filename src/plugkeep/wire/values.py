"""What may travel in a message, and how: as the codec has it, or beside the message as a buffer.

Values are what JSON has, bytes and whatever else exports a buffer, dates and times, dataclasses,
msgspec structs, and what msgspec makes of these. A buffer that travels beside the message is
``{"$buffer": i}`` in it, an array ``{"$buffer": i, "dtype": ..., "shape": [...]}``. In a message
with buffers, and only there, other keys that begin with ``$`` have one ``$`` more.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET

#: Bytes of this length or longer travel beside the message rather than in it.
APART: Final = 16 * 1024
MARK: Final = "$buffer"

#: How buffers are to be given to whoever receives them.
BufferForm = Literal["bytes", "memoryview"]

_ATOMS = frozenset({str, int, bool, type(None), float})
#: Of these the codecs know what to do, msgspec's way.
_SCALARS = frozenset({datetime, date, time, timedelta, Decimal, UUID})
_BUFFERS = (bytes, bytearray, memoryview)
#: How a value of a subclass becomes one of the type itself.
_PLAINLY: tuple[tuple[type, Any], ...] = (
    (str, str.__str__),
    (int, int.__index__),
    (float, float.__float__),
)


class Unsendable(TypeError):  # never leaves the wire: the caller makes an error of it
    """Raised for a value that cannot travel; `where` is its place in what was to be sent."""

    def __init__(self, reason: str, where: tuple[object, ...] = ()) -> None:
        super().__init__(reason)
        self.reason = reason
        self.where = where


class Packer:
    """Makes values ready for one codec. `binary`: whether the codec has bytes of its own.

    `allow_buffers` is False at level 1, where bytes cannot travel at all.
    """

    def __init__(self, *, binary: bool, allow_buffers: bool) -> None:
        self._binary = binary
        self._allow_buffers = allow_buffers

    def is_plain(self, values: Iterable[Any]) -> bool:
        """Say at once, for the values that most calls have, that there is nothing to be done."""
        for value in values:
            kind = type(value)
            if kind not in _ATOMS or (kind is float and not self._binary):
                return False
        return True

    def pack(self, value: Any) -> tuple[Any, list[memoryview]]:
        """Return `value` as it is to be encoded, and the buffers that travel beside it.

        Raises Unsendable.
        """
        if not self._needs_work(value):
            return value, []
        work = _Work(self)
        packed = work.walk(value, ())
        if work.buffers and work.dollars:
            work = _Work(self, escape=True)
            packed = work.walk(value, ())
        return packed, work.buffers

    def _needs_work(self, value: Any) -> bool:
        """Say whether anything in `value` is more than the codec can take as it is."""
        kind = type(value)
        if kind in _ATOMS:
            return kind is float and not self._binary
        if kind in _SCALARS:
            return False
        if kind is dict:
            return not set(map(type, value)) <= {str} or self._any_needs_work(value.values())
        if kind is list or kind is tuple:
            return self._any_needs_work(value)
        if kind in _BUFFERS:
            return not self._binary or len(value) >= APART or kind is not bytes
        return True

    def _any_needs_work(self, values: Iterable[Any]) -> bool:
        kinds = set(map(type, values))
        if kinds <= _ATOMS and (self._binary or float not in kinds):
            return False
        return any(self._needs_work(value) for value in values)


class _Work:
    """One walk over a value that needs more than the codec does by itself."""

    def __init__(self, packer: Packer, *, escape: bool = False) -> None:
        self._packer = packer
        self._escape = escape
        self.buffers: list[memoryview] = []
        self.dollars = False

    def walk(self, value: Any, where: tuple[object, ...]) -> Any:
        kind = type(value)
        if kind in _ATOMS:
            return value if kind is not float else self._number(value, where)
        if kind in _SCALARS:
            return value
        if isinstance(value, _BUFFERS):
            return self._buffer(value, where)
        if isinstance(value, Mapping):
            return {
                self._key(key, where): self.walk(each, (*where, key)) for key, each in value.items()
            }
        if isinstance(value, (list, tuple, set, frozenset)):
            return [self.walk(each, (*where, index)) for index, each in enumerate(value)]
        return self._other(value, where)

    def _number(self, value: float, where: tuple[object, ...]) -> float:
        if not self._packer._binary and not math.isfinite(value):
            raise Unsendable(f"is {value}, and JSON has no such number", where)
        return value

    def _key(self, key: Any, where: tuple[object, ...]) -> Any:
        if isinstance(key, str):
            if key.startswith("$"):
                self.dollars = True
                return f"${key}" if self._escape else key
            return key
        if type(key) in _SCALARS or isinstance(key, (int, float)):
            return key if self._packer._binary else msgspec.to_builtins(key, str_keys=True)
        raise Unsendable(f"has a key of type {type(key).__name__}; keys are texts", where)

    def _buffer(self, value: Any, where: tuple[object, ...]) -> Any:
        if not self._packer._allow_buffers:
            raise Unsendable(
                f"is {type(value).__name__}, which level 1 of the wire cannot carry; use level 2, "
                "or a text such as base64",
                where,
            )
        view = value if isinstance(value, memoryview) else memoryview(value)
        if self._packer._binary and view.nbytes < APART:
            return value if type(value) is bytes else view.tobytes()
        if not view.c_contiguous:
            view = memoryview(view.tobytes())
        self.buffers.append(view.cast("B"))
        return {MARK: len(self.buffers) - 1}

    def _other(self, value: Any, where: tuple[object, ...]) -> Any:
        for base, plainly in _PLAINLY:
            if isinstance(value, base):
                return self.walk(plainly(value), where)
        if (array := _as_array(value)) is not None:
            if not self._packer._allow_buffers:
                self._buffer(b"", where)
            self.buffers.append(array)
            reference = {MARK: len(self.buffers) - 1, "dtype": value.dtype.str}
            return {**reference, "shape": list(value.shape)}
        if (view := _as_buffer(value)) is not None:
            return self._buffer(view, where)
        try:
            plain = msgspec.to_builtins(
                value,
                builtin_types=(
                    bytes,
                    bytearray,
                    memoryview,
                    datetime,
                    date,
                    time,
                    timedelta,
                    Decimal,
                    UUID,
                ),
                enc_hook=_pass_buffers,
            )
        except (TypeError, ValueError, RecursionError) as error:
            kind = type(value)
            raise Unsendable(
                f"is of type {kind.__module__}.{kind.__qualname__}, which cannot travel: {error}",
                where,
            ) from error
        if type(plain) is type(value):
            raise Unsendable(f"is of type {type(value).__name__}, which cannot travel", where)
        return self.walk(plain, where)


def _pass_buffers(value: Any) -> Any:
    """Let `to_builtins` leave alone what `_Work` will deal with: it takes what has a buffer."""
    view = _as_buffer(value)
    if view is None:
        raise TypeError(f"a {type(value).__name__} is neither data nor a buffer")
    return view.tobytes() if not view.c_contiguous else view


def _as_buffer(value: Any) -> memoryview | None:
    try:
        return memoryview(value)
    except TypeError:
        return None


def _as_array(value: Any) -> memoryview | None:
    """Return the bytes of a NumPy array, in C order, copying only where it is not in that order."""
    numpy = sys.modules.get("numpy")
    if numpy is None or not isinstance(value, numpy.ndarray):
        return None
    if value.dtype.hasobject:
        raise Unsendable(f"is an array of dtype {value.dtype}, whose items are Python objects")
    flat = numpy.ascontiguousarray(value).reshape(-1).view(numpy.uint8)
    return memoryview(flat)


def unpack(value: Any, buffers: Sequence[Any], form: BufferForm = "bytes") -> Any:
    """Return `value` with each reference replaced by its buffer, as bytes or as a memoryview.

    Arrays are NumPy's, over the buffer itself. Raises ValueError for a reference to nowhere.
    """
    kind = type(value)
    if kind is list:
        return [unpack(each, buffers, form) for each in value]
    if kind is dict:
        if MARK in value:
            return _resolve(value, buffers, form)
        return {
            (key[1:] if type(key) is str and key.startswith("$$") else key): unpack(
                each, buffers, form
            )
            for key, each in value.items()
        }
    return value


def as_memoryviews(value: Any) -> Any:
    """Return `value` with the bytes in it as memoryviews."""
    kind = type(value)
    if kind is bytes:
        return memoryview(value)
    if kind is list:
        return [as_memoryviews(each) for each in value]
    if kind is dict:
        return {key: as_memoryviews(each) for key, each in value.items()}
    return value


def _resolve(reference: dict[Any, Any], buffers: Sequence[Any], form: BufferForm) -> Any:
    index = reference[MARK]
    if type(index) is not int or not 0 <= index < len(buffers):
        raise ValueError(f"{MARK} is {index!r}, but there are {len(buffers)} buffers")
    buffer = buffers[index]
    if "dtype" in reference:
        return _array(reference, buffer)
    if form == "bytes":
        return buffer if type(buffer) is bytes else bytes(buffer)
    return buffer if type(buffer) is memoryview else memoryview(buffer)


def _array(reference: dict[Any, Any], buffer: Any) -> Any:
    try:
        import numpy as np
    except ImportError:
        return memoryview(buffer)
    dtype = np.dtype(reference["dtype"])
    if dtype.hasobject:
        raise ValueError(f"an array of dtype {dtype} cannot be received")
    return np.frombuffer(buffer, dtype=dtype).reshape(reference.get("shape", -1))


def pack_params(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Return `params` for these arguments: an array, an object, or both under ``$``."""
    if not kwargs:
        return args or UNSET
    named = {f"${key}" if key.startswith("$") else key: value for key, value in kwargs.items()}
    return {"$args": args, "$kwargs": named} if args else named


def unpack_params(params: Any) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments that `params` has. Raises ValueError where it is none of its forms."""
    if params is UNSET:
        return [], {}
    if type(params) is list:
        return params, {}
    if type(params) is not dict:
        raise ValueError(f"params is {type(params).__name__}, not an array or an object")
    if "$args" in params or "$kwargs" in params:
        args, kwargs = params.get("$args", []), params.get("$kwargs", {})
        if type(args) is not list or type(kwargs) is not dict or len(params) > 2:
            raise ValueError("$args must be an array, $kwargs an object, and nothing beside them")
        return args, _unescaped(kwargs)
    return [], _unescaped(params)


def _unescaped(named: dict[str, Any]) -> dict[str, Any]:
    for key in named:
        if key[:2] == "$$":
            return {k[1:] if k[:2] == "$$" else k: value for k, value in named.items()}
    return named
