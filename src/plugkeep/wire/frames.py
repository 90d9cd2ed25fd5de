"""Level 2: frames, each a message and the buffers that it refers to.

A frame begins with twelve bytes: the length of what follows, that of the message in it, and
flags, all little-endian. Behind the message stand its inline buffers. Others travel on a socket
beside, as raw bytes or as the descriptor of a memory file; the message announces them.
"""

from __future__ import annotations

from struct import Struct
from typing import Any, Final, Literal, NamedTuple

import msgspec
from msgspec import UNSET

from plugkeep.errors import ProtocolViolationError
from plugkeep.wire.messages import Message, shortened
from plugkeep.wire.values import Packer

HEADER: Final = Struct("<III")
HEADER_SIZE: Final = HEADER.size
#: Limits of what a peer may send, in bytes; checked before anything is allocated.
MAX_MESSAGE: Final = 64 * 1024 * 1024
MAX_BUFFERS: Final = 1024 * 1024 * 1024
MAX_BUFFER_COUNT: Final = 1024

CodecName = Literal["msgpack", "json"]
Via = Literal["socket", "memory"]

_ENCODERS: dict[str, Any] = {"msgpack": msgspec.msgpack.Encoder, "json": msgspec.json.Encoder}
_DECODERS: dict[str, Any] = {"msgpack": msgspec.msgpack.Decoder, "json": msgspec.json.Decoder}


class Wanted(NamedTuple):
    """A buffer that is to be taken from the socket before the next message can come out."""

    size: int
    via: Via


class Frames:
    """Frames in, messages out, and the other way round.

    While `wanted` is set, the next buffer has to come from the socket: `supply` it.
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
        self._max_message = max_message
        self._max_buffers = max_buffers
        self._partial = bytearray()
        self._needed = 0  # so many bytes there must be before there is more to be read
        self._incomplete: Message | None = None  # it awaits buffers
        self._encode_into = _ENCODERS[codec]().encode_into
        self.decode = _DECODERS[codec](Message).decode

    def encode(self, message: Message, inline: tuple[memoryview, ...] = ()) -> bytearray:
        """Return `message` as a frame, with `inline` behind it."""
        frame = bytearray()
        self._encode_into(message, frame, HEADER_SIZE)
        size = len(frame) - HEADER_SIZE
        if size > self._max_message:
            raise ValueError(f"a message of {size} bytes is over the limit of {self._max_message}")
        for buffer in inline:
            frame += buffer
        HEADER.pack_into(frame, 0, len(frame) - HEADER_SIZE, size, 0)
        return frame

    def append(self, message: Message, batch: bytearray) -> None:
        """Encode `message` behind what `batch` has already."""
        start = len(batch)
        batch += _ROOM
        self._encode_into(message, batch, -1)
        size = len(batch) - start - HEADER_SIZE
        if size > self._max_message:
            del batch[start:]
            raise ValueError(f"a message of {size} bytes is over the limit of {self._max_message}")
        HEADER.pack_into(batch, start, size, size, 0)

    def sole(self, data: bytes) -> Message | None:
        """Return the message that `data` is, if it is just one and nothing is left from before.

        Else None, and nothing has happened: `receive` it.
        """
        size = len(data) - HEADER_SIZE
        if self._partial or size <= 0 or self.wanted:
            return None
        length, message_length, flags = HEADER.unpack_from(data)
        if length != size or message_length != size or flags:
            return None
        try:
            message: Message = self.decode(memoryview(data)[HEADER_SIZE:])
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return None
        return message if message.buffers is UNSET else None

    def receive(self, data: bytes) -> list[Message]:
        """Return the whole messages in `data`, after what came before it.

        Raises ProtocolViolationError where it breaks a rule.
        """
        if self._partial:
            self._partial += data
            if self.wanted or len(self._partial) < self._needed:
                return []
            data, self._partial = self._partial, bytearray()  # type: ignore[assignment]
        elif self.wanted:
            self._partial += data
            return []
        return self._parse(data)

    def supply(self, buffer: Any) -> list[Message]:
        """Take the buffer that was `wanted`; return the messages that are complete with it."""
        message = self._incomplete
        assert message is not None  # noqa: S101  # something is wanted, then
        buffers: list[Any] = message.buffers  # type: ignore[assignment]
        buffers[next(i for i, each in enumerate(buffers) if type(each) is Wanted)] = buffer
        self.wanted = next((each for each in buffers if type(each) is Wanted), None)
        if self.wanted:
            return []
        self._incomplete = None
        rest, self._partial = self._partial, bytearray()
        return [message, *self._parse(rest)]

    def _parse(self, data: bytes | bytearray) -> list[Message]:
        messages: list[Message] = []
        view = memoryview(data)
        position, end = 0, len(data)
        while end - position >= HEADER_SIZE:
            length, message_length, flags = HEADER.unpack_from(data, position)
            if message_length > self._max_message or length != message_length or flags:
                self._check_header(length, message_length, flags)
            start = position + HEADER_SIZE
            if start + length > end:
                break
            try:
                message: Message = self.decode(view[start : start + message_length])
            except (msgspec.MsgspecError, ValueError, RecursionError) as error:
                raise ProtocolViolationError(
                    f"a frame holds no message: {error}; it begins "
                    f"{shortened(view[start : start + message_length])}"
                ) from error
            position = start + length
            if message.buffers is not UNSET or length != message_length:
                self._attach(message, view[start + message_length : position])
                if self.wanted:
                    self._incomplete = message
                    break
            messages.append(message)
        self._keep(view[position:])
        return messages

    def _keep(self, rest: memoryview) -> None:
        """Keep the beginning of a frame, and note how much of it there must be to go on."""
        self._needed = 0
        if rest:
            self._partial += rest
            if len(rest) >= HEADER_SIZE and not self.wanted:
                self._needed = HEADER_SIZE + HEADER.unpack_from(rest)[0]

    def _check_header(self, length: int, message_length: int, flags: int) -> None:
        if flags:
            problem = f"has unknown flags {flags:#x}"
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
        announced = () if message.buffers is UNSET else message.buffers
        if len(announced) > MAX_BUFFER_COUNT:
            raise ProtocolViolationError(
                f"a message announces {len(announced)} buffers; {MAX_BUFFER_COUNT} may be"
            )
        buffers: list[Any] = []
        position = total = 0
        for each in announced:
            wanted = _announced(each)
            total += wanted.size
            if total > self._max_buffers:
                raise ProtocolViolationError(
                    f"a message announces over {self._max_buffers} bytes of buffers"
                )
            if type(each) is int:
                buffers.append(bytes(inline[position : position + each]))
                position += each
            else:
                buffers.append(wanted)
        if position != len(inline):
            raise ProtocolViolationError(
                f"a frame holds {len(inline)} bytes of buffers, and announces {position}"
            )
        message.buffers = buffers
        self.wanted = next((each for each in buffers if type(each) is Wanted), None)


_ROOM = bytes(HEADER_SIZE)


def _announced(entry: Any) -> Wanted:
    if type(entry) is int and entry >= 0:
        return Wanted(entry, "socket")
    if type(entry) is dict:
        size, via = entry.get("size"), entry.get("via")
        if type(size) is int and size >= 0 and via in ("socket", "memory"):
            return Wanted(size, via)
    raise ProtocolViolationError(f"a message announces the buffer {shortened(entry)}")
