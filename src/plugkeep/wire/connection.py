"""One end of the wire, host's or plugin's: bytes in, events out; no sockets, no clocks.

Both ends may call. Each numbers its own calls, and owes an answer to each of the other's:

    our call     open ──Answer──▶ gone              give_up: the answer, if it comes, is Dropped
    their call   Request ──answer or refuse──▶ gone    Cancel: an answer is owed all the same
    a stream     is a call with credit: each chunk takes one, and without credit there is none
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import UNSET, Struct

from plugkeep.errors import ProtocolViolationError, UnsendableValueError
from plugkeep.wire import messages as m
from plugkeep.wire.frames import Frames, Via
from plugkeep.wire.messages import ErrorObject, Id, Message, shortened
from plugkeep.wire.ndjson import Ndjson, Noise
from plugkeep.wire.values import Unsendable, pack_params, unpack_params

#: Buffers up to this size travel in the frame, those from the next on as a memory file, all
#: between on the socket.
INLINE: Final = 32 * 1024
MEMORY: Final = 8 * 1024 * 1024

Codec = Ndjson | Frames


class Apart(NamedTuple):
    """A buffer that is to be sent on the socket, right after the frame that announces it."""

    buffer: memoryview
    via: Via


#: What is to be sent: a line or frame, and the buffers that follow it on the socket.
Sending = tuple[bytearray, Sequence[Apart]]


class Request(Struct, gc=False):
    """The other end calls. It is owed one `answer` or `refuse`."""

    id: Id
    method: str
    args: list[Any]
    kwargs: dict[str, Any]
    #: What values in the arguments refer to; empty for nearly all calls.
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


class Cancel(Struct, gc=False):
    """The other end has lost interest in a call that we are serving. Answer it all the same."""

    id: Id


class Credit(Struct, gc=False):
    """The other end takes more chunks of a stream that we are serving."""

    id: Id


class Log(Struct, gc=False):
    """A log record of the plugin's."""

    level: str
    logger: str
    message: str
    fields: dict[str, Any]


class Notification(Struct, gc=False):
    """One that is not the wire's own."""

    method: str
    args: list[Any]
    kwargs: dict[str, Any]


class Stop(Struct, gc=False):
    """The stop message of level 0."""


class Refusal(Struct, gc=False):
    """A request that could not be read; `data` is the answer, to be sent."""

    data: bytearray
    reason: str


class Dropped(Struct, gc=False):
    """Something that came and makes no difference, but should be logged."""

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


class Connection:
    """Who has called whom, and what may come next.

    Sending may be prepared on any thread; `receive` and `supply` on one at a time.
    """

    def __init__(self, codec: Codec) -> None:
        self.codec = codec
        #: Our calls that await their answers, each with its waiter.
        self.calls: dict[Id, Any] = {}
        #: Their calls that await our answers, with the credit that is left; None: no stream.
        self.serving: dict[Id, int | None] = {}
        self._credit: dict[Id, int] = {}  # that we have given for our calls, and is not used up
        self._numbers = count(1)
        self._issued = 0
        self._is_plain = codec.packer.is_plain
        self._encode = codec.encode

    # --- our calls ------------------------------------------------------------------------

    def request(
        self,
        method: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        waiter: Any,
        *,
        deadline_ms: Any = UNSET,
        credit: Any = UNSET,
        within: Any = UNSET,
    ) -> tuple[int, Sending]:
        """Return the number of a new call, and what is to be sent for it.

        Raises UnsendableValueError, naming the argument.
        """
        number = next(self._numbers)
        params = args if args and not kwargs else pack_params(args, kwargs)
        message = Message(number, method, params, UNSET, UNSET, deadline_ms, credit, within)
        try:
            if self._is_plain(args) and (not kwargs or self._is_plain(kwargs.values())):
                sending: Sending = self._encode(message), ()
            else:
                (args, values), buffers = self._pack([args, list(kwargs.values())])
                message.params = pack_params(args, dict(zip(kwargs, values, strict=True)))
                sending = self._with_buffers(message, buffers)
        except _UNSENDABLE as error:
            raise self._blame(method, args, kwargs, error) from None
        if credit is not UNSET:
            self._credit[number] = credit
        self._issued = number
        self.calls[number] = waiter
        return number, sending

    def grant(self, number: Id, amount: int) -> Sending | None:
        """Take `amount` more chunks of a stream; None where it is over already."""
        if number not in self.calls:
            return None
        self._credit[number] += amount
        return self.notify(m.CREDIT, id=number, n=amount)

    def cancel(self, number: Id) -> Sending:
        """Say that the answer to a call is not needed any more."""
        return self.notify(m.CANCEL, id=number)

    def give_up(self, number: Id) -> Any:
        """Wait no more for the answer to a call; return its waiter, or None if it is over."""
        self._credit.pop(number, None)
        return self.calls.pop(number, None)

    # --- their calls ----------------------------------------------------------------------

    def answer(self, number: Id, result: Any) -> Sending:
        """Return what is to be sent as the result. Raises UnsendableValueError; answer otherwise,
        then.
        """
        message = Message(number, UNSET, UNSET, result)
        try:
            if self._is_plain((result,)):
                sending: Sending = self._encode(message), ()
            else:
                message.result, buffers = self._pack(result)
                sending = self._with_buffers(message, buffers)
        except _UNSENDABLE as error:
            raise UnsendableValueError(f"the result {_why(error)}") from None
        del self.serving[number]
        return sending

    def refuse(self, number: Id | None, code: int, text: str, data: Any = UNSET) -> Sending:
        """Return what is to be sent as the reason why there is no result."""
        if number is not None:
            self.serving.pop(number, None)
        try:
            return self._encode(Message(number, error=ErrorObject(code, text, data))), ()
        except _UNSENDABLE:
            return self._encode(Message(number, error=ErrorObject(code, ascii(text)[:10_000]))), ()

    def chunk(self, number: Id, value: Any) -> Sending:
        """Return what is to be sent as the next value of a stream; there must be credit for it.

        Raises UnsendableValueError.
        """
        credit = self.serving[number]
        assert credit, "no credit"  # noqa: S101  # whoever serves looks first
        try:
            packed, buffers = self._pack(value)
            message = Message(UNSET, m.CHUNK, {"id": number, "value": packed})
            sending = self._with_buffers(message, buffers)
        except _UNSENDABLE as error:
            raise UnsendableValueError(f"the value of the stream {_why(error)}") from None
        self.serving[number] = credit - 1
        return sending

    def notify(self, method: str, **params: Any) -> Sending:
        """Return what is to be sent as a notification. Raises UnsendableValueError."""
        try:
            packed, buffers = self._pack(params)
            return self._with_buffers(Message(UNSET, method, packed), buffers)
        except _UNSENDABLE as error:
            raise UnsendableValueError(f"{method} {_why(error)}") from None

    # --- what comes -----------------------------------------------------------------------

    def receive(self, data: bytes) -> list[Event]:
        """Return what `data` brings about. Raises ProtocolViolationError; all is over, then."""
        return [self._take(message) for message in self.codec.receive(data)]

    def supply(self, buffer: Any) -> list[Event]:
        """Take the buffer that the codec `wanted`; return what that brings about."""
        assert isinstance(self.codec, Frames)  # noqa: S101  # nobody else wants any
        return [self._take(message) for message in self.codec.supply(buffer)]

    def _take(self, message: Message | Noise) -> Event:
        if type(message) is Noise:
            return message
        method, number = message.method, message.id
        if method is UNSET:
            if number is not UNSET:
                return self._take_answer(message)
            return Stop() if message.cmd == "stop" else self._no_message(message)
        if number is UNSET:
            return self._take_notification(method, message)
        if number is None or number in self.serving:
            return Dropped(f"a request numbered {number!r}, which is in use: {method!r}")
        return self._take_request(number, method, message)

    def _take_answer(self, message: Message) -> Event:
        number, error = message.id, message.error
        if (error is UNSET) == (message.result is UNSET):
            return self._no_message(message)
        if number is None:
            return Dropped(f"could not be read by the other end: {shortened(error.message)}")  # type: ignore[union-attr]
        waiter = self.calls.pop(number, _NOBODY)
        if waiter is _NOBODY:
            known = type(number) is int and 0 < number <= self._issued
            what = "is over, or was given up" if known else "was never made"
            return Dropped(f"an answer to call {number!r}, which {what}")
        if self._credit:
            self._credit.pop(number, None)
        return Answer(
            number,
            waiter,
            message.result,
            None if error is UNSET else error,
            () if message.buffers is UNSET else message.buffers,
        )

    def _take_request(self, number: Id, method: str, message: Message) -> Event:
        deadline, credit = message.deadline_ms, message.credit
        try:
            if message.result is not UNSET or message.error is not UNSET:
                raise ValueError("it is a request and an answer at once")  # noqa: TRY301
            if credit is not UNSET and credit < 1:
                raise ValueError(f"credit is {credit}, and must be at least 1")  # noqa: TRY301
            args, kwargs = unpack_params(message.params)
        except ValueError as error:
            data, _ = self.refuse(number, m.Code.INVALID_REQUEST, f"not a request: {error}")
            return Refusal(data, f"a call of {method!r} is not a request: {error}")
        self.serving[number] = None if credit is UNSET else credit
        return Request(
            number,
            method,
            args,
            kwargs,
            () if message.buffers is UNSET else message.buffers,
            None if deadline is UNSET else deadline,
            None if credit is UNSET else credit,
            None if message.within is UNSET else message.within,
        )

    def _take_notification(self, method: str, message: Message) -> Event:
        reader = _NOTIFICATIONS.get(method)
        try:
            if reader is None:
                return Notification(method, *unpack_params(message.params))
            shape, take = reader
            params = msgspec.convert({} if message.params is UNSET else message.params, shape)
        except (msgspec.ValidationError, ValueError) as error:
            return self._no_message(message, f"{method}: {error}")
        return take(self, params, message)

    def _take_chunk(self, params: _Chunk, message: Message) -> Event:
        number = params.id
        waiter = self.calls.get(number, _NOBODY)
        if waiter is _NOBODY:
            return Dropped("")  # of a stream that was given up: to be expected
        left = self._credit.get(number, 0)
        if not left:
            raise ProtocolViolationError(f"call {number!r} was sent a chunk without credit")
        self._credit[number] = left - 1
        buffers = () if message.buffers is UNSET else message.buffers
        return Chunk(number, waiter, params.value, buffers)

    def _take_credit(self, params: _Credit, _: Message) -> Event:
        credit = self.serving.get(params.id)
        if credit is None:
            return Dropped("")  # the stream has ended meanwhile
        self.serving[params.id] = min(credit + params.n, _MOST_CREDIT)
        return Credit(params.id)

    def _take_progress(self, params: _Chunk, message: Message) -> Event:
        waiter = self.calls.get(params.id, _NOBODY)
        return Dropped("") if waiter is _NOBODY else Progress(params.id, waiter, params.value)

    def _take_cancel(self, params: _Cancel, _: Message) -> Event:
        return Cancel(params.id) if params.id in self.serving else Dropped("")

    def _take_log(self, params: _Log, _: Message) -> Event:
        return Log(params.level, params.logger, params.message, params.fields)

    def _no_message(self, message: Message, reason: str = "") -> Event:
        """At level 1 there is a next line; at level 2 whoever sends this is broken."""
        shown = shortened(message)
        if self.codec.level == 1:
            return Noise(shown, reason or "it is neither a request nor an answer")
        raise ProtocolViolationError(f"not a message: {reason or shown}")

    # --- values ---------------------------------------------------------------------------

    def _pack(self, value: Any) -> tuple[Any, list[memoryview]]:
        return self.codec.packer.pack(value)

    def _with_buffers(self, message: Message, buffers: list[memoryview]) -> Sending:
        """Encode `message`, with `buffers` in the frame or announced in it."""
        if not buffers:
            return self._encode(message), ()
        assert isinstance(self.codec, Frames)  # noqa: S101  # at level 1 packing had refused them
        routes = [(buffer, _route(buffer)) for buffer in buffers]
        message.buffers = [_announcement(buffer, via) for buffer, via in routes]
        inline = tuple(buffer for buffer, via in routes if via is None)
        apart = [Apart(buffer, via) for buffer, via in routes if via is not None]
        return self.codec.encode(message, inline), apart

    def _blame(
        self, method: str, args: Sequence[Any], kwargs: Mapping[str, Any], error: Exception
    ) -> UnsendableValueError:
        """Say which argument cannot travel."""
        named = [*((f"argument {i + 1}", value) for i, value in enumerate(args)), *kwargs.items()]
        for name, value in named:
            try:
                packed, _ = self.codec.packer.pack(value)
                self._encode(Message(params=packed))
            except _UNSENDABLE as its_own:
                what = name if name.startswith("argument ") else f"argument {name!r}"
                return UnsendableValueError(f"{what} of {method!r} {_why(its_own)}")
        return UnsendableValueError(f"the arguments of {method!r}: {_why(error)}")


_NOBODY: Any = object()
_MOST_CREDIT = 1_000_000_000
_UNSENDABLE = (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError)


class _Cancel(Struct):
    id: Id


class _Chunk(Struct):
    id: Id
    value: Any


class _Credit(Struct):
    id: Id
    n: int


class _Log(Struct):
    message: str
    level: str = "info"
    logger: str = ""
    fields: dict[str, Any] = {}


_NOTIFICATIONS: dict[str, tuple[type[Struct], Any]] = {
    m.CANCEL: (_Cancel, Connection._take_cancel),
    m.CHUNK: (_Chunk, Connection._take_chunk),
    m.CREDIT: (_Credit, Connection._take_credit),
    m.PROGRESS: (_Chunk, Connection._take_progress),
    m.LOG: (_Log, Connection._take_log),
}


def _route(buffer: memoryview) -> Via | None:
    if buffer.nbytes < INLINE:
        return None
    return "socket" if buffer.nbytes < MEMORY else "memory"


def _announcement(buffer: memoryview, via: Via | None) -> Any:
    return buffer.nbytes if via is None else {"size": buffer.nbytes, "via": via}


def _why(error: Exception) -> str:
    if isinstance(error, Unsendable):
        where = "".join(f"[{key!r}]" for key in error.where)
        return f"{f'at {where} ' if where else ''}{error.reason}"
    return f"cannot be encoded: {error}"
