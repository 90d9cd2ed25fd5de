"""Level 2: frames, each a message and the buffers that it refers to.

A frame begins with twelve bytes: the length of what follows, that of the message in it, and
flags, all little-endian. Behind the message stand its inline buffers. Others travel on a socket
beside, as raw bytes or as the descriptor of a memory file; the message announces them. Instead of
a message there may be a batch, an array of several, or a series, several alike in one, between
ends that have agreed to it.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import repeat
from operator import attrgetter
from struct import Struct
from typing import Any, Final, Literal

import msgspec
from msgspec import UNSET

from plugkeep.errors import ProtocolViolationError
from plugkeep.wire.messages import (
    UNDECODABLE,
    UNENCODABLE,
    Id,
    Message,
    PlainAnswer,
    PlainRequest,
    StreamRequest,
    shortened,
)
from plugkeep.wire.series import SERIES, ids_and_results, plain_ones, spelt_out
from plugkeep.wire.values import Packer

HEADER: Final = Struct("<III")
HEADER_SIZE: Final = HEADER.size
#: Limits of what may travel, in bytes; checked before anything is allocated.
MAX_MESSAGE: Final = 64 * 1024 * 1024
MAX_BUFFERS: Final = 1024 * 1024 * 1024
MAX_BUFFER_COUNT: Final = 1024

CodecName = Literal["msgpack", "json"]
Via = Literal["socket", "memory"]


def _refuse_extension(code: int, _: memoryview) -> None:
    raise ValueError(f"extension type {code} of msgpack does not travel")


_ENCODERS: dict[str, Any] = {"msgpack": msgspec.msgpack.Encoder, "json": msgspec.json.Encoder}
_DECODERS: dict[str, Any] = {
    "msgpack": lambda kind: msgspec.msgpack.Decoder(kind, ext_hook=_refuse_extension),
    "json": msgspec.json.Decoder,
}
_pack_header = HEADER.pack
#: The headers of short frames, at hand: to look one up takes half the time of packing it.
_HEADERS: Final[tuple[bytes, ...]] = tuple(HEADER.pack(size, size, 0) for size in range(1024))
_SHORT: Final = len(_HEADERS)
_read_header = HEADER.unpack_from
_nbytes = attrgetter("nbytes")
#: What the encoding of an array begins with.
_ARRAY: Final = {"msgpack": frozenset({*range(0x90, 0xA0), 0xDC, 0xDD}), "json": frozenset(b"[")}


class Wanted(msgspec.Struct, frozen=True, gc=False):
    """A buffer that is to be taken from the socket before the next message can come out."""

    size: int
    via: Via


class Frames:
    """Frames in, messages out, and the other way round.

    While `wanted` is set, the next buffer has to come from the socket: `supply` it, and read no
    frames meanwhile, for none of them could come out.
    """

    level = 2

    def __init__(
        self,
        codec: CodecName = "msgpack",
        *,
        max_message: int = MAX_MESSAGE,
        max_buffers: int = MAX_BUFFERS,
    ) -> None:
        self.codec = codec
        self.packer = Packer(binary=codec == "msgpack", allow_buffers=True)
        self.wanted: Wanted | None = None
        #: Whether the other end may send batches, and whether it takes them.
        self.takes_batches = self.sends_batches = False
        self._max_message = max_message
        self._max_buffers = max_buffers
        self._partial = bytearray()
        self._needed = 0  # so many bytes there must be before there is more to be read
        #: Whether something is left from before, or wanted; also after a message with buffers, for
        #: it is likely that such a one comes next, and to find that out again would take longer.
        self._is_special = False
        self._incomplete: Message | None = None  # it awaits buffers,
        self._missing: deque[int] = deque()  # these of its list
        self._plain = self.packer.plain
        self._short = min(_SHORT, max_message + 1)
        self._encode = _ENCODERS[codec]().encode
        self._array = _ARRAY[codec]
        self._decode, self._decode_request, self._decode_answer = (
            _DECODERS[codec](kind).decode for kind in (Message, PlainRequest, PlainAnswer)
        )
        self._decode_batch, self._decode_requests, self._decode_answers = (
            _DECODERS[codec](list[kind]).decode  # type: ignore[valid-type]  # one after the other
            for kind in (Message, PlainRequest, PlainAnswer)
        )

    # --- out ------------------------------------------------------------------------------

    def encode(self, message: Message, inline: Sequence[memoryview] = ()) -> bytes:
        """Return `message` as a frame, with `inline` behind it.

        Raises what msgspec does for what it cannot encode, and ValueError for a message that is
        too large.
        """
        body = self._encode(message)
        size = len(body)
        if size > self._max_message:
            raise ValueError(f"a message of {size} bytes is over the limit of {self._max_message}")
        if not inline:
            return _pack_header(size, size, 0) + body  # type: ignore[no-any-return]
        length = size + sum(map(_nbytes, inline))
        return b"".join((_pack_header(length, size, 0), body, *inline))

    def quick_request(
        self, number: int, method: str, args: Sequence[Any], deadline_ms: Any = UNSET
    ) -> bytes | None:
        """Return a request as a frame, if `args` need no look inside; else None."""
        plain = self._plain
        for value in args:
            if type(value) not in plain:
                return None
        # What follows is `_quick`: a call less counts here.
        try:
            body: bytes = self._encode(PlainRequest(number, method, args or [], deadline_ms))  # type: ignore[arg-type]
            return _HEADERS[len(body)] + body if len(body) < self._short else self._framed(body)
        except UNENCODABLE:
            return None

    def quick_stream(
        self, number: int, method: str, params: dict[str, Any], credit: int
    ) -> bytes | None:
        """Return a request for a stream as a frame; None where `params` cannot be encoded."""
        return self._quick(StreamRequest(number, method, params, credit))

    def join(self, frames: Collection[bytes]) -> bytes:
        """Return frames of one message each in one piece: as a batch where that is agreed to."""
        size = sum(map(len, frames))  # more than a batch needs, for it has one header
        if self.sends_batches and len(frames) > 1 and size <= self._max_message:
            bodies = [frame[HEADER_SIZE:] for frame in frames]
            head = self._array_head(len(bodies))
            batch = b"".join((head, *bodies)) if head else b"[" + b",".join(bodies) + b"]"
            return _pack_header(len(batch), len(batch), 0) + batch
        return b"".join(frames)

    def _array_head(self, count: int) -> bytes:
        """Return what an array of msgpack begins with; b"": another codec has no such thing."""
        return b"" if self.codec == "json" else b"\xdd" + count.to_bytes(4, "big")

    def quick_answer(self, number: Id, result: Any) -> bytes | None:
        """Return an answer in the manner of `quick_request`."""
        if type(result) not in self._plain:
            return None
        try:
            body: bytes = self._encode(PlainAnswer(number, result))
            return _HEADERS[len(body)] + body if len(body) < self._short else self._framed(body)
        except UNENCODABLE:
            return None

    def quick_result(self, number: Id, result: Any) -> bytes | None:
        """Return an answer as a frame, whose result needs no look inside; None: it is too much."""
        return self._quick(PlainAnswer(number, result))

    def _quick(self, message: Any) -> bytes | None:
        try:
            return self._framed(self._encode(message))
        except UNENCODABLE:
            return None

    def _framed(self, body: bytes) -> bytes | None:
        size = len(body)
        if size < self._short:
            return _HEADERS[size] + body
        return None if size > self._max_message else _pack_header(size, size, 0) + body

    def quick_requests(self, first: int, method: str, params: Sequence[Any]) -> bytes | None:
        """Return requests in one piece, numbered on from `first`, each with one of `params`.

        None where one of them cannot be encoded.
        """
        if self.sends_batches:
            return self._series(PlainRequest(first, method, params))  # type: ignore[arg-type]
        numbers = range(first, first + len(params))
        return self._all_quick(map(PlainRequest, numbers, repeat(method), params))

    def quick_answers(self, numbers: Sequence[Id], results: Sequence[Any]) -> bytes | None:
        """Return answers in one piece; None where one of them cannot be encoded."""
        if not self.sends_batches:
            return self._all_quick(map(PlainAnswer, numbers, results))
        first = numbers[0]
        if type(first) is int and list(range(first, first + len(numbers))) == numbers:
            return self._series(PlainAnswer(first, results))
        return self._quick(list(map(PlainAnswer, numbers, results)))

    def _all_quick(self, messages: Iterable[Any]) -> bytes | None:
        frames = list(map(self._quick, messages))
        return None if None in frames else b"".join(frames)  # type: ignore[arg-type]

    def _series(self, message: Any) -> bytes | None:
        try:
            body = self._encode(message)
        except UNENCODABLE:
            return None
        size = len(body)
        return None if size > self._max_message else _pack_header(size, size, SERIES) + body

    def check_buffers(self, buffers: Sequence[memoryview]) -> None:
        """Raise ValueError where no message may have so many buffers, or such large ones."""
        if len(buffers) > MAX_BUFFER_COUNT:
            raise ValueError(
                f"{len(buffers)} buffers are over the limit of {MAX_BUFFER_COUNT} in a message"
            )
        if (size := sum(map(_nbytes, buffers))) > self._max_buffers:
            raise ValueError(f"{size} bytes of buffers are over the limit of {self._max_buffers}")

    # --- in -------------------------------------------------------------------------------

    def plain_request(self, data: bytes) -> PlainRequest | None:
        """Return the request that `data` is, if it is just that and nothing is left from before.

        Else None, and nothing has happened: `receive` it.
        """
        size = len(data) - HEADER_SIZE
        if not 0 < size < _SHORT or data[:HEADER_SIZE] != _HEADERS[size] or self._is_special:
            return None
        try:
            return self._decode_request(data[HEADER_SIZE:])  # type: ignore[no-any-return]
        except UNDECODABLE:
            return None

    def plain_answer(self, data: bytes) -> PlainAnswer | None:
        """Return the answer that `data` is, in the manner of `plain_request`."""
        size = len(data) - HEADER_SIZE
        if not 0 < size < _SHORT or data[:HEADER_SIZE] != _HEADERS[size] or self._is_special:
            return None
        try:
            return self._decode_answer(data[HEADER_SIZE:])  # type: ignore[no-any-return]
        except UNDECODABLE:
            return None

    def plain_requests(self, data: bytes) -> list[PlainRequest]:
        """Return the requests that `data` is, if it is nothing else, in whole frames; else none."""
        return self.only(data, self._decode_request, self._decode_requests)

    def plain_answers(self, data: bytes) -> list[PlainAnswer]:
        """Return the answers that `data` is, in the manner of `plain_requests`."""
        return self.only(data, self._decode_answer, self._decode_answers)

    def only(
        self, data: bytes, decode: Callable[[bytes], Any], decode_batch: Callable[[bytes], Any]
    ) -> list[Any]:
        """Return the messages that `data` is, in whole frames, if `decode` takes all; else none.

        Nothing has happened, then: `receive` it. `decode_batch` does the same for a batch.
        """
        found: list[Any] = []
        position, end = 0, len(data)
        if self._partial or self.wanted:
            return found
        try:
            while position < end:
                length, size, flags = _read_header(data, position)
                start = position + HEADER_SIZE
                position = start + length
                if length != size or position > end:
                    return []
                if flags:
                    if flags != SERIES or not self.takes_batches:
                        return []
                    if not (ones := plain_ones(decode(data[start:position]))):
                        return []
                    found += ones
                    self.sends_batches = True
                elif self.takes_batches and data[start] in self._array:
                    if not (batch := decode_batch(data[start:position])):
                        return []
                    found += batch
                    self.sends_batches = True
                else:
                    found.append(decode(data[start:position]))
        except (*UNDECODABLE, struct.error, IndexError):
            return []
        return found

    def series(self, data: bytes) -> list[tuple[list[Id], list[Any]]]:
        """Return ids and results of the series of answers that `data` is, if it is nothing else."""
        found: list[tuple[list[Id], list[Any]]] = []
        position, end = 0, len(data)
        if self._partial or self.wanted or not self.takes_batches:
            return found
        try:
            while position < end:
                length, size, flags = _read_header(data, position)
                start = position + HEADER_SIZE
                position = start + length
                if length != size or position > end or flags != SERIES:
                    return []
                series = ids_and_results(self._decode_answer(data[start:position]))
                if series is None:
                    return []
                found.append(series)
        except (*UNDECODABLE, struct.error):
            return []
        return found

    def receive(self, data: bytes) -> list[Message]:
        """Return the whole messages in `data`, after what came before it.

        Raises ProtocolViolationError where it breaks a rule.
        """
        if self._partial or self.wanted:
            self._partial += data
            if self.wanted:
                self._check_patience()
                return []
            if len(self._partial) < self._needed:
                return []
            return self._parse_partial()
        return self._parse(data)

    def supply(self, buffer: Any) -> list[Message]:
        """Take the buffer that was `wanted`; return the messages that are complete with it."""
        message = self._incomplete
        assert message is not None  # noqa: S101  # something is wanted, then
        buffers: list[Any] = message.buffers  # type: ignore[assignment]
        buffers[self._missing.popleft()] = buffer
        if self._missing:
            self.wanted = buffers[self._missing[0]]
            return []
        self._incomplete = self.wanted = None
        return [message, *self._parse_partial()]

    def _parse_partial(self) -> list[Message]:
        data, self._partial = self._partial, bytearray()
        return self._parse(data)

    def _parse(self, data: bytes | bytearray) -> list[Message]:
        messages: list[Message] = []
        position, end = 0, len(data)
        # To copy a small part takes less time than to make a view of it.
        source: Any = data if end <= _SMALL else memoryview(data)
        self._needed = 0
        is_special = self._is_special
        while (start := position + HEADER_SIZE) <= end:
            length, message_length, flags = _read_header(data, position)
            if length != message_length or length > self._max_message or flags:
                self._check_header(length, message_length, flags)
            if start + length > end:
                self._needed = HEADER_SIZE + length
                break
            position = start + length
            if flags:
                messages += self._parse_series(source[start:position])
                is_special = False
                continue
            if self.takes_batches and 0 < length == message_length and data[start] in self._array:
                messages += self._parse_batch(source[start:position])
                is_special = False
                continue
            try:
                message: Message = self._decode(source[start : start + message_length])
            except UNDECODABLE as error:
                raise _no_message(source[start : start + message_length], error) from error
            is_special = message.buffers is not UNSET or length != message_length
            if is_special:
                self._attach(message, memoryview(data)[start + message_length : position])
                if self.wanted:
                    break
            messages.append(message)
        if position < end:
            self._partial += source[position:]
        self._is_special = is_special or position < end
        return messages

    def _parse_batch(self, body: Any) -> list[Message]:
        try:
            batch: list[Message] = self._decode_batch(body)
        except UNDECODABLE as error:
            raise _no_message(body, error) from error
        if not batch or any(message.buffers is not UNSET for message in batch):
            raise ProtocolViolationError(
                "a batch holds no message, or one with buffers: those travel alone"
            )
        self.sends_batches = True
        return batch

    def _parse_series(self, body: Any) -> list[Message]:
        try:
            messages = spelt_out(self._decode(body))
        except UNDECODABLE as error:
            raise _no_message(body, error) from error
        self.sends_batches = True
        return messages

    def _check_patience(self) -> None:
        """What comes while a buffer is awaited has to be kept, and that not without limit."""
        if len(self._partial) > self._max_message + HEADER_SIZE:
            raise ProtocolViolationError(
                f"{len(self._partial)} bytes of frames came before a buffer that was announced"
            )

    def _check_header(self, length: int, message_length: int, flags: int) -> None:
        if flags and not (flags == SERIES and self.takes_batches):
            problem = f"has unknown flags {flags:#x}"
        elif flags and length != message_length:
            problem = f"is a series, and has {length - message_length} bytes of buffers"
        elif message_length > length:
            problem = f"of {length} bytes holds a message of {message_length}"
        elif message_length > self._max_message:
            problem = f"announces a message of {message_length} bytes; {self._max_message} may be"
        elif length - message_length > self._max_buffers:
            problem = (
                f"announces {length - message_length} bytes of buffers; {self._max_buffers} may be"
            )
        else:
            return
        raise ProtocolViolationError(f"a frame {problem}")

    def _attach(self, message: Message, inline: memoryview) -> None:
        """Put the inline buffers into the message, and a `Wanted` for each of the others."""
        announced = [] if message.buffers is UNSET else message.buffers
        if len(announced) > MAX_BUFFER_COUNT:
            raise ProtocolViolationError(
                f"a message announces {len(announced)} buffers; {MAX_BUFFER_COUNT} may be"
            )
        apart = expected = 0
        for entry in announced:
            if type(entry) is int:
                expected += _size(entry)
            else:
                apart += _size(entry)
        if apart + expected > self._max_buffers:
            raise ProtocolViolationError(
                f"a message announces {apart + expected} bytes of buffers; "
                f"{self._max_buffers} may be"
            )
        if expected != len(inline):
            raise ProtocolViolationError(
                f"a frame holds {len(inline)} bytes of buffers, and announces {expected}"
            )
        position = 0
        for index, entry in enumerate(announced):
            if type(entry) is int:
                announced[index] = bytes(inline[position : position + entry])
                position += entry
            elif size := entry["size"]:
                announced[index] = Wanted(size, entry["via"])
                self._missing.append(index)
            else:
                announced[index] = b""  # there is nothing to wait for
        if self._missing:
            self._incomplete, self.wanted = message, announced[self._missing[0]]


_SMALL = 64 * 1024


def _no_message(body: bytes | memoryview, error: Exception) -> ProtocolViolationError:
    return ProtocolViolationError(f"a frame holds no message: {error}; it begins {shortened(body)}")


def _size(entry: Any) -> int:
    """Return the size of the buffer that is announced so."""
    if type(entry) is int and entry >= 0:
        return entry
    if type(entry) is dict:
        size, via = entry.get("size"), entry.get("via")
        if type(size) is int and (
            (via == "socket" and size >= 0) or (via == "memory" and size > 0)
        ):
            return size
    raise ProtocolViolationError(f"a message announces the buffer {shortened(entry)}")
