"""Who may say what, and when: two ends without any I/O, and peers that break the rules."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import pytest
from msgspec import UNSET

from plugkeep.errors import ProtocolViolationError, UnsendableValueError
from plugkeep.wire.connection import Connection
from plugkeep.wire.events import (
    Answer,
    Cancel,
    Chunk,
    Credit,
    Dropped,
    Log,
    Notification,
    Progress,
    Refusal,
    Request,
    Stop,
)
from plugkeep.wire.frames import HEADER_SIZE, Frames, Wanted
from plugkeep.wire.messages import Code
from plugkeep.wire.ndjson import Ndjson, Noise
from plugkeep.wire.sending import Apart
from plugkeep.wire.values import unpack, unpack_arguments

CODECS: dict[str, Any] = {
    "lines": Ndjson,
    "msgpack": lambda: Frames("msgpack"),
    "json": lambda: Frames("json"),
}


class Pair:
    """Two ends, and what is said between them."""

    def __init__(self, codec: str) -> None:
        self.us = Connection(CODECS[codec]())
        self.them = Connection(CODECS[codec]())

    def call(self, *args: Any, **how: Any) -> tuple[int, Request]:
        number, (data, _) = self.us.request("m", args, how.pop("kwargs", {}), "waiter", **how)
        (request,) = self.them.receive(bytes(data))
        assert type(request) is Request
        return number, request


@pytest.fixture(params=CODECS)
def pair(request: pytest.FixtureRequest) -> Pair:
    return Pair(request.param)


def hears(receiver: Connection, sending: Any) -> Any:
    """Return the one event that `sending` is to `receiver`."""
    data, apart = sending
    events = receiver.receive(bytes(data))
    for each in apart:
        events += receiver.supply(each.buffer)
    (event,) = events
    return event


def line(**members: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", **members}).encode() + b"\n"


def framed(**members: Any) -> bytes:
    body = line(**members)[:-1]
    size = len(body).to_bytes(4, "little")
    return size + size + bytes(4) + body


def written(sending: Any) -> Any:
    """Return the message as a peer in another language reads it; at level 1 or in JSON frames."""
    data = bytes(sending[0])
    if data.startswith(b'{"'):
        return json.loads(data)
    return json.loads(data[HEADER_SIZE : HEADER_SIZE + int.from_bytes(data[4:8], "little")])


# --- calls ------------------------------------------------------------------------------------


def test_a_call_is_answered_once(pair: Pair) -> None:
    number, request = pair.call(1, "two", None)
    assert (request.id, request.method) == (number, "m")
    assert (request.args, request.kwargs) == ([1, "two", None], {})
    assert (request.deadline_ms, request.credit, request.within) == (None, None, None)
    assert request.buffers == ()
    answer = pair.them.answer(request.id, {"a": [1]})
    assert hears(pair.us, answer) == Answer(number, "waiter", {"a": [1]}, None, ())
    again = hears(pair.us, answer)
    assert type(again) is Dropped
    assert f"an answer to call {number}, which is over" in again.reason
    assert not pair.us.calls
    assert not pair.them.serving


@pytest.mark.parametrize("result", [None, False, 0, "", [], {}])
def test_any_result_counts(pair: Pair, result: Any) -> None:
    _, request = pair.call()
    assert hears(pair.us, pair.them.answer(request.id, result)).result == result


def test_an_error_is_an_answer(pair: Pair) -> None:
    number, request = pair.call()
    answer = hears(pair.us, pair.them.refuse(request.id, Code.RAISED, "oh", {"type": "ValueError"}))
    assert (answer.id, answer.error.code, answer.error.message) == (number, -32000, "oh")
    assert answer.error.data == {"type": "ValueError"}
    assert not pair.them.serving


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((), {}),
        ((1,), {}),
        ((), {"a": 1}),
        ((1, [2]), {"b": {"c": 3}}),
        ((), {"$args": 1, "$$": 2}),
    ],
)
def test_arguments_arrive(pair: Pair, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    _, request = pair.call(*args, kwargs=kwargs)
    assert (request.args, request.kwargs) == (list(args), kwargs)


def test_a_call_without_arguments_has_no_params() -> None:
    us = Connection(Ndjson())
    assert written(us.request("$/ping", (), {}, None)[1]) == {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "$/ping",
    }


def test_what_comes_with_a_call_arrives(pair: Pair) -> None:
    _, request = pair.call(deadline_ms=1500, credit=8, within=3)
    assert (request.deadline_ms, request.credit, request.within) == (1500, 8, 3)


def test_both_ends_number_their_own_calls(pair: Pair) -> None:
    number, request = pair.call("ours")
    other, sending = pair.them.request("n", ("theirs",), {}, "their waiter")
    assert number == other == 1
    back = hears(pair.us, sending)
    assert back.args == ["theirs"]
    assert hears(pair.them, pair.us.answer(back.id, "to them")).waiter == "their waiter"
    assert hears(pair.us, pair.them.answer(request.id, "to us")).waiter == "waiter"


def test_answers_come_in_any_order(pair: Pair) -> None:
    numbers = [pair.call(index)[0] for index in range(50)]
    for number in reversed(numbers):
        assert hears(pair.us, pair.them.answer(number, number)).result == number
    assert not pair.us.calls


def test_what_was_given_up_is_dropped_when_it_comes(pair: Pair) -> None:
    number, request = pair.call()
    assert pair.us.give_up(number) == "waiter"
    assert pair.us.give_up(number) is None
    dropped = hears(pair.us, pair.them.answer(request.id, 5))
    assert type(dropped) is Dropped
    assert "was given up" in dropped.reason


def test_a_cancelled_call_is_still_to_be_answered(pair: Pair) -> None:
    number, request = pair.call()
    assert hears(pair.them, pair.us.cancel(number)) == Cancel(request.id)
    assert request.id in pair.them.serving
    answer = hears(pair.us, pair.them.refuse(request.id, Code.CANCELLED, "cancelled"))
    assert answer.error.code == -32800
    assert hears(pair.them, pair.us.cancel(number)) == Dropped("")


@pytest.mark.parametrize("how", [{}, {"deadline_ms": 5}])
def test_a_plain_call_goes_the_short_way(pair: Pair, how: dict[str, Any]) -> None:
    number, (data, _) = pair.us.request("m", (1,), {}, "waiter", **how)
    (request,) = pair.them.take_many_plain(bytes(data), {"m"})
    assert (request.id, request.method, request.params) == (number, "m", [1])
    assert request == pair.them.codec.plain_request(bytes(data))
    assert request.deadline_ms == how.get("deadline_ms", UNSET)
    assert pair.them.take_many_plain(bytes(data), {"m"}) == []  # its number is in use
    assert hears(pair.us, pair.them.answer(request.id, 2)).result == 2


@pytest.mark.parametrize("how", [{"credit": 5}, {"within": 5}])
def test_any_other_call_goes_the_long_way(pair: Pair, how: dict[str, Any]) -> None:
    _, (data, _) = pair.us.request("m", (1,), {}, None, **how)
    assert pair.them.codec.plain_request(bytes(data)) is None
    assert pair.them.take_many_plain(bytes(data), {"m"}) == []
    assert not pair.them.serving


def test_a_call_of_what_is_not_known_goes_the_long_way(pair: Pair) -> None:
    _, (data, _) = pair.us.request("m", (1,), {}, None)
    assert pair.them.take_many_plain(bytes(data), {"n"}) == []
    assert not pair.them.serving


# --- streams ----------------------------------------------------------------------------------


def test_a_stream_has_no_more_chunks_than_credit(pair: Pair) -> None:
    number, request = pair.call(credit=2)
    for index in range(2):
        chunk = hears(pair.us, pair.them.chunk(request.id, index))
        assert chunk == Chunk(number, "waiter", index, ())
    assert pair.them.credit_left(request.id) == 0
    with pytest.raises(AssertionError, match="no credit"):
        pair.them.chunk(request.id, 2)
    grant = pair.us.grant(number, 3)
    assert hears(pair.them, grant) == Credit(request.id)
    assert pair.them.credit_left(request.id) == 3
    assert hears(pair.us, pair.them.chunk(request.id, 2)).value == 2
    assert hears(pair.us, pair.them.answer(request.id, None)).id == number
    assert pair.us.grant(number, 1) is None
    assert pair.them.credit_left(request.id) == 0


@pytest.mark.parametrize("credit", [1, 3])
def test_chunks_without_credit_are_a_violation(pair: Pair, credit: int) -> None:
    _, request = pair.call(credit=credit)
    chunks = [pair.them.chunk(request.id, index) for index in range(credit)]
    for chunk in chunks:
        hears(pair.us, chunk)
    with pytest.raises(ProtocolViolationError, match="call 1 was sent a chunk without credit"):
        hears(pair.us, chunks[0])


def test_a_chunk_of_a_call_that_is_no_stream_is_a_violation(pair: Pair) -> None:
    number, _ = pair.call()
    chunk = pair.them.notify("$/chunk", id=number, value=1)
    with pytest.raises(ProtocolViolationError, match="without credit"):
        hears(pair.us, chunk)


def test_chunks_of_what_was_given_up_are_passed_over(pair: Pair) -> None:
    number, request = pair.call(credit=1)
    pair.us.give_up(number)
    assert hears(pair.us, pair.them.chunk(request.id, 1)) == Dropped("")
    assert hears(pair.us, pair.them.notify("$/chunk", id=99, value=1)) == Dropped("")
    assert hears(pair.us, pair.them.notify("$/chunk", id=number, value=1)) == Dropped("")


def test_credit_for_what_is_over_is_passed_over(pair: Pair) -> None:
    number, request = pair.call(credit=1)
    late = pair.us.grant(number, 1)
    pair.them.answer(request.id, None)
    assert hears(pair.them, late) == Dropped("")
    assert not pair.them.serving


def test_credit_for_a_call_that_is_no_stream_is_passed_over(pair: Pair) -> None:
    _, request = pair.call()
    assert hears(pair.them, pair.us.notify("$/credit", id=request.id, n=5)) == Dropped("")
    assert pair.them.serving[request.id] is None


def test_immense_credit_is_credit() -> None:
    them = Connection(Ndjson())
    immense = 10**30
    (request,) = them.receive(line(id=1, method="m", credit=immense))
    assert type(request) is Request
    them.receive(line(method="$/credit", params={"id": 1, "n": immense}))
    assert them.credit_left(1) == 2 * immense
    assert written(them.chunk(1, "x"))["params"] == {"id": 1, "value": "x"}


# --- notifications ----------------------------------------------------------------------------


def test_notifications_arrive(pair: Pair) -> None:
    number, _ = pair.call()
    assert hears(pair.us, pair.them.notify("$/progress", id=number, value=[0.5])) == Progress(
        number, "waiter", [0.5], ()
    )
    log = pair.them.notify("$/log", level="warning", logger="shop", message="oh", fields={"a": 1})
    assert hears(pair.us, log) == Log("warning", "shop", "oh", {"a": 1})
    assert hears(pair.us, pair.them.notify("$/log", message="oh", level="loud")) == Log(
        "info", "", "oh", {}
    )
    other = hears(pair.us, pair.them.notify("$/future", a=1))
    assert other == Notification("$/future", [], {"a": 1}, ())
    assert hears(pair.us, pair.them.notify("$/progress", id=99, value=1)) == Dropped("")


MISTYPED = {
    "cancel without id": ("$/cancel", {}),
    "cancel without params": ("$/cancel", None),
    "cancel by position": ("$/cancel", [1]),
    "cancel of true": ("$/cancel", {"id": True}),
    "cancel of null": ("$/cancel", {"id": None}),
    "chunk without value": ("$/chunk", {"id": 1}),
    "chunk of a fraction": ("$/chunk", {"id": 1.5, "value": 1}),
    "credit of nothing": ("$/credit", {"id": 1, "n": 0}),
    "credit below nothing": ("$/credit", {"id": 1, "n": -5}),
    "credit of a fraction": ("$/credit", {"id": 1, "n": 1.5}),
    "credit without n": ("$/credit", {"id": 1}),
    "log without message": ("$/log", {"level": "info"}),
    "log of a number": ("$/log", {"message": 5}),
    "log with mistyped fields": ("$/log", {"message": "a", "fields": []}),
    "progress without value": ("$/progress", {"id": 1}),
    "progress of a text": ("$/progress", "text"),
}


@pytest.mark.parametrize(("method", "params"), MISTYPED.values(), ids=MISTYPED)
def test_a_mistyped_notification_of_the_wire(method: str, params: Any) -> None:
    (noise,) = Connection(Ndjson()).receive(line(method=method, params=params))
    assert type(noise) is Noise
    assert noise.reason.startswith(f"{method}: ")
    with pytest.raises(ProtocolViolationError, match=f"not a message: {re.escape(method)}: "):
        Connection(Frames("json")).receive(framed(method=method, params=params))


@pytest.mark.parametrize("params", [5, "text", None, {"$args": 5}])
def test_other_notifications_may_have_any_params_without_harm(params: Any) -> None:
    (event,) = Connection(Frames("json")).receive(framed(method="$/future", params=params))
    assert type(event) is Dropped
    assert "$/future" in event.reason


# --- what is no message -----------------------------------------------------------------------

NO_MESSAGES: dict[str, dict[str, Any]] = {
    "nothing at all": {},
    "only an id": {"id": 1},
    "null as id": {"id": None},
    "null as id of a request": {"id": None, "method": "m"},
    "null as id of a result": {"id": None, "result": 1},
    "result and error": {"id": 1, "result": 1, "error": {"code": 1, "message": "a"}},
    "result without id": {"result": 1},
    "error without id": {"error": {"code": 1, "message": "a"}},
    "notification and answer": {"method": "m", "result": 1},
    "another command": {"cmd": "restart"},
    "params alone": {"params": []},
}


@pytest.mark.parametrize("members", NO_MESSAGES.values(), ids=NO_MESSAGES)
def test_what_is_no_message(members: dict[str, Any]) -> None:
    lines = Connection(Ndjson())
    lines.request("m", (), {}, "waiter")
    (noise,) = lines.receive(line(**members))
    assert type(noise) is Noise
    assert noise.reason
    assert lines.calls == {1: "waiter"}  # and the call is still to be answered
    frames = Connection(Frames("json"))
    frames.request("m", (), {}, "waiter")
    with pytest.raises(ProtocolViolationError, match="not a message"):
        frames.receive(framed(**members))


def test_what_is_no_message_is_shown_shortened() -> None:
    members = {"params": ["x" * 1_000_000, [[[[[[1]]]]]]], "method": "y" * 1_000_000, "result": 1}
    with pytest.raises(ProtocolViolationError) as raised:
        Connection(Frames("json")).receive(framed(**members))
    assert len(str(raised.value)) < 1000
    (event,) = Connection(Frames("json")).receive(framed(id="z" * 1_000_000, result=1))
    assert type(event) is Dropped
    assert len(event.reason) < 1000


@pytest.mark.parametrize("how", [line, framed])
def test_the_stop_message_of_level_0(how: Any) -> None:
    codec = Ndjson() if how is line else Frames("json")
    assert Connection(codec).receive(how(cmd="stop")) == [Stop()]
    assert Connection(Ndjson()).receive(b'{"cmd":"stop"}\n') == [Stop()]


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"params": 5}, "params is int, not an array or an object"),
        ({"params": None}, "params is NoneType"),
        ({"params": {"$args": {}}}, r"\$args must be an array"),
        ({"params": {"$args": [], "a": 1}}, "nothing beside them"),
        ({"credit": 0}, "credit is 0, and must be at least 1"),
        ({"credit": -1, "params": []}, "credit is -1"),
        ({"result": 1}, "it is an answer as well"),
        ({"error": {"code": 1, "message": ""}, "params": []}, "it is an answer as well"),
    ],
    ids=lambda value: repr(value).partition(" object at ")[0],
)
@pytest.mark.parametrize("how", [line, framed])
def test_a_request_that_is_none_is_refused(how: Any, members: dict[str, Any], reason: str) -> None:
    them = Connection(Ndjson() if how is line else Frames("json"))
    (refusal,) = them.receive(how(id="x", method="m", **members))
    assert type(refusal) is Refusal
    answer = written((refusal.data, ()))
    assert (answer["id"], answer["error"]["code"]) == ("x", -32600)
    assert re.search(reason, answer["error"]["message"])
    assert not them.serving


def test_a_number_in_use_is_not_taken_twice(pair: Pair) -> None:
    _, (data, _) = pair.us.request("m", (1,), {}, None)
    first, second = pair.them.receive(bytes(data) * 2)
    assert type(first) is Request
    assert type(second) is Dropped
    assert "numbered 1, which is in use" in second.reason
    pair.them.answer(1, None)
    assert type(pair.them.receive(bytes(data))[0]) is Request


def test_numbers_and_texts_are_different_ids() -> None:
    them = Connection(Ndjson())
    requests = them.receive(
        line(id=1, method="m") + line(id="1", method="m") + line(id=-1, method="m")
    )
    assert [request.id for request in requests if type(request) is Request] == [1, "1", -1]
    assert written(them.answer("1", 5)) == {"jsonrpc": "2.0", "id": "1", "result": 5}
    assert written(them.answer(1, 5)) == {"jsonrpc": "2.0", "id": 1, "result": 5}


@pytest.mark.parametrize("number", ["1", 0, -1, 2, 10**30, "", "x"])
def test_answers_to_what_was_never_asked_are_dropped(number: Any) -> None:
    us = Connection(Ndjson())
    us.request("m", (), {}, "waiter")
    (event,) = us.receive(line(id=number, result=1))
    assert type(event) is Dropped
    assert us.calls == {1: "waiter"}


def test_an_error_without_an_id_answers_nothing() -> None:
    us = Connection(Frames("json"))
    (event,) = us.receive(framed(id=None, error={"code": -32700, "message": "parse error"}))
    assert event == Dropped("not understood by the other end: 'parse error'")


@pytest.mark.parametrize(("sent", "read"), [(-5, 0), (0, 0), (5, 5), (10**30, 10**12)], ids=str)
def test_deadlines_are_cut_to_what_a_clock_can_count(sent: int, read: int) -> None:
    (request,) = Connection(Ndjson()).receive(line(id=1, method="m", deadline_ms=sent))
    assert type(request) is Request
    assert request.deadline_ms == read


def test_unknown_members_are_passed_over() -> None:
    (request,) = Connection(Frames("json")).receive(framed(id=1, method="m", future={"a": [1]}))
    assert type(request) is Request


def test_buffers_mean_nothing_at_level_1() -> None:
    (request,) = Connection(Ndjson()).receive(
        line(id=1, method="m", params=[{"$buffer": 0}], buffers=[5])
    )
    assert type(request) is Request
    assert unpack_arguments(request.args, request.kwargs, request.buffers) == ([{"$buffer": 0}], {})


# --- buffers ----------------------------------------------------------------------------------

SMALL, MEDIUM, LARGE = bytes(20 * 1024), bytes(100 * 1024), bytes(33 * 1024 * 1024)


@pytest.mark.parametrize("codec", ["msgpack", "json"])
def test_each_buffer_goes_its_way(codec: str) -> None:
    pair = Pair(codec)
    pair.us.reserve = lambda size: f"a file of {size} bytes"
    _, (data, apart) = pair.us.request("m", (MEDIUM, SMALL), {"c": {"$x": [LARGE]}}, None)
    assert apart == [
        Apart(memoryview(MEDIUM), "socket"),
        Apart(memoryview(LARGE), "memory", f"a file of {len(LARGE)} bytes"),
    ]
    assert pair.them.receive(bytes(data)) == []
    codec_of_theirs = pair.them.codec
    assert codec_of_theirs.wanted == Wanted(len(MEDIUM), "socket")
    assert pair.them.supply(apart[0].buffer) == []
    assert codec_of_theirs.wanted == Wanted(len(LARGE), "memory")
    (request,) = pair.them.supply(apart[1].buffer)
    assert type(request) is Request
    args, kwargs = unpack_arguments(request.args, request.kwargs, request.buffers)
    assert args == [MEDIUM, SMALL]
    assert kwargs == {"c": {"$x": [LARGE]}}


def test_the_largest_go_by_the_socket_where_there_is_no_file_for_them() -> None:
    _, (_, apart) = Pair("msgpack").us.request("m", (LARGE,), {}, None)
    assert apart == [Apart(memoryview(LARGE), "socket")]


def test_messages_stay_in_order_behind_one_that_waits() -> None:
    pair = Pair("msgpack")
    _, (first, apart) = pair.us.request("m", (MEDIUM,), {}, None)
    _, (second, _) = pair.us.request("n", (), {}, None)
    assert pair.them.receive(bytes(first) + bytes(second)) == []
    requests = pair.them.supply(apart[0].buffer)
    assert [each.method for each in requests if type(each) is Request] == ["m", "n"]


@pytest.mark.parametrize("codec", ["msgpack", "json"])
def test_answers_chunks_progress_and_logs_may_have_buffers(codec: str) -> None:
    pair = Pair(codec)
    number, request = pair.call(credit=1)
    value = {"$a": [SMALL, MEDIUM]}
    for sending in (
        pair.them.chunk(request.id, value),
        pair.them.notify("$/progress", id=number, value=value),
    ):
        event = hears(pair.us, sending)
        assert unpack(event.value, event.buffers) == value
    log = hears(pair.us, pair.them.notify("$/log", message="a", fields=value))
    assert log.fields == value
    answer = hears(pair.us, pair.them.answer(request.id, value))
    assert unpack(answer.result, answer.buffers) == value


# --- what cannot be sent ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("codec", "args", "kwargs", "text"),
    [
        ("lines", (1, b"x"), {}, r"argument 2 of 'm' is bytes, which level 1 of the wire cannot"),
        ("lines", (), {"a": [{"b": b"x"}]}, r"argument 'a' of 'm' at \[0\]\['b'\] is bytes, which"),
        ("lines", (math.nan,), {}, "argument 1 of 'm' is nan, and JSON has no such number"),
        ("json", ([1.0, math.inf],), {}, r"argument 1 of 'm' at \[1\] is inf, and JSON has no"),
        ("msgpack", (0, [2**64]), {}, r"argument 2 of 'm' at \[0\] is an integer that 64 bits"),
        ("msgpack", ("\ud800",), {}, "argument 1 of 'm' is a text with half a character"),
        ("lines", (), {"a": {"b": "\ud800"}}, r"argument 'a' of 'm' at \['b'\] is a text with"),
        ("msgpack", (1, object()), {}, "argument 2 of 'm' is of type builtins.object, which"),
        ("msgpack", ({None: 1},), {}, "argument 1 of 'm' has a key of type NoneType"),
        ("msgpack", (), {"\ud800": 1}, "the arguments of 'm': cannot be encoded"),
        ("msgpack", ([b"x" * 20_000] * 1025,), {}, "the arguments of 'm': cannot be encoded: 1025"),
    ],
    ids=lambda value: repr(value).partition(" object at ")[0][:30],
)
def test_an_argument_that_cannot_travel_is_named(
    codec: str, args: tuple[Any, ...], kwargs: dict[str, Any], text: str
) -> None:
    us = Connection(CODECS[codec]())
    with pytest.raises(UnsendableValueError, match=f"^{text}"):
        us.request("m", args, kwargs, None)
    assert not us.calls


def test_what_holds_itself_is_named(pair: Pair) -> None:
    ring: list[Any] = []
    ring.append(ring)
    with pytest.raises(
        UnsendableValueError, match="argument 2 of 'm' is nested too deeply, or wit"
    ):
        pair.us.request("m", (1, ring), {}, None)


def test_a_result_that_cannot_travel_leaves_the_answer_owed(pair: Pair) -> None:
    _, request = pair.call(credit=1)
    with pytest.raises(UnsendableValueError, match=r"^the result at \['a'\] is of type"):
        pair.them.answer(request.id, {"a": object()})
    with pytest.raises(UnsendableValueError, match=r"^the value of the stream is of type"):
        pair.them.chunk(request.id, object())
    assert pair.them.credit_left(request.id) == 1
    hears(pair.us, pair.them.refuse(request.id, Code.UNSENDABLE, "no"))
    assert not pair.us.calls


def test_a_message_over_the_limit_is_not_sent() -> None:
    us = Connection(Frames(max_message=1000))
    with pytest.raises(
        UnsendableValueError, match=r"argument 2 of 'm' cannot be encoded: .* limit"
    ):
        us.request("m", (1, "x" * 1000), {}, None)
    them = Connection(Ndjson(max_line=1000))
    them.receive(line(id=1, method="m"))
    with pytest.raises(
        UnsendableValueError, match=r"the result cannot be encoded: .* limit of 1000"
    ):
        them.answer(1, "x" * 1000)


@pytest.mark.parametrize(
    "data",
    [object(), {"a": math.nan}, b"x" * 100_000, "\ud800"],
    ids=lambda value: repr(value).partition(" object at ")[0],
)
@pytest.mark.parametrize("text", ["oh", "\ud800"], ids=ascii)
def test_a_refusal_can_always_be_sent(pair: Pair, text: str, data: Any) -> None:
    number, request = pair.call()
    answer = hears(pair.us, pair.them.refuse(request.id, Code.RAISED, text, data))
    assert (answer.id, answer.error.code) == (number, -32000)
    assert answer.error.message in ("oh", "\\ud800")


def test_an_immense_reason_is_cut() -> None:
    them = Connection(Ndjson(max_line=100_000))
    answer = written(them.refuse(1, Code.RAISED, "x" * 1_000_000, ["y" * 1_000_000]))
    assert answer["error"] == {"code": -32000, "message": "x" * 10_000}


@pytest.mark.parametrize(
    "value",
    [{1: "a"}, {"k": {2.5: None}}],
    ids=lambda value: repr(value).partition(" object at ")[0],
)
def test_keys_are_texts_at_every_level(pair: Pair, value: Any) -> None:
    beside = () if pair.us.codec.level == 1 else (bytes(20_000),)
    _, request = pair.call(value)
    assert request.args == [json.loads(json.dumps(value))]
    _, request = pair.call(value, *beside)
    assert unpack_arguments(request.args, {}, request.buffers)[0][0] == json.loads(
        json.dumps(value)
    )
