"""Level 1: lines in any pieces, and what is no message among them."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest

from plugkeep.errors import ProtocolViolationError
from plugkeep.wire.messages import Message
from plugkeep.wire.ndjson import Ndjson, Noise

MIB = 1024 * 1024


def line(name: str) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "method": name}).encode() + b"\n"


def came(items: list[Message | Noise]) -> list[Any]:
    return [item.line if isinstance(item, Noise) else item.method for item in items]


def test_lines_cut_at_every_byte() -> None:
    whole = line("a") + b"printed\n" + line("b") + b"\n\r\n" + line("é").replace(b"\n", b"\r\n")
    for cut in range(len(whole) + 1):
        lines = Ndjson()
        items = lines.receive(whole[:cut]) + lines.receive(whole[cut:])
        assert came(items) == ["a", "printed", "b", "é"]
        assert lines.rest() == []


def test_lines_byte_by_byte() -> None:
    whole = line("a") + line("b")
    lines = Ndjson()
    items = [(i, each) for i in range(len(whole)) for each in lines.receive(whole[i : i + 1])]
    assert [i for i, _ in items] == [len(line("a")) - 1, len(whole) - 1]


NOISE = {
    "words": (b"hello", ""),
    "a number": (b"5", ""),
    "an array": (b"[]", ""),
    "a text": (b'"text"', ""),
    "null": (b"null", ""),
    "NUL": (b"\0", ""),
    "byte order mark": (b"\xef\xbb\xbf" + line("a")[:-1], ""),
    "not UTF-8": (b"\xff\xfe", ""),
    "a carriage return within": (b"50%\r100%", ""),
    "no JSON but a brace": (b"{oops}", "JSON is malformed"),
    "cut short": (line("a")[:-3], "truncated"),
    "NaN": (b'{"jsonrpc":"2.0","id":1,"result":NaN}', "JSON is malformed"),
    "out of range": (b'{"jsonrpc":"2.0","id":1,"result":1e400}', "out of range"),
    "half a character": (b'{"jsonrpc":"2.0","id":1,"result":"\\ud800"}', "truncated"),
    "not UTF-8 inside": (b'{"jsonrpc":"2.0","method":"\xff"}', "can't decode"),
    "id is true": (b'{"jsonrpc":"2.0","id":true,"result":1}', "Expected `int | str | null`"),
    "id is a fraction": (b'{"jsonrpc":"2.0","id":1.5,"result":1}', "Expected `int | str | null`"),
    "method is a number": (b'{"jsonrpc":"2.0","method":1}', "Expected `str`"),
    "error is null": (b'{"jsonrpc":"2.0","id":1,"error":null}', "Expected `object`"),
    "error is empty": (b'{"jsonrpc":"2.0","id":1,"error":{}}', "missing required field `code`"),
    "deadline is a fraction": (b'{"jsonrpc":"2.0","deadline_ms":0.5}', "Expected `int`"),
    "wrong version": (b'{"jsonrpc":"1.0","method":"a"}', "Invalid value '1.0'"),
    "too deep": (b'{"result":' + b"[" * 5000 + b"]" * 5000 + b"}", "recursion"),
    "two on a line": (line("a")[:-1] + line("b")[:-1], "malformed"),
}


@pytest.mark.parametrize(("text", "reason"), NOISE.values(), ids=NOISE)
def test_what_is_no_message_is_noise_and_the_next_line_a_new_beginning(
    text: bytes, reason: str
) -> None:
    before, noise, after = Ndjson().receive(line("a") + text + b"\n" + line("b"))
    assert came([before, after]) == ["a", "b"]
    assert isinstance(noise, Noise)
    assert noise.line == text.decode("utf-8", "replace")
    assert reason in noise.reason
    assert bool(reason) == bool(noise.reason)


def test_a_message_is_on_one_line() -> None:
    spread = b'{"jsonrpc": "2.0",\n"method": "a"}\n'
    assert came(Ndjson().receive(spread)) == ['{"jsonrpc": "2.0",', '"method": "a"}']


@pytest.mark.parametrize(
    ("text", "method"),
    [
        (b' \t{"jsonrpc":"2.0","method":"a"} \t\r', "a"),
        (b'{"method":"a"}', "a"),
        (b'{"jsonrpc":"2.0","method":"a","method":"b"}', "b"),
        (b'{"jsonrpc":"2.0","m\\u0065thod":"\\u0061"}', "a"),
        (b'{"jsonrpc":"2.0","method":"a","future":[1,{"x":null}]}', "a"),
        (b'{"jsonrpc":"2.0","method":"a\\u0000"}', "a\0"),
    ],
    ids=lambda value: repr(value).partition(" object at ")[0],
)
def test_what_is_a_message(text: bytes, method: str) -> None:
    assert came(Ndjson().receive(text + b"\n")) == [method]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"-0", 0),
        (b"-0.0", -0.0),
        (b"1E2", 100.0),
        (b"18446744073709551616", 2**64),
        (b"-9223372036854775809", -(2**63) - 1),
        (b"1e-400", 0.0),
        (b'"\\ud83c\\udf75"', "\U0001f375"),
        (b'{"a":1,"a":2}', {"a": 2}),
        (b"null", None),
    ],
    ids=lambda value: repr(value).partition(" object at ")[0],
)
def test_values_at_the_edges(text: bytes, value: Any) -> None:
    (message,) = Ndjson().receive(b'{"jsonrpc":"2.0","id":1,"result":' + text + b"}\n")
    assert isinstance(message, Message)
    assert repr(message.result) == repr(value)


def test_blank_lines_are_passed_over() -> None:
    assert came(Ndjson().receive(b"\n\n \t\n\r\n" + line("a") + b"\n")) == ["a"]


def test_the_last_line_may_lack_its_newline() -> None:
    lines = Ndjson()
    assert came(lines.receive(line("a") + line("b")[:-1])) == ["a"]
    assert came(lines.rest()) == ["b"]
    assert lines.rest() == []
    assert came(lines.receive(line("c"))) == ["c"]


@pytest.mark.parametrize("end", [b"", b"\n", b"\n" + line("a")])
def test_a_line_that_is_too_long_is_refused_as_soon_as_that_is_known(end: bytes) -> None:
    lines = Ndjson(max_line=100)
    assert came(lines.receive(b"x" * 100 + b"\n")) == ["x" * 100]
    with pytest.raises(ProtocolViolationError, match="a line is longer than 100 bytes; it begins"):
        lines.receive(b"x" * 101 + end)
    in_pieces = Ndjson(max_line=100)
    with pytest.raises(ProtocolViolationError, match="longer than 100 bytes"):
        for _ in range(101):
            in_pieces.receive(b"x")


def test_many_lines_together_may_be_longer() -> None:
    assert came(Ndjson(max_line=100).receive(line("a") * 50)) == ["a"] * 50


def test_a_line_that_is_too_long_is_not_sent() -> None:
    lines = Ndjson(max_line=100)
    with pytest.raises(ValueError, match="over the limit of 100"):
        lines.encode(Message(method="x" * 100))
    assert lines.quick_request(1, "x" * 100, ()) is None
    assert lines.quick_answer(1, "x" * 100) is None


@pytest.mark.parametrize("size", [16 * 1024, 1000])
def test_a_long_line_in_small_pieces_costs_its_own_size_and_little_more(size: int) -> None:
    whole = line("x" * 16 * MIB)
    lines = Ndjson()
    tracemalloc.start()
    try:
        pieces = (whole[start : start + size] for start in range(0, len(whole), size))
        items = [item for piece in pieces for item in lines.receive(piece)]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(items) == 1
    assert peak < 4.5 * len(whole)


REQUEST = b'{"jsonrpc":"2.0","id":1,"method":"a","params":[1]}\n'
ANSWER = b'{"jsonrpc":"2.0","id":1,"result":[1]}\n'


def test_a_plain_request_and_a_plain_answer_go_the_short_way() -> None:
    lines = Ndjson()
    request, answer = lines.plain_request(REQUEST), lines.plain_answer(ANSWER)
    assert request is not None
    assert answer is not None
    assert (request.id, request.method, request.params) == (1, "a", [1])
    assert (answer.id, answer.result) == (1, [1])
    for other in (b"", REQUEST[:-1], ANSWER * 2, b"printed\n", b"\n", b"\n" + REQUEST, line("a")):
        assert lines.plain_request(other) is None
        assert lines.plain_answer(other) is None
    lines.receive(REQUEST[:-1])
    assert lines.plain_request(REQUEST) is None
    assert lines.plain_answer(ANSWER) is None


def test_what_is_sent_is_what_is_received() -> None:
    lines = Ndjson()
    batch = lines.encode(Message(method="a\nb", params=["\n"]))
    batch += lines.encode(Message(method="c"))
    assert batch.count(b"\n") == 2
    assert came(lines.receive(batch)) == ["a\nb", "c"]


def test_a_read_that_is_nothing_but_plain_messages_is_taken_at_once() -> None:
    answer, request = b'{"id":1,"result":2}\n', b'{"id":1,"method":"a","params":[3]}\n'
    assert [each.result for each in Ndjson().plain_answers(answer * 3)] == [2, 2, 2]
    assert [each.params for each in Ndjson().plain_requests(request * 2)] == [[3], [3]]
    for data in (answer + request, answer + b"hello\n", answer[:-1], answer + b"\n"):
        assert Ndjson().plain_answers(data) == [], data
    codec = Ndjson()
    codec.receive(b"half ")
    assert codec.plain_answers(answer) == []
