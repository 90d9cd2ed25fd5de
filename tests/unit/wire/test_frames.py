"""Level 2: frames in any pieces, their buffers, and every way in which they can lie."""

from __future__ import annotations

import json
import struct
import tracemalloc
from typing import Any

import msgspec
import pytest

from plugkeep.errors import ProtocolViolationError
from plugkeep.wire.frames import HEADER_SIZE, MAX_BUFFER_COUNT, CodecName, Frames, Wanted
from plugkeep.wire.messages import Message, PlainRequest
from plugkeep.wire.series import MAX_SERIES

CODECS: list[CodecName] = ["msgpack", "json"]
KIB, MIB = 1024, 1024 * 1024


def encoded(value: Any, codec: str) -> bytes:
    return msgspec.msgpack.encode(value) if codec == "msgpack" else json.dumps(value).encode()


def frame(value: Any, *inline: bytes, codec: str = "json", flags: int = 0) -> bytes:
    body = value if type(value) is bytes else encoded(value, codec)
    beside = b"".join(inline)
    return struct.pack("<III", len(body) + len(beside), len(body), flags) + body + beside


def notice(name: str, **members: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": name, **members}


def by_socket(size: int) -> dict[str, Any]:
    return {"size": size, "via": "socket"}


def by_memory(size: int) -> dict[str, Any]:
    return {"size": size, "via": "memory"}


def names(messages: list[Message]) -> list[Any]:
    return [message.method for message in messages]


# --- pieces -----------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", CODECS)
def test_frames_cut_at_every_byte(codec: CodecName) -> None:
    whole = b"".join(
        [
            frame(notice("a"), codec=codec),
            frame(notice("b", params=[{"$buffer": 0}], buffers=[3, 0]), b"abc", codec=codec),
            frame(notice("c", params=["x" * 20]), codec=codec),
        ]
    )
    for cut in range(len(whole) + 1):
        frames = Frames(codec)
        messages = frames.receive(whole[:cut]) + frames.receive(whole[cut:])
        assert names(messages) == ["a", "b", "c"]
        assert messages[1].buffers == [b"abc", b""]


@pytest.mark.parametrize("codec", CODECS)
def test_frames_byte_by_byte(codec: CodecName) -> None:
    whole = frame(notice("a", buffers=[2]), b"xy", codec=codec) + frame(notice("b"), codec=codec)
    frames = Frames(codec)
    came = [(i, each) for i in range(len(whole)) for each in frames.receive(whole[i : i + 1])]
    assert [(i, message.method) for i, message in came] == [
        (len(frame(notice("a", buffers=[2]), b"xy", codec=codec)) - 1, "a"),
        (len(whole) - 1, "b"),
    ]


def test_nothing_is_nothing() -> None:
    frames = Frames()
    assert frames.receive(b"") == []
    assert frames.receive(frame(notice("a"), codec="msgpack")[:5]) == []
    assert frames.receive(b"") == []


@pytest.mark.parametrize("size", [16 * KIB, 1000])
def test_a_large_message_in_small_pieces_costs_its_own_size_and_little_more(size: int) -> None:
    whole = frame(notice("a", params=["x" * (16 * MIB)]), codec="msgpack")
    pieces = [whole[start : start + size] for start in range(0, len(whole), size)]
    frames = Frames()
    tracemalloc.start()
    try:
        messages = [message for piece in pieces for message in frames.receive(piece)]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert names(messages) == ["a"]
    assert peak < 3.5 * len(whole)  # what has come, its growing, and what is decoded from it


REQUEST = {"jsonrpc": "2.0", "id": 1, "method": "a", "params": [1]}
ANSWER = {"jsonrpc": "2.0", "id": 1, "result": [1]}


@pytest.mark.parametrize("codec", CODECS)
def test_a_plain_request_and_a_plain_answer_go_the_short_way(codec: CodecName) -> None:
    frames = Frames(codec)
    request = frames.plain_request(frame(REQUEST, codec=codec))
    assert request is not None
    assert (request.id, request.method, request.params) == (1, "a", [1])
    answer = frames.plain_answer(frame(ANSWER, codec=codec))
    assert answer is not None
    assert (answer.id, answer.result) == (1, [1])
    assert names(frames.receive(frame(REQUEST, codec=codec))) == ["a"]  # nothing is left behind


@pytest.mark.parametrize(
    "data",
    [
        b"",
        frame(REQUEST)[:-1],
        frame(ANSWER) + b"\0",
        frame(REQUEST) * 2,
        frame({**REQUEST, "buffers": [1]}, b"x"),
        frame({**ANSWER, "buffers": []}),
        frame({**REQUEST, "credit": 1}),
        frame({**REQUEST, "id": "1"}),
        frame({**REQUEST, "params": {}}),
        frame({**ANSWER, "error": {"code": 1, "message": ""}}),
        frame(notice("a")),
        frame({"cmd": "stop"}),
        frame(b"no json"),
        struct.pack("<III", 0, 0, 0),
        frame(REQUEST)[:8] + b"\1\0\0\0" + frame(REQUEST)[12:],
    ],
    ids=lambda data: repr(data)[-30:],
)
def test_anything_else_does_not_go_the_short_way(data: bytes) -> None:
    assert Frames("json").plain_request(data) is None
    assert Frames("json").plain_answer(data) is None


def test_nothing_goes_the_short_way_past_what_came_before() -> None:
    frames = Frames("json")
    frames.receive(frame(notice("a"))[:-1])
    assert frames.plain_request(frame(REQUEST)) is None
    waiting = Frames("json")
    waiting.receive(frame(notice("a", buffers=[by_socket(5)])))
    assert waiting.plain_answer(frame(ANSWER)) is None


@pytest.mark.parametrize("codec", CODECS)
def test_what_is_sent_is_what_is_received(codec: CodecName) -> None:
    frames = Frames(codec)
    batch = bytearray()
    for name in ("a", "b", "c"):
        batch += frames.encode(Message(method=name, params=["x"]))
    buffers = [memoryview(b"abc"), memoryview(b"")]
    batch += frames.encode(Message(method="d", buffers=[3, 0]), buffers)
    messages = frames.receive(bytes(batch))
    assert names(messages) == ["a", "b", "c", "d"]
    assert messages[3].buffers == [b"abc", b""]


# --- lies -------------------------------------------------------------------------------------

MESSAGE = encoded(notice("a"), "json")
LIES = {
    "4 GiB": (struct.pack("<III", 2**32 - 1, 2**32 - 1, 0), "announces a message of 4294967295"),
    "4 GiB of buffers": (struct.pack("<III", 2**32 - 1, 5, 0), "4294967290 bytes of buffers"),
    "a message over the limit": (
        struct.pack("<III", 64 * MIB + 1, 64 * MIB + 1, 0),
        "announces a message of 67108865 bytes; 67108864 may be",
    ),
    "buffers over the limit": (struct.pack("<III", 1024 * MIB + 2, 1, 0), "bytes of buffers"),
    "message longer than the frame": (
        struct.pack("<III", 10, 11, 0),
        "of 10 bytes holds a message of 11",
    ),
    "flags": (struct.pack("<III", 10, 10, 1), "unknown flags 0x1"),
    "high flags": (struct.pack("<III", 10, 10, 2**31), "unknown flags 0x80000000"),
    "empty": (struct.pack("<III", 0, 0, 0), "holds no message"),
    "no message but bytes": (frame(b"", b"abc"), "holds no message"),
    "buffers not announced": (frame(MESSAGE, b"abc"), "holds 3 bytes of buffers, and announces 0"),
    "more than announced": (frame(notice("a", buffers=[2]), b"abc"), "holds 3 .* announces 2"),
    "less than announced": (frame(notice("a", buffers=[4]), b"abc"), "holds 3 .* announces 4"),
    "announced but not there": (frame(notice("a", buffers=[1])), "holds 0 .* announces 1"),
    "too many buffers": (
        frame(notice("a", buffers=[0] * (MAX_BUFFER_COUNT + 1))),
        "announces 1025 buffers; 1024 may be",
    ),
    "too large buffers": (
        frame(notice("a", buffers=[by_socket(512 * MIB)] * 3)),
        "announces 1610612736 bytes of buffers; 1073741824 may be",
    ),
    "immense buffers": (frame(notice("a", buffers=[by_memory(2**80)])), "bytes of buffers"),
    "message cut short": (frame(MESSAGE[:-1]), "holds no message"),
    "two messages": (frame(MESSAGE + MESSAGE), "holds no message"),
    "NUL": (frame(b"\0"), "holds no message"),
    "byte order mark": (frame(b"\xef\xbb\xbf" + MESSAGE), "holds no message"),
    "not UTF-8": (frame(MESSAGE.replace(b'"a"', b'"\xff"')), "holds no message"),
    "half a character": (frame(MESSAGE.replace(b'"a"', b'"\\ud800"')), "holds no message"),
    "array": (frame([notice("a")]), "holds no message"),
    "wrong version": (frame({"jsonrpc": "1.0", "method": "a"}), "Invalid value '1.0'"),
    "NaN": (frame(b'{"jsonrpc":"2.0","id":1,"result":NaN}'), "holds no message"),
    "1e400": (frame(b'{"jsonrpc":"2.0","id":1,"result":1e400}'), "Number out of range"),
    "too deep": (frame(b'{"result":' + b"[" * 5000 + b"]" * 5000 + b"}"), "holds no message"),
}


@pytest.mark.parametrize(("data", "rule"), LIES.values(), ids=LIES)
def test_a_frame_that_lies_is_refused(data: bytes, rule: str) -> None:
    with pytest.raises(ProtocolViolationError, match=rule) as raised:
        Frames("json").receive(data)
    assert len(str(raised.value)) < 1000
    with pytest.raises(ProtocolViolationError, match=rule):
        in_pieces = Frames("json")
        for position in range(len(data)):
            in_pieces.receive(data[position : position + 1])


@pytest.mark.parametrize(
    "entry",
    [-1, True, 1.0, None, "5", [], {}, {"size": 5}, {"via": "socket"}, by_socket(-1), by_memory(0),
     by_memory(-1), {"size": True, "via": "socket"}, {"size": 5, "via": ["socket"]},
     {"size": 5.0, "via": "socket"}, {"size": 5, "via": "inline"}, {"size": "5", "via": "memory"}],
    ids=lambda value: repr(value).partition(" object at ")[0],
)  # fmt: skip
def test_a_buffer_that_is_announced_wrongly(entry: Any) -> None:
    with pytest.raises(ProtocolViolationError, match="announces the buffer"):
        Frames("json").receive(frame(notice("a", buffers=[entry])))


MSGPACK_LIES = {
    "extension": b"\xd4\x05a",
    "a text of 4 GiB": b"\xdb\xff\xff\xff\xff",
    "an array of 4 G": b"\xdd\xff\xff\xff\xff",
    "arrays of 4 G in one another": b"\xdd\xff\xff\xff\xff" * 500,
    "a map of 4 G": b"\xdf\xff\xff\xff\xff",
    "a map as key": b"\x81\x80\x01",
    "no such code": b"\xc1",
    "not UTF-8": b"\xa1\xff",
    "too deep": b"\x91" * 5000 + b"\xc0",
    "a moment that is none": b"\xc7\x0c\xff" + b"\xff" * 12,
}


@pytest.mark.parametrize("result", MSGPACK_LIES.values(), ids=MSGPACK_LIES)
def test_msgpack_that_lies_is_refused(result: bytes) -> None:
    body = msgspec.msgpack.encode({"jsonrpc": "2.0", "id": 1})
    body = bytes([body[0] + 1]) + body[1:] + msgspec.msgpack.encode("result") + result
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolViolationError, match="holds no message"):
            Frames().receive(frame(body))
        assert tracemalloc.get_traced_memory()[1] < MIB
    finally:
        tracemalloc.stop()


def test_limits_are_checked_before_anything_is_kept() -> None:
    frames = Frames(max_message=100, max_buffers=1000)
    with pytest.raises(ProtocolViolationError, match="a message of 101 bytes; 100 may be"):
        frames.receive(struct.pack("<III", 101, 101, 0))
    with pytest.raises(ProtocolViolationError, match="1001 bytes of buffers; 1000 may be"):
        Frames(max_message=100, max_buffers=1000).receive(struct.pack("<III", 1101, 100, 0))


def test_what_is_too_large_is_not_sent() -> None:
    frames = Frames(max_message=100, max_buffers=1000)
    with pytest.raises(ValueError, match="over the limit of 100"):
        frames.encode(Message(method="x" * 100))
    with pytest.raises(ValueError, match="1001 bytes of buffers are over the limit of 1000"):
        frames.check_buffers([memoryview(bytes(1001))])
    with pytest.raises(ValueError, match="1025 buffers are over the limit of 1024"):
        frames.check_buffers([memoryview(b"")] * 1025)
    assert frames.quick_request(1, "x" * 100, ()) is None
    assert frames.quick_answer(1, "x" * 100) is None


# --- buffers from the socket ------------------------------------------------------------------


def test_a_message_waits_for_its_buffers_and_those_behind_it_for_the_message() -> None:
    frames = Frames("json")
    first = frame(notice("a", buffers=[by_socket(5), 2, by_memory(7)]), b"in")
    assert frames.receive(first + frame(notice("b")) + frame(notice("c"))[:7]) == []
    assert frames.wanted == Wanted(5, "socket")
    assert frames.receive(frame(notice("c"))[7:]) == []
    assert frames.supply(b"hello") == []
    assert frames.wanted == Wanted(7, "memory")
    view = memoryview(b"1234567")
    messages = frames.supply(view)
    assert names(messages) == ["a", "b", "c"]
    assert messages[0].buffers == [b"hello", b"in", view]
    assert frames.wanted is None
    assert names(frames.receive(frame(notice("d")))) == ["d"]


def test_one_after_the_other_may_wait() -> None:
    frames = Frames("json")
    waiting = frame(notice("a", buffers=[by_socket(1)]))
    assert frames.receive(waiting * 3 + frame(notice("b"))) == []
    assert names(frames.supply(b"1")) == ["a"]
    assert frames.wanted == Wanted(1, "socket")
    assert names(frames.supply(b"2")) == ["a"]
    assert names(frames.supply(b"3")) == ["a", "b"]
    assert frames.wanted is None


def test_nothing_waits_for_no_bytes() -> None:
    frames = Frames("json")
    (message,) = frames.receive(frame(notice("a", buffers=[by_socket(0), 0])))
    assert message.buffers == [b"", b""]
    assert frames.wanted is None


def test_many_buffers_are_supplied_one_by_one() -> None:
    frames = Frames("json")
    frames.receive(frame(notice("a", buffers=[by_socket(1)] * MAX_BUFFER_COUNT)))
    messages: list[Message] = []
    for index in range(MAX_BUFFER_COUNT):
        assert messages == []
        messages = frames.supply(index)
    assert messages[0].buffers == list(range(MAX_BUFFER_COUNT))


def test_what_comes_while_a_buffer_is_awaited_is_bounded() -> None:
    frames = Frames("json", max_message=1000)
    frames.receive(frame(notice("a", buffers=[by_socket(1)])))
    with pytest.raises(ProtocolViolationError, match="came before a buffer that was announced"):
        for _ in range(1000):
            frames.receive(frame(notice("b")))


def test_a_violation_behind_a_message_that_waited() -> None:
    frames = Frames("json")
    frames.receive(frame(notice("a", buffers=[by_socket(1)])) + struct.pack("<III", 5, 5, 9))
    with pytest.raises(ProtocolViolationError, match="unknown flags"):
        frames.supply(b"x")


def test_the_header_is_twelve_bytes_little_endian() -> None:
    data = Frames("json").encode(Message(method="a"), [memoryview(b"xyz")])
    body = data[HEADER_SIZE:-3]
    assert data[:12] == bytes([len(body) + 3, 0, 0, 0, len(body), 0, 0, 0, 0, 0, 0, 0])
    assert json.loads(body) == {"jsonrpc": "2.0", "method": "a"}


# --- many at once -----------------------------------------------------------------------------

ANSWERS = [{"jsonrpc": "2.0", "id": number, "result": number} for number in range(3)]
REQUESTS = [{**REQUEST, "id": number} for number in range(3)]


def test_a_read_that_is_nothing_but_plain_messages_is_taken_at_once() -> None:
    requests = Frames("json").plain_requests(b"".join(map(frame, REQUESTS)))
    assert [(each.id, each.method, each.params) for each in requests] == [
        (number, "a", [1]) for number in range(3)
    ]
    answers = Frames("json").plain_answers(b"".join(map(frame, ANSWERS)))
    assert [(each.id, each.result) for each in answers] == [(0, 0), (1, 1), (2, 2)]


def test_a_read_with_anything_else_in_it_is_not() -> None:
    whole = b"".join(map(frame, ANSWERS))
    for cut in range(1, len(whole)):
        if cut % (len(whole) // 3):
            assert Frames("json").plain_answers(whole[:cut]) == [], cut
    for other in (REQUESTS[0], {**ANSWERS[0], "buffers": []}, {"id": 1, "error": None}):
        assert Frames("json").plain_answers(whole + frame(other)) == []
    codec = Frames("json")
    codec.receive(whole[:5])
    assert codec.plain_answers(whole) == []


# --- batches ----------------------------------------------------------------------------------


def batching(codec: CodecName = "msgpack") -> Frames:
    frames = Frames(codec)
    frames.takes_batches = True
    return frames


@pytest.mark.parametrize("codec", CODECS)
def test_a_batch_cut_at_every_byte_among_other_frames(codec: CodecName) -> None:
    whole = b"".join(
        [
            frame(notice("a", params=[{"$buffer": 0}], buffers=[3]), b"abc", codec=codec),
            frame([notice("b"), notice("c", params=["x" * 20])], codec=codec),
            frame([notice("d")], codec=codec),
            frame(notice("e", params=[{"$buffer": 0}], buffers=[3]), b"abc", codec=codec),
        ]
    )
    for cut in range(len(whole) + 1):
        frames = batching(codec)
        messages = frames.receive(whole[:cut]) + frames.receive(whole[cut:])
        assert names(messages) == ["a", "b", "c", "d", "e"]


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(
    "ids", [list(range(40)), list(range(40, 0, -1)), list(map(str, range(40)))]
)
def test_plain_answers_in_one_piece(codec: CodecName, ids: list[Any]) -> None:
    results = ["x" * n for n in range(40)]
    sender, reader = batching(codec), batching(codec)
    for batches in (False, True):
        sender.sends_batches = batches
        data = sender.quick_answers(ids, results)
        assert data is not None
        read = [(each.id, each.result) for each in reader.plain_answers(data + data)]
        assert read == [*zip(ids, results, strict=True)] * 2
        assert reader.plain_answers(data[:-1]) == reader.plain_answers(data + b"x") == []
        received = [(each.id, each.result) for each in reader.receive(data)]
        assert received == [*zip(ids, results, strict=True)]
    assert reader.sends_batches, "whoever has received one may send some"


@pytest.mark.parametrize("codec", CODECS)
def test_plain_requests_in_one_piece(codec: CodecName) -> None:
    params = [[n, "x" * n] for n in range(40)]
    expected = [PlainRequest(7 + n, "echo", params[n]) for n in range(40)]
    sender, reader = batching(codec), batching(codec)
    for batches in (False, True):
        sender.sends_batches = batches
        data = sender.quick_requests(7, "echo", params)
        assert data is not None
        assert reader.plain_requests(data + data) == expected * 2
        assert reader.plain_requests(data[:-1]) == reader.plain_requests(data + b"x") == []
        received = [PlainRequest(m.id, m.method, m.params) for m in reader.receive(data)]
        assert received == expected
    assert reader.sends_batches, "whoever has received one may send some"


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("count", [1, 2, 40])
def test_frames_that_are_joined_say_the_same(codec: CodecName, count: int) -> None:
    requests = [PlainRequest(n, "echo", [n, "x" * n]) for n in range(count)]
    for batches in (False, True):
        sender, reader = batching(codec), batching(codec)
        sender.sends_batches = batches
        frames = [sender.quick_request(each.id, "echo", each.params) for each in requests]
        joined = sender.join(frames)
        assert reader.plain_requests(joined) == requests
        assert reader.sends_batches is (batches and count > 1), "a batch of several, and no other"


def test_frames_that_are_too_much_for_a_batch_stay_as_they_are() -> None:
    sender = Frames(max_message=100)
    sender.sends_batches = True
    frames = [sender.quick_request(n, "echo", ["x" * 20]) for n in range(3)]
    assert sender.join(frames) == b"".join(frames)


def test_what_cannot_be_encoded_spoils_its_batch_only() -> None:
    for batches in (False, True):
        frames = batching()
        frames.sends_batches = batches
        for ids in ([1, 2], [2, 1]):
            assert frames.quick_answers(ids, ["fine", 2**64]) is None
        assert frames.quick_requests(1, "echo", [["fine"], [2**64]]) is None


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(
    "batch",
    [[], [[notice("a")]], [1], [notice("a"), None], [notice("a", buffers=[0])]],
    ids=["empty", "nested", "number", "null", "buffers"],
)
def test_what_is_no_batch_is_refused(codec: CodecName, batch: list[Any]) -> None:
    frames = batching(codec)
    data = frame(batch, codec=codec)
    answer = frame({"jsonrpc": "2.0", "id": 1, "result": 1}, codec=codec)
    assert frames.plain_answers(data) == frames.plain_requests(data) == []
    assert frames.plain_answers(data + answer) == frames.plain_answers(answer + data) == []
    with pytest.raises(ProtocolViolationError, match=r"a (batch|frame) holds no message"):
        frames.receive(data)


@pytest.mark.parametrize("codec", CODECS)
def test_a_batch_that_was_not_agreed_to_is_refused(codec: CodecName) -> None:
    data = frame([notice("a")], codec=codec)
    assert Frames(codec).plain_requests(data) == []
    with pytest.raises(ProtocolViolationError, match="a frame holds no message"):
        Frames(codec).receive(data)


@pytest.mark.parametrize("codec", CODECS)
def test_a_batch_has_no_buffers_behind_it(codec: CodecName) -> None:
    with pytest.raises(ProtocolViolationError):
        batching(codec).receive(frame([notice("a")], b"abc", codec=codec))


# --- series -----------------------------------------------------------------------------------


def series(value: Any, *inline: bytes, codec: str = "json", flags: int = 1) -> bytes:
    return frame(value, *inline, codec=codec, flags=flags)


@pytest.mark.parametrize("codec", CODECS)
def test_a_series_cut_at_every_byte_among_other_frames(codec: CodecName) -> None:
    whole = b"".join(
        [
            frame(notice("a", params=[{"$buffer": 0}], buffers=[3]), b"abc", codec=codec),
            series({**REQUEST, "id": 5, "params": [[1], {"x": 2}]}, codec=codec),
            frame([notice("b")], codec=codec),
            series({"jsonrpc": "2.0", "id": 8, "result": [[], None]}, codec=codec),
            frame(notice("c"), codec=codec),
        ]
    )
    request = {"method": REQUEST["method"]}
    expected = [
        Message(5, params=[1], **request),
        Message(6, params={"x": 2}, **request),
        Message(method="b"),
        Message(8, result=[]),
        Message(9, result=None),
        Message(method="c"),
    ]
    for cut in range(len(whole) + 1):
        frames = batching(codec)
        messages = frames.receive(whole[:cut]) + frames.receive(whole[cut:])
        assert messages[0].buffers == [b"abc"]
        assert messages[1:] == expected, cut


def test_a_deadline_holds_for_each_of_a_series() -> None:
    data = series({**REQUEST, "id": 5, "params": [[1], [2]], "deadline_ms": 70})
    assert [each.deadline_ms for each in batching("json").receive(data)] == [70, 70]
    assert [each.deadline_ms for each in batching("json").plain_requests(data)] == [70, 70]


def test_a_read_that_is_nothing_but_series_of_answers_is_taken_at_once() -> None:
    one = series({"jsonrpc": "2.0", "id": 8, "result": [1, 2]})
    frames = batching("json")
    assert frames.series(one + one) == [([8, 9], [1, 2])] * 2
    for other in (one[:-1], one + b"x", one + frame(ANSWERS[0]), frame([ANSWERS[0]]), b""):
        assert frames.series(other) == [], other
    assert Frames("json").series(one) == []


@pytest.mark.parametrize("codec", CODECS)
def test_a_series_with_named_arguments_takes_the_long_way(codec: CodecName) -> None:
    data = series({**REQUEST, "id": 5, "params": [[1], {"x": 2}]}, codec=codec)
    assert batching(codec).plain_requests(data) == []
    assert [each.params for each in batching(codec).receive(data)] == [[1], {"x": 2}]


def test_a_series_behind_a_part_of_another_frame_is_not_taken_at_once() -> None:
    one = series({"jsonrpc": "2.0", "id": 8, "result": [1, 2]})
    frames = batching("json")
    assert frames.receive(one[:5]) == []
    assert frames.series(one) == frames.plain_answers(one) == []
    assert [each.id for each in frames.receive(one[5:] + one)] == [8, 9, 8, 9]


NO_SERIES = {
    "empty": {**REQUEST, "id": 1, "params": []},
    "no result": {"jsonrpc": "2.0", "id": 1, "result": []},
    "no array": {"jsonrpc": "2.0", "id": 1, "result": {"a": 1}},
    "object": {**REQUEST, "id": 1, "params": {"a": [1]}},
    "without params": {"jsonrpc": "2.0", "id": 1, "method": "a"},
    "error": {"jsonrpc": "2.0", "id": 1, "error": {"code": 1, "message": ""}},
    "both": {**REQUEST, "id": 1, "result": [1], "params": [[1]]},
    "notification": {"jsonrpc": "2.0", "method": "a", "params": [[1]]},
    "id of text": {**REQUEST, "id": "1", "params": [[1]]},
    "null": {"jsonrpc": "2.0", "id": None, "result": [1]},
    "credit": {**REQUEST, "id": 1, "params": [[1]], "credit": 3},
    "within": {**REQUEST, "id": 1, "params": [[1]], "within": 3},
    "deadline of answers": {"jsonrpc": "2.0", "id": 1, "result": [1], "deadline_ms": 3},
    "announced buffers": {"jsonrpc": "2.0", "id": 1, "result": [1], "buffers": []},
    "batch": [{"jsonrpc": "2.0", "id": 1, "result": 1}],
    "number": 1,
    "ids beyond 64 bits": {"jsonrpc": "2.0", "id": 2**64 - 1, "result": [1, 2]},
    "requests beyond 64 bits": {**REQUEST, "id": 2**64 - 1, "params": [[1], [2]]},
    "too many": {"jsonrpc": "2.0", "id": 1, "result": [0] * (MAX_SERIES + 1)},
}


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("value", NO_SERIES.values(), ids=NO_SERIES)
def test_what_is_no_series_is_refused(codec: CodecName, value: Any) -> None:
    frames, data = batching(codec), series(value, codec=codec)
    assert frames.plain_answers(data) == frames.plain_requests(data) == frames.series(data) == []
    with pytest.raises(ProtocolViolationError, match=r"a series (is|holds|of)|holds no message"):
        frames.receive(data)


@pytest.mark.parametrize("codec", CODECS)
def test_a_series_that_was_not_agreed_to_or_has_other_flags_is_refused(codec: CodecName) -> None:
    answers = {"jsonrpc": "2.0", "id": 1, "result": [1]}
    for frames, flags in ((Frames(codec), 1), (batching(codec), 2), (batching(codec), 3)):
        data = series(answers, codec=codec, flags=flags)
        assert frames.plain_answers(data) == frames.series(data) == []
        with pytest.raises(ProtocolViolationError, match=f"a frame has unknown flags {flags:#x}"):
            frames.receive(data)


@pytest.mark.parametrize("codec", CODECS)
def test_a_series_has_no_buffers_behind_it(codec: CodecName) -> None:
    data = series({"jsonrpc": "2.0", "id": 1, "result": [1]}, b"abc", codec=codec)
    assert batching(codec).plain_answers(data) == batching(codec).series(data) == []
    with pytest.raises(ProtocolViolationError, match="a frame is a series, and has 3 bytes of"):
        batching(codec).receive(data)
