"""Two ends call one another in any order, over pipes that deliver when and as much as they like.

A simple model knows what each call has to come to: one answer, unless it was given up; chunks in
order, and never more of them than were asked for; nothing left over once all is answered.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from plugkeep.wire.connection import Connection
from plugkeep.wire.events import Answer, Cancel, Chunk, Credit, Dropped, Request
from plugkeep.wire.frames import Frames
from plugkeep.wire.ndjson import Ndjson
from plugkeep.wire.sending import Apart
from plugkeep.wire.values import unpack

CODECS: dict[str, Any] = {"lines": Ndjson, "json": lambda: Frames("json"), "msgpack": Frames}
#: Some of these go in the frame, some beside it; at level 1 there are none.
BLOBS = [b"small", b"x" * 20_000, b"y" * 40_000, [b"z" * 40_000, b"w" * 50_000]]


#: How many chunks are granted at a time.
GRANT = 2


@dataclass
class Call:
    """A call as its caller knows it, and what has come of it."""

    credit: int | None
    granted: int = 0
    given_up: bool = False
    answers: list[Any] = field(default_factory=list)
    chunks: list[int] = field(default_factory=list)


@dataclass
class Owed:
    """A call as its callee knows it."""

    request: Request
    sent: int = 0
    may_send: int = 0


class End:
    def __init__(self, codec: str) -> None:
        self.connection = Connection(CODECS[codec]())
        self.connection.reserve = lambda size: size
        self.calls: dict[int, Call] = {}
        self.owed: dict[Any, Owed] = {}
        #: On the way to this end: bytes in order, and what is in the socket beside them.
        self.pipe = bytearray()
        self.socket: deque[Apart] = deque()

    def take(self, sending: Any) -> None:
        data, apart = sending
        self.pipe += data
        self.socket.extend(apart)

    def open_calls(self) -> list[int]:
        return [
            number for number, call in self.calls.items() if not call.answers and not call.given_up
        ]

    def deliver(self, count: int) -> None:
        """Let so many bytes arrive, or the next buffer, if that is awaited."""
        wanted = self.connection.codec.wanted
        if wanted:
            piece = self.socket.popleft()
            assert (piece.buffer.nbytes, piece.via) == (wanted.size, wanted.via)
            events = self.connection.supply(bytes(piece.buffer))
        else:
            data = bytes(self.pipe[:count])
            del self.pipe[:count]
            events = self.connection.receive(data)
        for event in events:
            self.note(event)

    def note(self, event: Any) -> None:
        if type(event) is Request:
            assert event.id not in self.owed
            self.owed[event.id] = Owed(event, may_send=event.credit or 0)
        elif type(event) is Answer:
            call = self.calls[event.waiter]
            assert not call.given_up
            call.answers.append(event)
        elif type(event) is Chunk:
            call = self.calls[event.waiter]
            assert not call.given_up
            assert not call.answers
            call.chunks.append(unpack(event.value, event.buffers)["index"])
        elif type(event) is Credit:
            self.owed[event.id].may_send += GRANT
        else:
            assert type(event) in (Cancel, Dropped)


class TwoEnds(RuleBasedStateMachine):
    ends: list[End]

    @initialize(codec=st.sampled_from(sorted(CODECS)))
    def connect(self, codec: str) -> None:
        self.ends = [End(codec), End(codec)]
        self.has_buffers = codec != "lines"

    sides = st.integers(0, 1)

    def value(self, data: st.DataObject) -> Any:
        return data.draw(st.sampled_from(BLOBS)) if self.has_buffers else "text"

    @rule(side=sides, credit=st.none() | st.integers(1, 3), plain=st.booleans(), data=st.data())
    def call(self, side: int, credit: int | None, plain: bool, data: st.DataObject) -> None:
        us, them = self.ends[side], self.ends[1 - side]
        args = ("text",) if plain else (self.value(data),)
        how = {} if credit is None else {"credit": credit}
        number, sending = us.connection.request("m", args, {}, len(us.calls) + 1, **how)
        assert number == len(us.calls) + 1
        us.calls[number] = Call(credit, granted=credit or 0)
        them.take(sending)

    @rule(side=sides, count=st.sampled_from([1, 2, 11, 30, 100_000]))
    def deliver(self, side: int, count: int) -> None:
        self.ends[side].deliver(count)

    def an_owed(self, side: int, data: st.DataObject) -> Owed | None:
        owed = list(self.ends[side].owed.values())
        return data.draw(st.sampled_from(owed)) if owed else None

    @rule(side=sides, error=st.booleans(), data=st.data())
    def answer(self, side: int, error: bool, data: st.DataObject) -> None:
        us, them = self.ends[side], self.ends[1 - side]
        if owed := self.an_owed(side, data):
            number = owed.request.id
            if error:
                them.take(us.connection.refuse(number, -32000, "oh"))
            else:
                them.take(us.connection.answer(number, [owed.sent, self.value(data)]))
            del us.owed[number]

    @rule(side=sides, data=st.data())
    def chunk(self, side: int, data: st.DataObject) -> None:
        us, them = self.ends[side], self.ends[1 - side]
        owed = self.an_owed(side, data)
        if owed is None:
            return
        left = us.connection.credit_left(owed.request.id)
        assert left == owed.may_send - owed.sent
        if left:
            value = {"index": owed.sent, "$value": self.value(data)}
            them.take(us.connection.chunk(owed.request.id, value))
            owed.sent += 1

    @precondition(lambda self: any(end.open_calls() for end in self.ends))
    @rule(side=sides, what=st.sampled_from(["cancel", "give up", "grant"]), data=st.data())
    def disturb(self, side: int, what: str, data: st.DataObject) -> None:
        us, them = self.ends[side], self.ends[1 - side]
        if not us.open_calls():
            return
        number = data.draw(st.sampled_from(us.open_calls()))
        call = us.calls[number]
        if what == "cancel":
            them.take(us.connection.cancel(number))
        elif what == "give up":
            assert us.connection.give_up(number) == number
            call.given_up = True
        elif sending := us.connection.grant(number, GRANT):
            assert call.credit is not None
            call.granted += GRANT
            them.take(sending)

    def teardown(self) -> None:
        if not hasattr(self, "ends"):
            return
        while any(end.pipe or end.socket or end.owed for end in self.ends):
            for side, end in enumerate(self.ends):
                while end.pipe or end.socket:
                    assert end.pipe or end.connection.codec.wanted, "buffers that nobody awaits"
                    end.deliver(len(end.pipe) // 2 + 1)
                for number in list(end.owed):
                    left = end.connection.credit_left(number)
                    owed = end.owed.pop(number)
                    assert left == owed.may_send - owed.sent
                    for _ in range(left):  # all of it may be used
                        value = {"index": owed.sent, "$value": 0}
                        self.ends[1 - side].take(end.connection.chunk(number, value))
                        owed.sent += 1
                    self.ends[1 - side].take(end.connection.answer(number, [owed.sent, None]))
        for end in self.ends:
            self.check_over(end)

    def check_over(self, end: End) -> None:
        connection = end.connection
        assert (connection.calls, connection.serving, connection._flows) == ({}, {}, {})
        assert connection.codec.wanted is None
        assert connection.receive(b"") == []
        for call in end.calls.values():
            assert len(call.answers) == (0 if call.given_up else 1)
            assert len(call.chunks) <= call.granted
            assert call.chunks == list(range(len(call.chunks)))
            if call.answers and call.answers[0].error is None:
                sent, _ = call.answers[0].result
                assert len(call.chunks) == sent


TestTwoEnds = TwoEnds.TestCase
TestTwoEnds.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
