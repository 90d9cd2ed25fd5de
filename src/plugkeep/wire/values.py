"""What may travel in a message, and how: as the codec has it, or beside the message as a buffer.

Values are what JSON has, bytes and whatever else exports a buffer, dates and times, dataclasses,
msgspec structs, and what msgspec makes of these. A buffer that travels beside the message is
``{"$buffer": i}`` in it, an array ``{"$buffer": i, "dtype": ..., "shape": [...]}``. In a message
with buffers, and only there, other keys that begin with ``$`` have one ``$`` more.

Loops that could be comprehensions are none: values may be nested 500 deep, and on Python 3.11 a
comprehension takes a frame of the stack of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, Final, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET

from plugkeep.wire import _arrays

#: Bytes of this length or longer travel beside the message rather than in it.
APART: Final = 16 * 1024
MARK: Final = "$buffer"

#: How buffers are to be given to whoever receives them.
BufferForm = Literal["bytes", "memoryview"]

_ATOMS = frozenset({str, int, bool, type(None), float})
_TEXT = frozenset({str})
#: Of these the codecs know what to do, msgspec's way.
_SCALARS = frozenset({datetime, date, time, timedelta, Decimal, UUID})
_BUFFERS = (bytes, bytearray, memoryview)
#: How a value of a subclass becomes one of the type itself.
_PLAINLY: tuple[tuple[type, Any], ...] = (
    (str, str.__str__),
    (int, int.__index__),
    (float, float.__float__),
    (datetime, lambda value: datetime.combine(datetime.date(value), datetime.timetz(value))),
)


class Unsendable(TypeError):  # never leaves the wire: the caller makes an error of it
    """Raised for a value that cannot travel; `where` is its place in what was to be sent."""

    def __init__(self, reason: str, where: Where = ()) -> None:
        super().__init__(reason)
        self.reason = reason
        self.where = where

    def __str__(self) -> str:
        """Return the end of a sentence."""
        keys: list[str] = []
        where: Any = self.where
        while where:
            where, key = where
            keys.append(f"[{key!r}]")
        return f"at {''.join(reversed(keys))} {self.reason}" if keys else self.reason


#: A place in a value: that of what holds it, and the key or index there.
Where = tuple["Where", object] | tuple[()]


class Packer:
    """Makes values ready for one codec. `binary`: whether the codec has bytes of its own.

    `allow_buffers` is False at level 1, where bytes cannot travel at all.
    """

    def __init__(self, *, binary: bool, allow_buffers: bool) -> None:
        self.binary = binary
        self.allow_buffers = allow_buffers
        #: The codec takes these as they are. (JSON has no NaN, so a float has to be looked at.)
        self.plain = _ATOMS if binary else _ATOMS - {float}

    def pack(self, value: Any) -> tuple[Any, list[memoryview]]:
        """Return `value` as it is to be encoded, and the buffers that travel beside it.

        Raises Unsendable.
        """
        kind = type(value)
        if kind is tuple and (packed := self._pack_arguments(value)) is not None:
            return packed
        if (kind is bytes or kind is memoryview) and (view := self._large(value)) is not None:
            return {MARK: 0}, [view]
        if not self._needs_work(value):
            return value, []
        work = _Work(self)
        packed = work.walk(value, ())
        if work.buffers and work.dollars:
            work = _Work(self, escape=True)
            packed = work.walk(value, ())
        return packed, work.buffers

    def _pack_arguments(self, values: tuple[Any, ...]) -> tuple[Any, list[memoryview]] | None:
        """Do what `pack` does where there is little to do: for large bytes and plain values."""
        packed: list[Any] = []
        buffers: list[memoryview] = []
        for value in values:
            if type(value) in self.plain:
                packed.append(value)
            elif (view := self._large(value)) is not None:
                packed.append({MARK: len(buffers)})
                buffers.append(view)
            else:
                return None
        return packed, buffers

    def _large(self, value: Any) -> memoryview | None:
        """Return a view of bytes that travel beside the message, and of nothing else."""
        kind = type(value)
        if (kind is bytes or kind is memoryview) and self.allow_buffers:
            view = memoryview(value)
            if view.nbytes >= APART and view.c_contiguous and view.format == "B":
                return view if view.ndim == 1 else None
        return None

    def examine(self, value: Any) -> None:
        """Raise Unsendable, saying where, if `value` holds anything that cannot travel.

        Slower than `pack`, which leaves to the codec what the codec refuses by itself.
        """
        _Examination(self).walk(value, ())

    def _needs_work(self, value: Any) -> bool:
        """Say whether anything in `value` is more than the codec can take as it is."""
        kind = type(value)
        if kind in _ATOMS:
            return kind is float and not self.binary and not math.isfinite(value)
        if kind is dict:
            if not _TEXT.issuperset(map(type, value)):
                return True
            inner: Iterable[Any] = value.values()
        elif kind is list or kind is tuple:
            inner = value
        elif kind is bytes:
            return not self.binary or len(value) >= APART
        else:
            return kind not in _SCALARS
        if self.plain.issuperset(map(type, inner)):
            return False
        for each in inner:  # noqa: SIM110  # any() would take a frame more at each level
            if self._needs_work(each):
                return True
        return False


class _Work:
    """One walk over a value that needs more than the codec does by itself."""

    def __init__(self, packer: Packer, *, escape: bool = False) -> None:
        self._packer = packer
        self._escape = escape
        self._aside: dict[int, tuple[bytearray, Any]] = {}
        self.buffers: list[memoryview] = []
        self.dollars = False

    def walk(self, value: Any, where: Where) -> Any:
        """Return `value` as it is to be encoded."""
        kind = type(value)
        if kind in _ATOMS:
            return value if kind is not float else self._number(value, where)
        if kind in _SCALARS:
            return value
        if isinstance(value, _BUFFERS):
            if id(value) in self._aside:
                return self.walk(self._aside[id(value)][1], where)
            return self._buffer(value, where)
        if isinstance(value, (list, tuple, set, frozenset)):
            items: list[Any] = []
            for index, each in enumerate(value):
                items.append(self.walk(each, (where, index)))
            return items
        if isinstance(value, Mapping):
            members: dict[str, Any] = {}
            for key, each in value.items():
                members[self.key(key, where)] = self.walk(each, (where, key))
            if len(members) != len(value):
                raise Unsendable("has two keys that are the same text", where)
            return members
        return self._other(value, where)

    def key(self, key: Any, where: Where) -> str:
        """Return `key` as it is to be encoded: on the wire all keys are texts."""
        if type(key) in _SCALARS:
            return str(msgspec.to_builtins(key))
        if isinstance(key, Enum) and not isinstance(key, str):
            return self.key(key.value, where)
        if isinstance(key, (int, float)) and type(key) is not bool:
            return repr(int(key) if isinstance(key, int) else float(key))
        if not isinstance(key, str):
            raise Unsendable(f"has a key of type {type(key).__name__}; keys are texts", where)
        if not key.startswith("$"):
            return str.__str__(key)
        self.dollars = True
        return f"${str.__str__(key)}" if self._escape else str.__str__(key)

    def _number(self, value: float, where: Where) -> float:
        if not self._packer.binary and not math.isfinite(value):
            raise Unsendable(f"is {value}, and JSON has no such number", where)
        return value

    def _buffer(self, value: Any, where: Where) -> Any:
        self._check_allowed(value, where)
        view = memoryview(value)
        if self._packer.binary and view.nbytes < APART:
            return value if type(value) is bytes else view.tobytes()
        self.buffers.append(_as_bytes(view))
        return {MARK: len(self.buffers) - 1}

    def _check_allowed(self, value: Any, where: Where) -> None:
        if not self._packer.allow_buffers:
            raise Unsendable(
                f"is {type(value).__name__}, which level 1 of the wire cannot carry; use level 2, "
                "or a text such as base64",
                where,
            )

    def _other(self, value: Any, where: Where) -> Any:
        try:
            scalar = _arrays.plain_scalar(value)
            array = _arrays.flat(value)
        except ValueError as error:
            raise Unsendable(str(error), where) from None
        if array is not None:
            self._check_allowed(value, where)
            self.buffers.append(array.items)
            return {MARK: len(self.buffers) - 1, "dtype": array.dtype, "shape": array.shape}
        if scalar is not value:
            return self.walk(scalar, where)
        for base, plainly in _PLAINLY:
            if isinstance(value, base):
                return self.walk(plainly(value), where)
        if is_dataclass(value) and not isinstance(value, type):
            return self.walk(_members(value), where)
        if _exports_buffer(value):
            return self._buffer(value, where)
        return self.walk(self._made_plain(value, where), where)

    def _made_plain(self, value: Any, where: Where) -> Any:
        """Return what msgspec makes of `value`: of dataclasses, structs, enums and the like."""

        def put_aside(inner: Any) -> bytearray:
            """Leave for `walk` what msgspec does not know; it passes a bytearray as it is."""
            if inner is value:
                raise TypeError("it is neither data nor a buffer")
            stand_in = bytearray()
            self._aside[id(stand_in)] = stand_in, inner
            return stand_in

        try:
            return msgspec.to_builtins(
                value, builtin_types=(*_BUFFERS, *_SCALARS), enc_hook=put_aside
            )
        except RecursionError:
            raise
        except Exception as error:  # properties and the like may run here
            kind = type(value)
            raise Unsendable(
                f"is of type {kind.__module__}.{kind.__qualname__}, which cannot travel: {error}",
                where,
            ) from error


class _Examination(_Work):
    """A walk that also finds what `_Work` leaves to the codec to refuse."""

    def walk(self, value: Any, where: Where) -> Any:
        if isinstance(value, str):
            _check_text(value, "is", where)
        elif isinstance(value, int) and self._packer.binary and not -(2**63) <= value < 2**64:
            raise Unsendable("is an integer that 64 bits cannot hold", where)
        return super().walk(value, where)

    def key(self, key: Any, where: Where) -> str:
        text = super().key(key, where)
        _check_text(text, "has a key that is", where)
        return text


def _check_text(text: str, what: str, where: Where) -> None:
    try:
        str.encode(text)
    except UnicodeEncodeError as error:
        broken = ascii(text[error.start])
        raise Unsendable(f"{what} a text with half a character in it ({broken})", where) from None


def _members(value: Any) -> dict[str, Any]:
    """Return the fields of a dataclass that are set.

    msgspec leaves out those whose value stands in the class only: defaults of what it has made.
    """
    names = (field.name for field in fields(value))
    return {name: getattr(value, name) for name in names if hasattr(value, name)}


def _exports_buffer(value: Any) -> bool:
    try:
        memoryview(value).release()
    except (TypeError, ValueError, BufferError):
        return False
    return True


def _as_bytes(view: memoryview) -> memoryview:
    """Return `view` as bytes, without copying where they lie together."""
    try:
        return view.cast("B")
    except (TypeError, ValueError):  # not contiguous, or of items that only ctypes has a name for
        return memoryview(view.tobytes())


# --- the other way ----------------------------------------------------------------------------


def unpack(value: Any, buffers: Sequence[Any], form: BufferForm = "bytes") -> Any:
    """Return `value` with each reference replaced by its buffer, as bytes or as a memoryview.

    Arrays are NumPy's, over the buffer itself. ``()`` for `buffers` is a message that has none,
    not even an empty list of them: there all is as it stands.
    Raises ValueError for a reference to nowhere, and for an array that is none.
    """
    return value if buffers == () else _unpack(value, buffers, form)


def unpack_arguments(
    args: list[Any], kwargs: dict[str, Any], buffers: Sequence[Any], form: BufferForm = "bytes"
) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments of a call, each unpacked. (Keywords have been read already.)

    Raises ValueError as `unpack` does.
    """
    if buffers == ():
        return args, kwargs
    named = {key: _unpack(value, buffers, form) for key, value in kwargs.items()}
    return [_unpack(value, buffers, form) for value in args], named


def _unpack(value: Any, buffers: Sequence[Any], form: BufferForm) -> Any:
    kind = type(value)
    if kind is list:
        items: list[Any] = []
        for each in value:
            items.append(_unpack(each, buffers, form))  # noqa: PERF401
        return items
    if kind is dict:
        if MARK in value:
            return _resolve(value, buffers, form)
        members: dict[Any, Any] = {}
        for key, each in value.items():
            members[_unescaped_key(key)] = _unpack(each, buffers, form)
        return members
    return memoryview(value) if kind is bytes and form == "memoryview" else value


def as_memoryviews(value: Any) -> Any:
    """Return `value` with the bytes in it as memoryviews."""
    kind = type(value)
    if kind is bytes:
        return memoryview(value)
    if kind is list:
        items: list[Any] = []
        for each in value:
            items.append(as_memoryviews(each))  # noqa: PERF401
        return items
    if kind is dict:
        members: dict[Any, Any] = {}
        for key, each in value.items():
            members[key] = as_memoryviews(each)
        return members
    return value


def _resolve(reference: dict[Any, Any], buffers: Sequence[Any], form: BufferForm) -> Any:
    index = reference[MARK]
    if type(index) is not int or not 0 <= index < len(buffers):
        raise ValueError(f"{MARK} is {index!r:.80}, but there are {len(buffers)} buffers")
    buffer = buffers[index]
    if isinstance(buffer, OSError):
        raise ValueError(f"buffer {index} came and could not be taken: {buffer}")  # noqa: TRY004
    if "dtype" in reference:
        return _arrays.array(reference, buffer)
    if form == "memoryview":
        return buffer if type(buffer) is memoryview else memoryview(buffer)
    if type(buffer) is bytes:
        return buffer
    from plugkeep.wire.fresh import copied

    return copied(memoryview(buffer))


def _unescaped_key(key: Any) -> Any:
    return key[1:] if type(key) is str and key[:2] == "$$" else key


# --- params -----------------------------------------------------------------------------------


def pack_params(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Return `params` for these arguments: an array, an object, or both under ``$``."""
    if not kwargs:
        return args or UNSET
    named = {f"${key}" if key.startswith("$") else key: value for key, value in kwargs.items()}
    return {"$args": args, "$kwargs": named} if args else named


def unpack_params(params: Any) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments that `params` has. Raises ValueError where it is none of its forms."""
    if type(params) is list:
        return params, {}
    if params is UNSET:
        return [], {}
    if type(params) is not dict:
        raise ValueError(f"params is {type(params).__name__}, not an array or an object")
    if "$args" not in params and "$kwargs" not in params:
        return [], _unescaped(params)
    args, kwargs = params.get("$args", []), params.get("$kwargs", {})
    if type(args) is not list or type(kwargs) is not dict or params.keys() - _BOTH:
        raise ValueError("$args must be an array, $kwargs an object, and nothing beside them")
    return args, _unescaped(kwargs)


_BOTH = frozenset({"$args", "$kwargs"})


def _unescaped(named: dict[str, Any]) -> dict[str, Any]:
    if not _TEXT.issuperset(map(type, named)):
        raise ValueError("keywords must be texts")
    for key in named:
        if key[:2] == "$$":
            return {_unescaped_key(each): value for each, value in named.items()}
    return named
