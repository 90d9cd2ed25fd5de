"""Level 1: one JSON object per line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from plugkeep.errors import ProtocolViolationError
from plugkeep.wire.messages import Message, shortened
from plugkeep.wire.values import Packer

#: A line that has not ended after so many bytes is refused.
MAX_LINE: Final = 64 * 1024 * 1024


class Noise(msgspec.Struct, frozen=True):
    """A line that is no message. `reason` says why; "" where it does not even look like one."""

    line: str
    reason: str = ""


class Ndjson:
    """Lines in, messages out, and the other way round.

    What is no message comes out as `Noise`: a plugin that prints has not broken anything, for
    the next newline is a new beginning.
    """

    level = 1
    packer = Packer(binary=False, allow_buffers=False)
    #: What has to be supplied before anything more is read; at this level nothing ever.
    wanted = None

    def __init__(self, max_line: int = MAX_LINE) -> None:
        self._max_line = max_line
        self._partial = bytearray()
        self._searched = 0  # of the partial line so much is known to hold no newline
        self._encoder = msgspec.json.Encoder()
        self._decoder = msgspec.json.Decoder(Message)
        self._encode_into = self._encoder.encode_into
        self.decode = self._decoder.decode

    def encode(self, message: Message) -> bytearray:
        """Return `message` as a line. Raises what msgspec does for what it cannot encode."""
        line = bytearray()
        self._encode_into(message, line)
        line += b"\n"
        return line

    def append(self, message: Message, batch: bytearray) -> None:
        """Encode `message` behind what `batch` has already."""
        self._encode_into(message, batch, -1)
        batch += b"\n"

    def sole(self, data: bytes) -> Message | None:
        """Return the message that `data` is, if it is just one and nothing is left from before.

        Else None, and nothing has happened: `receive` it.
        """
        if self._partial or data.find(b"\n") != len(data) - 1:
            return None
        try:
            return self.decode(data)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return None

    def receive(self, data: bytes) -> list[Message | Noise]:
        """Return what `data`, after what came before it, holds of whole messages.

        Raises ProtocolViolationError for a line longer than the limit.
        """
        if self._partial:
            self._partial += data
            end = self._partial.rfind(b"\n", self._searched) + 1
            if not end:
                self._searched = len(self._partial)
                self._check_length()
                return []
            data = bytes(self._partial[:end])
            del self._partial[:end]
        else:
            end = data.rfind(b"\n") + 1
            self._partial += data[end:]
            data = data[:end]
        self._searched = len(self._partial)
        self._check_length()
        return self._decode_all(data) if data else []

    def rest(self) -> list[Message | Noise]:
        """Return what is left when nothing more will come: a last line without its newline."""
        data, self._partial = bytes(self._partial), bytearray()
        return self._decode_all(data) if data.strip() else []

    def _decode_all(self, lines: bytes) -> list[Message | Noise]:
        try:
            return self._decoder.decode_lines(lines)  # type: ignore[return-value]
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return list(self._decode_each(lines.split(b"\n")))

    def _decode_each(self, lines: Iterable[bytes]) -> Iterator[Message | Noise]:
        for line in lines:
            if not line or line.isspace():
                continue
            try:
                yield self.decode(line)
            except (msgspec.MsgspecError, ValueError, RecursionError) as error:
                looks_like_one = line.lstrip()[:1] == b"{"
                yield Noise(line.decode("utf-8", "replace"), str(error) if looks_like_one else "")

    def _check_length(self) -> None:
        if len(self._partial) > self._max_line:
            raise ProtocolViolationError(
                f"a line is longer than {self._max_line} bytes; it begins {shortened(self._partial)}"
            )
