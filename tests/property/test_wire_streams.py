"""However what is said is cut into pieces, it means the same; and nonsense harms nobody."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import UNSET

from plugkeep.errors import ProtocolViolationError
from plugkeep.runner._calls import whole
from plugkeep.wire.connection import Connection
from plugkeep.wire.events import Dropped, Request
from plugkeep.wire.frames import Frames
from plugkeep.wire.messages import Message
from plugkeep.wire.ndjson import Ndjson

CODECS: dict[str, Any] = {
    "lines": lambda: Ndjson(max_line=3000),
    "json": lambda: Frames("json", max_message=3000, max_buffers=5000),
    "msgpack": lambda: Frames("msgpack", max_message=3000, max_buffers=5000),
}

ids = st.integers(-2, 6) | st.sampled_from(["a", "1", 2**64 - 1])
values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5) | st.just({"$buffer": 0}),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)
members: dict[str, st.SearchStrategy[Any]] = {
    "id": ids | st.none(),
    "method": st.sampled_from(
        ["m", "$/cancel", "$/chunk", "$/credit", "$/progress", "$/log", "$/ping", "$/x", ""]
    ),
    "params": st.fixed_dictionaries({"id": ids}, optional={"n": ids, "value": values})
    | st.fixed_dictionaries({"message": values})
    | st.lists(values, max_size=3)
    | values,
    "result": values,
    "error": st.fixed_dictionaries({"code": ids, "message": values}) | values,
    "deadline_ms": ids,
    "credit": st.integers(-1, 5) | values,
    "within": ids,
    "buffers": st.lists(
        st.integers(-1, 9)
        | st.fixed_dictionaries({"size": ids, "via": st.sampled_from(["socket", "memory", "x"])}),
        max_size=3,
    ),
    "cmd": st.sampled_from(["stop", "go"]),
    "jsonrpc": st.sampled_from(["2.0", "1.0"]),
}
#: Messages of any kind, most of them wrong in one way or another.
objects = st.fixed_dictionaries({}, optional=members)
#: Those that real ends send.
sound = (
    st.builds(lambda i, v: {"id": i, "method": "m", "params": [v]}, st.integers(1, 9), values)
    | st.builds(lambda i, v: {"id": i, "result": v}, st.integers(1, 9), values)
    | st.builds(lambda v: {"method": "n", "params": [v]}, values)
)
changes = st.tuples(st.integers(0, 10**6), st.binary(max_size=3))


def encoded(message: Any, codec: str, beside: bytes = b"") -> bytes:
    tool = CODECS[codec]()
    body = tool._encode(message)
    if codec == "lines":
        return bytes(body) + b"\n"
    header = (len(body) + len(beside)).to_bytes(4, "little") + len(body).to_bytes(4, "little")
    return header + bytes(4) + bytes(body) + beside


def outcome(codec: str, pieces: list[bytes]) -> tuple[list[str], str]:
    """Return the events that come of `pieces`, and the rule that they break, if they do."""
    us = Connection(CODECS[codec]())
    for _ in range(3):
        us.request("m", (), {}, "waiter", credit=2)
    events: list[Any] = []
    try:
        for piece in pieces:
            events += us.receive(piece)
            while us.codec.wanted:
                events += us.supply(bytes(us.codec.wanted.size))
    except ProtocolViolationError as error:
        return list(map(repr, events)), str(error)
    return list(map(repr, events)), ""


def cut(whole: bytes, seed: int) -> list[bytes]:
    chance = random.Random(seed)
    pieces = []
    while whole:
        size = chance.choice([1, 2, 3, 7, 12, 13, 50, 500])
        pieces.append(whole[:size])
        whole = whole[size:]
    return pieces


def check_any_pieces_mean_the_same(codec: str, whole: bytes, seed: int) -> None:
    events, broken = outcome(codec, [whole])
    in_pieces, broken_in_pieces = outcome(codec, cut(whole, seed))
    # What comes in the same piece as a violation is lost with it, and of two the first that is
    # seen is named.
    assert bool(broken_in_pieces) == bool(broken)
    assert in_pieces == events or broken


@pytest.mark.parametrize("codec", CODECS)
@given(
    messages=st.lists(st.tuples(sound | objects, st.binary(max_size=12)), max_size=6),
    seed=st.integers(0, 2**32),
)
def test_messages_in_any_pieces(
    codec: str, messages: list[tuple[dict[str, Any], bytes]], seed: int
) -> None:
    whole = b"".join(encoded(message, codec, beside) for message, beside in messages)
    check_any_pieces_mean_the_same(codec, whole, seed)


@pytest.mark.parametrize("codec", CODECS)
@given(whole=st.binary(max_size=400), seed=st.integers(0, 2**32))
@example(whole=b'{"a":\n{}}{}\n', seed=0)
@example(whole=b"\xff\xff\xff\xff" * 4, seed=0)
def test_any_bytes_in_any_pieces(codec: str, whole: bytes, seed: int) -> None:
    check_any_pieces_mean_the_same(codec, whole, seed)


@pytest.mark.parametrize("codec", CODECS)
@given(
    messages=st.lists(sound, min_size=1, max_size=5),
    damage=st.lists(changes, min_size=1, max_size=4),
    seed=st.integers(0, 2**32),
)
def test_damaged_messages_in_any_pieces(
    codec: str, messages: list[Any], damage: list[tuple[int, bytes]], seed: int
) -> None:
    whole = b"".join(encoded(message, codec) for message in messages)
    for place, new in damage:
        at = place % (len(whole) + 1)
        whole = whole[:at] + new + whole[at + 1 :]
    check_any_pieces_mean_the_same(codec, whole, seed)


@pytest.mark.parametrize("codec", CODECS)
@given(messages=st.lists(objects, max_size=8))
def test_whatever_was_asked_is_answered_once(codec: str, messages: list[dict[str, Any]]) -> None:
    """Nothing is in the tables but what is owed, and each of that can be answered."""
    them = Connection(CODECS[codec]())
    owed = set()
    try:
        for message in messages:
            for event in them.receive(encoded(message, codec)):
                if type(event) is Request:
                    assert event.id not in owed
                    owed.add(event.id)
    except ProtocolViolationError:
        pass
    assert set(them.serving) == owed
    for number in owed:
        them.answer(number, None)
    assert not them.serving


@pytest.mark.parametrize("codec", CODECS)
@given(message=objects)
def test_the_short_way_leads_to_the_same(codec: str, message: dict[str, Any]) -> None:
    data = encoded(message, codec)
    request = CODECS[codec]().plain_request(data)
    if request is None:
        return
    slow = Connection(CODECS[codec]())
    (event,) = slow.receive(data)
    assert type(event) is Request
    assert event == whole(request)


@pytest.mark.parametrize("codec", CODECS)
@given(message=objects)
def test_the_short_way_back_leads_to_the_same(codec: str, message: dict[str, Any]) -> None:
    data = encoded(message, codec)
    answer = CODECS[codec]().plain_answer(data)
    if answer is None:
        return
    us = Connection(CODECS[codec]())
    us.calls[answer.id] = "waiter"
    (event,) = us.receive(data)
    assert not isinstance(event, (Dropped, Message))
    assert (event.id, event.result, event.error) == (answer.id, answer.result, None)


def batching(codec: Any) -> Frames:
    frames = Frames(codec)
    frames.takes_batches = True
    return frames


@pytest.mark.parametrize("codec", ["json", "msgpack"])
@given(message=sound | objects | st.lists(sound, max_size=3), is_series=st.booleans())
def test_the_short_ways_of_many_lead_to_the_same(codec: str, message: Any, is_series: bool) -> None:
    data = bytearray(encoded(message, codec))
    data[8] = is_series  # the flags
    requests = batching(codec).plain_requests(bytes(data))
    answers = batching(codec).plain_answers(bytes(data))
    if not (requests or answers):
        return
    found = batching(codec).receive(bytes(data))
    none: list[Any] = []
    assert [
        (each.id, each.method, none if each.params is UNSET else each.params)
        for each in found
        if each.method is not UNSET
    ] == [(each.id, each.method, each.params) for each in requests]
    assert [(each.id, each.result) for each in found if each.result is not UNSET] == [
        (each.id, each.result) for each in answers
    ]
    many = batching(codec).series(bytes(data))
    assert [pair for ids, results in many for pair in zip(ids, results, strict=True)] == [
        (each.id, each.result) for each in answers if is_series
    ]
