"""One end of the wire, host's or plugin's: bytes in, events out; no sockets, no clocks.

Both ends may call. Each numbers its own calls, and owes an answer to each of the other's:

    our call     open ──Answer──▶ gone              give_up: the answer, if it comes, is Dropped
    their call   Request ──answer or refuse──▶ gone    Cancel: an answer is owed all the same
    a stream     is a call with credit: each chunk takes one, and without credit there is none
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import chain, count, islice, repeat
from operator import attrgetter
from typing import Any, Final

import msgspec
from msgspec import UNSET, Struct

from plugkeep.errors import ProtocolViolationError, UnsendableValueError
from plugkeep.wire import messages as m
from plugkeep.wire._complaints import blame, why
from plugkeep.wire.events import (
    LEVELS,
    Answer,
    Cancel,
    Chunk,
    Credit,
    Dropped,
    Event,
    Log,
    Notification,
    Progress,
    Refusal,
    Request,
    Stop,
)
from plugkeep.wire.flow import Flow, StreamCall
from plugkeep.wire.frames import Frames
from plugkeep.wire.messages import ErrorObject, Id, Message, shortened
from plugkeep.wire.ndjson import Ndjson, Noise
from plugkeep.wire.sending import INLINE, MEMORY, Apart, Sending
from plugkeep.wire.values import pack_params, unpack, unpack_params

#: Nobody waits for longer, and no clock counts further: what is more is cut to it.
LONGEST_MS: Final = 10**12

Codec = Ndjson | Frames


class Connection:
    """Who has called whom, and what may come next.

    Sending may be prepared on any thread; `receive` and `supply` on one at a time.
    """

    def __init__(self, codec: Codec) -> None:
        self.codec = codec
        #: Our calls that await their answers, each with its waiter.
        self.calls: dict[Id, Any] = {}
        #: Their calls that await our answers; those that want a stream with its credit.
        self.serving: dict[Id, Flow | None] = {}
        self._flows: dict[Id, Flow] = {}  # of the streams among our calls
        #: Gives a file for a buffer of so many bytes to travel in; None: it has to go another way.
        self.reserve: Callable[[int], Any] = _no_file
        #: Of our calls, the next one first.
        self.numbers = count(1)
        self._encode = codec.encode
        self._quick_request, self._quick_answer = codec.quick_request, codec.quick_answer

    # --- our calls ------------------------------------------------------------------------

    def request(
        self,
        method: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        waiter: Any,
        deadline_ms: Any = UNSET,
        credit: Any = UNSET,
        within: Any = UNSET,
        *,
        as_is: bool = False,
    ) -> tuple[int, Sending]:
        """Return the number of a new call, and what is to be sent for it.

        `as_is`: the caller knows that `kwargs` hold nothing that needs a look inside.

        Raises UnsendableValueError, naming the argument.
        """
        number = next(self.numbers)
        if not kwargs and credit is within is UNSET:  # as in nearly all calls
            quick = self._quick_request(number, method, args, deadline_ms)
            if quick is not None:
                self.calls[number] = waiter
                return number, (quick, ())
        message = Message(number, method, UNSET, UNSET, UNSET, deadline_ms, credit, within)
        buffers: list[memoryview]
        try:
            if as_is:
                message.params, buffers = kwargs, []
            elif kwargs:
                (packed, values), buffers = self._pack([args, list(kwargs.values())])
                message.params = pack_params(packed, dict(zip(kwargs, values, strict=True)))
            else:
                packed, buffers = self._pack(args)
                message.params = packed or UNSET
            sending = self._with_buffers(message, buffers)
        except m.UNENCODABLE as error:
            raise blame(self.codec, method, args, kwargs, error) from None
        if credit is not UNSET:
            self._flows[number] = Flow(credit)
        self.calls[number] = waiter
        return number, sending

    def quick_stream(
        self, method: str, params: dict[str, Any], waiter: Any, credit: int
    ) -> tuple[int, bytes] | None:
        """Return what `request` does, for `params` that hold nothing which needs a look inside.

        None where they cannot be encoded: `request` tells why. For codecs of level 2.
        """
        assert isinstance(self.codec, Frames)  # noqa: S101  # see above
        number = next(self.numbers)
        frame = self.codec.quick_stream(number, method, params, credit)
        if frame is None:
            return None
        self._flows[number] = Flow(credit)
        self.calls[number] = waiter
        return number, frame

    def grant(self, number: Id, amount: int) -> Sending | None:
        """Take `amount` more chunks of a stream; None where it is over already."""
        flow = self._flows.get(number)
        if flow is None:
            return None
        flow.granted += amount
        return self.notify(m.CREDIT, id=number, n=amount)

    def cancel(self, number: Id) -> Sending:
        """Say that the answer to a call is not needed any more."""
        return self.notify(m.CANCEL, id=number)

    def give_up(self, number: Id) -> Any:
        """Wait no more for the answer to a call; return its waiter, or None if it is over."""
        if self._flows:
            self._flows.pop(number, None)
        return self.calls.pop(number, None)

    # --- their calls ----------------------------------------------------------------------

    def credit_left(self, number: Id) -> int:
        """Return how many chunks of a stream that we serve may be sent now."""
        flow = self.serving.get(number)
        return flow.left if flow else 0

    def answer(self, number: Id, result: Any) -> Sending:
        """Return what is to be sent as the result. Raises UnsendableValueError; answer otherwise,
        then.
        """
        quick = self._quick_answer(number, result)
        if quick is not None:
            del self.serving[number]
            return quick, ()
        message = Message(number)
        try:
            message.result, buffers = self._pack(result)
            sending = self._with_buffers(message, buffers)
        except m.UNENCODABLE as error:
            raise UnsendableValueError(f"the result {why(self.codec, result, error)}") from None
        del self.serving[number]
        return sending

    def answer_as_is(self, number: Id, result: Any) -> Sending:
        """Do what `answer` does, for a result that holds nothing which needs a look inside.

        For codecs of level 2.
        """
        assert isinstance(self.codec, Frames)  # noqa: S101  # see above
        frame = self.codec.quick_result(number, result)
        if frame is None:
            return self.answer(number, result)
        del self.serving[number]
        return frame, ()

    def refuse(self, number: Id | None, code: int, text: str, data: Any = UNSET) -> Sending:
        """Return what is to be sent as the reason why there is no result.

        `data` that cannot travel is left out.
        """
        if number is not None:
            self.serving.pop(number, None)
        try:
            packed, buffers = self._pack(data) if data is not UNSET else (UNSET, ())
            error = ErrorObject(code, text, UNSET if buffers else packed)
            return self._encode(Message(number, error=error)), ()
        except m.UNENCODABLE:
            text = text[:_LONGEST_TEXT].encode("utf-8", "backslashreplace").decode()
            return self._encode(Message(number, error=ErrorObject(code, text))), ()

    def chunk(self, number: Id, value: Any) -> Sending:
        """Return what is to be sent as the next value of a stream; there must be credit for it.

        Raises UnsendableValueError.
        """
        flow = self.serving[number]
        assert flow and flow.left, "no credit"  # noqa: S101, PT018  # whoever serves looks first
        try:
            packed, buffers = self._pack(value)
            message = Message(UNSET, m.CHUNK, {"id": number, "value": packed})
            sending = self._with_buffers(message, buffers)
        except m.UNENCODABLE as error:
            reason = why(self.codec, value, error)
            raise UnsendableValueError(f"the value of the stream {reason}") from None
        flow.used += 1
        return sending

    def notify(self, method: str, **params: Any) -> Sending:
        """Return what is to be sent as a notification. Raises UnsendableValueError."""
        try:
            packed, buffers = self._pack(params)
            return self._with_buffers(Message(UNSET, method, packed), buffers)
        except m.UNENCODABLE as error:
            raise UnsendableValueError(f"{method} {why(self.codec, params, error)}") from None

    # --- what comes -----------------------------------------------------------------------

    def receive(self, data: bytes) -> list[Event]:
        """Return what `data` brings about. Raises ProtocolViolationError; all is over, then."""
        return list(map(self.take, self.codec.receive(data)))

    def take_many_plain(self, data: bytes, known: AbstractSet[str]) -> list[m.PlainRequest]:
        """Return the requests that `data` is, if all are plain ones of `known` methods; else none.

        The quick way for the runner, which owes an answer to each of those that are returned. For
        a single one it does the same itself. None: nothing has happened; `receive` it.
        """
        requests = self.codec.plain_requests(data)
        ids: dict[Id, None] = dict.fromkeys(map(_id_of, requests))
        if (
            len(ids) != len(requests)
            or not ids.keys().isdisjoint(self.serving)
            or not known >= set(map(_method_of, requests))
        ):
            return []
        self.serving.update(ids)
        return requests

    def take_streams(self, requests: Sequence[StreamCall]) -> bool:
        """Owe an answer to each of these calls, which want streams; False: some id is in use."""
        ids = set(map(_id_of, requests))
        if len(ids) != len(requests) or not ids.isdisjoint(self.serving):
            return False
        for request in requests:
            self.serving[request.id] = Flow(request.credit)
        return True

    def give_up_all(self, numbers: Iterable[Id]) -> None:
        """Do what `give_up` does for each of these, which are calls under way."""
        if self._flows:
            deque(map(self.give_up, numbers), maxlen=0)
        else:
            deque(map(self.calls.pop, numbers, repeat(None)), maxlen=0)

    def quick_requests(
        self, method: str, batch: Sequence[Sequence[Any]], waiter: Any
    ) -> tuple[list[int], bytes] | None:
        """Return the numbers of new calls and what is to be sent for all, in one piece.

        None where some argument needs a look inside: then it is for `request`, one by one.
        """
        if not self.codec.packer.plain.issuperset(map(type, chain.from_iterable(batch))):
            return None
        numbers = list(islice(self.numbers, len(batch)))  # in one step, so they are consecutive
        sending = self.codec.quick_requests(numbers[0], method, batch)
        if sending is None:
            return None
        self.calls.update(dict.fromkeys(numbers, waiter))
        return numbers, sending

    def supply(self, buffer: Any) -> list[Event]:
        """Take the buffer that the codec `wanted`; return what that brings about.

        Raises ProtocolViolationError, for there may be messages behind it.
        """
        assert isinstance(self.codec, Frames)  # noqa: S101  # nobody else wants any
        return list(map(self.take, self.codec.supply(buffer)))

    def take(self, message: Message | Noise) -> Event:
        """Return what one of the messages that the codec gives brings about."""
        if type(message) is not Message:
            return message  # type: ignore[return-value]  # a Noise
        number, method = message.id, message.method
        if method is not UNSET:
            if number is UNSET:
                return self._take_notification(method, message)
            return self._take_request(number, method, message)
        error, result = message.error, message.result
        if (error is UNSET) is (result is UNSET) or number is UNSET:
            is_stop = message.cmd == "stop" and number is result is error is UNSET
            return Stop() if is_stop else self._no_message(message)
        waiter = self.calls.pop(number, _NOBODY)  # type: ignore[arg-type]  # None is nobody's
        if waiter is _NOBODY or number is None:
            return self._take_stray(number, message)
        if self._flows:
            self._flows.pop(number, None)
        return Answer(
            number,
            waiter,
            result,
            None if error is UNSET else error,
            () if message.buffers is UNSET else self._buffers(message),
        )

    def _take_stray(self, number: Id | None, message: Message) -> Event:
        if number is not None:
            return Dropped(
                f"an answer to call {shortened(number)}, which is over, was given up, or was "
                "never made"
            )
        if message.error is UNSET:
            return self._no_message(message)
        return Dropped(f"not understood by the other end: {shortened(message.error.message)}")

    def _take_request(self, number: Id | None, method: str, message: Message) -> Event:
        if number is None or number in self.serving:
            return self._take_misnumbered(number, method, message)
        params, credit, deadline = message.params, message.credit, message.deadline_ms
        if type(params) is list and credit is message.result is message.error is UNSET:
            args: list[Any] = params
            kwargs: dict[str, Any] = {}
        else:
            try:
                args, kwargs = _read_request(message)
            except ValueError as error:
                return self._refuse_request(number, method, error)
        self.serving[number] = None if credit is UNSET else Flow(credit)
        return Request(
            number,
            method,
            args,
            kwargs,
            () if message.buffers is UNSET else self._buffers(message),
            None if deadline is UNSET else max(0, min(deadline, LONGEST_MS)),
            None if credit is UNSET else credit,
            None if message.within is UNSET else message.within,
        )

    def _take_misnumbered(self, number: Id | None, method: str, message: Message) -> Event:
        if number is None:
            return self._no_message(message, "the id of a request is null")
        return Dropped(
            f"a call of {shortened(method)} numbered {shortened(number)}, which is in use"
        )

    def _refuse_request(self, number: Id, method: str, error: ValueError) -> Event:
        data, _ = self.refuse(number, m.Code.INVALID_REQUEST, f"not a request: {error}")
        return Refusal(data, f"a call of {shortened(method)} is not a request: {error}")

    def _take_notification(self, method: str, message: Message) -> Event:
        if message.result is not UNSET or message.error is not UNSET:
            return self._no_message(message)
        reader = _NOTIFICATIONS.get(method)
        if reader is None:
            return self._take_unknown(method, message)
        shape, take = reader
        try:
            params = msgspec.convert({} if message.params is UNSET else message.params, shape)
            return take(self, params, self._buffers(message))  # type: ignore[no-any-return]
        except (msgspec.ValidationError, ValueError) as error:
            return self._no_message(message, f"{method}: {error}")

    def _take_unknown(self, method: str, message: Message) -> Event:
        try:
            return Notification(method, *unpack_params(message.params), self._buffers(message))
        except ValueError as error:
            return Dropped(f"the notification {shortened(method)}: {error}")

    def _take_chunk(self, params: m.ChunkParams, buffers: Sequence[Any]) -> Event:
        waiter = self.calls.get(params.id, _NOBODY)
        if waiter is _NOBODY:
            return Dropped("")  # of a stream that was given up: to be expected
        flow = self._flows.get(params.id)
        if flow is None or not flow.left:
            raise ProtocolViolationError(
                f"call {shortened(params.id)} was sent a chunk without credit"
            )
        flow.used += 1
        return Chunk(params.id, waiter, params.value, buffers)

    def _take_credit(self, params: m.CreditParams, _: Sequence[Any]) -> Event:
        flow = self.serving.get(params.id)
        if flow is None:
            return Dropped("")  # the stream has ended meanwhile
        flow.granted += params.n
        return Credit(params.id)

    def _take_progress(self, params: m.ChunkParams, buffers: Sequence[Any]) -> Event:
        waiter = self.calls.get(params.id, _NOBODY)
        if waiter is _NOBODY:
            return Dropped("")
        return Progress(params.id, waiter, params.value, buffers)

    def _take_cancel(self, params: m.CancelParams, _: Sequence[Any]) -> Event:
        return Cancel(params.id) if params.id in self.serving else Dropped("")

    def _take_log(self, params: m.LogParams, buffers: Sequence[Any]) -> Event:
        level = params.level if params.level in LEVELS else "info"
        return Log(level, params.logger, params.message, unpack(params.fields, buffers))

    def _no_message(self, message: Message, reason: str = "") -> Event:
        """At level 1 there is a next line; at level 2 whoever sends this is broken."""
        shown = shortened(message)
        if self.codec.level == 1:
            return Noise(shown, reason or "it is neither a request nor an answer")
        raise ProtocolViolationError(f"not a message: {f'{reason}; ' if reason else ''}{shown}")

    # --- values ---------------------------------------------------------------------------

    def _buffers(self, message: Message) -> Sequence[Any]:
        """Return the buffers of `message`; at level 1 the word has no meaning."""
        buffers = message.buffers
        return () if buffers is UNSET or self.codec.level == 1 else buffers

    def _pack(self, value: Any) -> tuple[Any, list[memoryview]]:
        return self.codec.packer.pack(value)

    def _with_buffers(self, message: Message, buffers: list[memoryview]) -> Sending:
        """Encode `message`, with `buffers` in the frame or announced in it."""
        if not buffers:
            return self._encode(message), ()
        assert isinstance(self.codec, Frames)  # noqa: S101  # at level 1 packing had refused them
        self.codec.check_buffers(buffers)
        inline: list[memoryview] = []
        apart: list[Apart] = []
        message.buffers = []
        for buffer in buffers:
            if buffer.nbytes < INLINE:
                inline.append(buffer)
                message.buffers.append(buffer.nbytes)
            else:
                apart.append(piece := self._apart(buffer))
                message.buffers.append({"size": buffer.nbytes, "via": piece.via})
        return self.codec.encode(message, inline), apart

    def _apart(self, buffer: memoryview) -> Apart:
        """Choose how a large buffer is to travel."""
        if buffer.nbytes >= MEMORY and (file := self.reserve(buffer.nbytes)) is not None:
            return Apart(buffer, "memory", file)
        return Apart(buffer, "socket")


def _no_file(_: int) -> None:
    return None


def _read_request(message: Message) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments. Raises ValueError for what is no request."""
    if message.result is not UNSET or message.error is not UNSET:
        raise ValueError("it is an answer as well")
    if message.credit is not UNSET and message.credit < 1:
        raise ValueError(f"credit is {message.credit}, and must be at least 1")
    return unpack_params(message.params)


_NOBODY: Any = object()
_id_of, _method_of = attrgetter("id"), attrgetter("method")
_LONGEST_TEXT = 10_000  # of an error that could not be sent whole


#: Notifications of the wire's own: what their params are, and who takes them.
_NOTIFICATIONS: dict[str, tuple[type[Struct], Any]] = {
    m.CANCEL: (m.CancelParams, Connection._take_cancel),
    m.CHUNK: (m.ChunkParams, Connection._take_chunk),
    m.CREDIT: (m.CreditParams, Connection._take_credit),
    m.PROGRESS: (m.ChunkParams, Connection._take_progress),
    m.LOG: (m.LogParams, Connection._take_log),
}
