"""Level 1: one JSON object per line."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import repeat
from typing import Any, Final

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
    shortened,
)
from plugkeep.wire.values import Packer

#: A line longer than this, in bytes, is refused.
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
        self._plain = self.packer.plain
        self._encode = msgspec.json.Encoder().encode
        self._encode_lines = msgspec.json.Encoder().encode_lines
        self._decode = msgspec.json.Decoder(Message).decode
        self._decode_request = msgspec.json.Decoder(PlainRequest).decode
        self._decode_answer = msgspec.json.Decoder(PlainAnswer).decode

    def encode(self, message: Message) -> bytes:
        """Return `message` as a line. Raises what msgspec does for what it cannot encode."""
        line = self._encode(message)
        if len(line) > self._max_line:
            raise ValueError(f"a line of {len(line)} bytes is over the limit of {self._max_line}")
        return line + b"\n"

    def quick_request(
        self, number: int, method: str, args: Sequence[Any], deadline_ms: Any = UNSET
    ) -> bytes | None:
        """Return a request as a line, if `args` need no look inside; else None."""
        plain = self._plain
        for value in args:
            if type(value) not in plain:
                return None
        return self._quick(PlainRequest(number, method, args or [], deadline_ms))  # type: ignore[arg-type]

    def join(self, lines: Collection[bytes]) -> bytes:
        """Return lines in one piece."""
        return b"".join(lines)

    def quick_answer(self, number: Id, result: Any) -> bytes | None:
        """Return an answer in the manner of `quick_request`."""
        return self._quick(PlainAnswer(number, result)) if type(result) in self._plain else None

    def quick_requests(self, first: int, method: str, params: Sequence[Any]) -> bytes | None:
        """Return requests in one piece, numbered on from `first`, each with one of `params`.

        None where one of them cannot be encoded.
        """
        numbers = range(first, first + len(params))
        return self._all_quick(list(map(PlainRequest, numbers, repeat(method), params)))

    def quick_answers(self, numbers: Sequence[Id], results: Sequence[Any]) -> bytes | None:
        """Return answers in one piece; None where one of them cannot be encoded."""
        return self._all_quick(list(map(PlainAnswer, numbers, results)))

    def _all_quick(self, messages: Sequence[PlainRequest | PlainAnswer]) -> bytes | None:
        try:
            lines = self._encode_lines(messages)
        except UNENCODABLE:
            return None
        return None if len(lines) > self._max_line else lines

    def _quick(self, message: PlainRequest | PlainAnswer) -> bytes | None:
        try:
            line = self._encode(message)
        except UNENCODABLE:
            return None
        return None if len(line) > self._max_line else line + b"\n"

    def plain_request(self, data: bytes) -> PlainRequest | None:
        """Return the request that `data` is, if it is just that and nothing is left from before.

        Else None, and nothing has happened: `receive` it.
        """
        if self._partial or data.find(b"\n") != len(data) - 1:
            return None
        try:
            return self._decode_request(data)
        except UNDECODABLE:
            return None

    def plain_answer(self, data: bytes) -> PlainAnswer | None:
        """Return the answer that `data` is, in the manner of `plain_request`."""
        if self._partial or data.find(b"\n") != len(data) - 1:
            return None
        try:
            return self._decode_answer(data)
        except UNDECODABLE:
            return None

    def plain_requests(self, data: bytes) -> list[PlainRequest]:
        """Return the requests that `data` is, if it is nothing else, in whole lines; else none."""
        return self._plain_ones(data, self._decode_request)

    def plain_answers(self, data: bytes) -> list[PlainAnswer]:
        """Return the answers that `data` is, in the manner of `plain_requests`."""
        return self._plain_ones(data, self._decode_answer)

    def series(self, _data: bytes) -> list[Any]:
        """Return none, for here are none."""
        return []

    def _plain_ones(self, data: bytes, decode: Callable[[bytes], Any]) -> list[Any]:
        if self._partial or not data.endswith(b"\n") or len(data) > self._max_line:
            return []
        lines = data.split(b"\n")
        lines.pop()  # what is behind the last newline: nothing
        try:
            return list(map(decode, lines))
        except UNDECODABLE:
            return []

    def receive(self, data: bytes) -> list[Message | Noise]:
        """Return what `data`, after what came before it, holds of whole messages.

        Raises ProtocolViolationError for a line longer than the limit.
        """
        partial = self._partial
        if partial or not data.endswith(b"\n"):
            partial += data
            end = partial.rfind(b"\n", self._searched) + 1
            data = bytes(memoryview(partial)[:end])
            del partial[:end]
            self._searched = len(partial)
            self._check_length(partial)
        return self._decode_all(data) if data else []

    def rest(self) -> list[Message | Noise]:
        """Return what is left when nothing more will come: a last line without its newline."""
        data, self._partial, self._searched = bytes(self._partial), bytearray(), 0
        return self._decode_all(data + b"\n") if data else []

    def _decode_all(self, data: bytes) -> list[Message | Noise]:
        lines = data.split(b"\n")
        lines.pop()  # what is behind the last newline: nothing
        if len(data) > self._max_line:
            for line in lines:
                self._check_length(line)
        try:
            return list(map(self._decode, lines))
        except UNDECODABLE:
            return list(self._decode_each(lines))

    def _decode_each(self, lines: Iterable[bytes]) -> Iterator[Message | Noise]:
        for line in lines:
            if not (text := line.lstrip()):
                continue
            reason = ""
            if text[0] == _BRACE:
                try:
                    yield self._decode(text)
                except UNDECODABLE as error:
                    reason = str(error)
                else:
                    continue
            yield Noise(line.decode("utf-8", "replace"), reason)

    def _check_length(self, line: bytes | bytearray) -> None:
        if len(line) > self._max_line:
            raise ProtocolViolationError(
                f"a line is longer than {self._max_line} bytes; it begins {shortened(line)}"
            )


_BRACE = ord("{")
