from __future__ import annotations

import time

import pytest

from plugkeep.wire.ready import MAX_BYTES, MAX_DEPTH, ReadyParser, Verdict


def verdict_of(text: bytes) -> Verdict:
    """What a plugin is told that prints `text` and no more."""
    parser = ReadyParser()
    parser.feed(text)
    return parser.end()


@pytest.mark.parametrize(
    "text",
    [
        b'{"ready":true}',
        b'{"ready": true}\n',
        b'{ "ready" : true }',
        b'{\n\t"ready":\r\n true\n}\n',
        b' \t\r\n{"ready":true}',
        b'{"name":"clock","ready":true,"methods":["now",{}],"n":null,"f":false}',
        b'{"ready":true}then anything \xff\x00',
        b'{"ready":true}{"ready":false}',
        b'{"ready":false,"ready":true}',
        b'{"ready":{"ready":[1]},"ready":true}',
        b'{"re\\u0061dy":true}',
        b'{"\\u0072\\u0065\\u0061\\u0064\\u0079":true}',
        b'{"x":"\xff\xfe\xc3","ready":true}',
        b'{"\xff":1,"ready":true}',
        b'{"x":"\\ud800 \\udc00\\ud800 \\/\\b\\f\\n\\r\\t\\"\\\\","ready":true}',
        b'{"x":"\x7f","ready":true}',
        b'{"x":-0.5e+10,"y":0,"z":1E-999,"w":10.0e0,"ready":true}',
        b'{"x":1.7976931348623157e308,"ready":true}',
        b'{"x":[[],{},"",[1,[2]]],"ready":true}',
    ],
)
def test_what_the_go_package_accepts_is_accepted(text: bytes) -> None:
    assert verdict_of(text) is Verdict.READY


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b" \n ",
        b"{}",
        b'{"READY":true}',
        b'{"Ready":true}',
        b'{"ready":1}',
        b'{"ready":"true"}',
        b'{"ready":false}',
        b'{"ready":null}',
        b'{"ready":[true]}',
        b'{"ready":{"ready":true}}',
        b'{"ready":true,"ready":false}',
        b'{"ready":true,"re\\u0061dy":0}',
        b'{"ready":true,"ready":{}}',
        b'{"x":{"ready":true}}',
        b'{"x":[{"ready":true}]}',
        b'{"x":true}',
        b'{"ready ":true}',
        b'{"\\ready":true}',
        b"null",
        b"true",
        b"42",
        b'"ready"',
        b'[{"ready":true}]',
        b"ready",
        b"NaN",
        b'Starting up...\n{"ready":true}',
        b'\xef\xbb\xbf{"ready":true}',
        b'{"ready":true',
        b'{"ready":tru',
        b'{"ready":true,}',
        b'{"ready":true,"x":[1,]}',
        b'{,"ready":true}',
        b'{"ready"true}',
        b'{"ready":True}',
        b"{'ready':true}",
        b"{ready:true}",
        b'{"ready":true;"x":1}',
        b'{"ready":true]',
        b'{"x":[1},"ready":true}',
        b'{"x":NaN,"ready":true}',
        b'{"x":Infinity,"ready":true}',
        b'{"x":-Infinity,"ready":true}',
        b'{"x":01,"ready":true}',
        b'{"x":1.,"ready":true}',
        b'{"x":.5,"ready":true}',
        b'{"x":+1,"ready":true}',
        b'{"x":-,"ready":true}',
        b'{"x":1e,"ready":true}',
        b'{"x":0x10,"ready":true}',
        b'{"x":1e999,"ready":true}',
        b'{"x":-1e999,"ready":true}',
        b'{"x":"a\nb","ready":true}',
        b'{"x":"\x00","ready":true}',
        b'{"x":"\x1f","ready":true}',
        b'{"x":"\\x41","ready":true}',
        b'{"x":"\\u12g4","ready":true}',
        b'{"x":"\\\'","ready":true}',
        b'{/* no */"ready":true}',
        b'{"ready":true // no\n}',
        b'{"ready":\xff}',
        b'\x0b{"ready":true}',
        b'\xc2\xa0{"ready":true}',
        b'\x00{"ready":true}',
    ],
)
def test_what_the_go_package_refuses_is_refused(text: bytes) -> None:
    assert verdict_of(text) is Verdict.REFUSED


def nested(depth: int) -> bytes:
    """A ready message of so many objects and arrays within one another, itself included."""
    arrays = depth - 1
    return b'{"x":' + b"[" * arrays + b"]" * arrays + b',"ready":true}'


def test_nesting_is_bounded() -> None:
    assert verdict_of(nested(MAX_DEPTH)) is Verdict.READY
    assert verdict_of(nested(MAX_DEPTH + 1)) is Verdict.REFUSED


def padded(size: int) -> bytes:
    frame = b'{"ready":true,"x":""}'
    return b'{"ready":true,"x":"' + b"y" * (size - len(frame)) + b'"}'


def test_length_is_bounded_and_nothing_beyond_is_kept() -> None:
    assert verdict_of(padded(MAX_BYTES)) is Verdict.READY
    assert verdict_of(padded(MAX_BYTES + 1)) is Verdict.REFUSED
    parser = ReadyParser()
    assert parser.feed(b" " * (MAX_BYTES + 1)) is Verdict.REFUSED
    assert "1048576 bytes" in parser.reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"hello", "has 'h' at byte 0, where a JSON object should be"),
        (b'{"ready" true}', "has 't' at byte 9, where ':' should be"),
        (b'{"ready":true,}', "has '}' at byte 14, where '\"' should be"),
        (b'{"ready":\xff', "has '\\xff' at byte 9, where a value should be"),
        (b'{"READY":true}', 'has no "ready": true'),
        (b'{"x":1e999,', "has a number too large at byte 5"),
        (b'{"x":[' + b"[" * 500, "is nested deeper than 500"),
        (b'{"ready":', "ends in the middle"),
        (b"\n", "is empty"),
    ],
)
def test_a_refusal_says_why(text: bytes, reason: str) -> None:
    parser = ReadyParser()
    parser.feed(text)
    parser.end()
    assert parser.reason == reason


@pytest.mark.parametrize(
    ("undecided", "deciding", "verdict"),
    [
        (b'{"ready":true', b"}", Verdict.READY),
        (b'{"ready":1,"ready":true', b"}", Verdict.READY),
        (b"", b"h", Verdict.REFUSED),
        (b"", b"[", Verdict.REFUSED),
        (b'{"x":"', b"\n", Verdict.REFUSED),
        (b'{"x":tr', b"y", Verdict.REFUSED),
        (b'{"x":1e999', b",", Verdict.REFUSED),
        (b'{"ready":1', b"}", Verdict.REFUSED),
        (b'{"x":' + b"[" * 499, b"[", Verdict.REFUSED),
    ],
)
def test_the_verdict_comes_with_the_byte_that_decides(
    undecided: bytes, deciding: bytes, verdict: Verdict
) -> None:
    parser = ReadyParser()
    assert parser.feed(undecided) is Verdict.MORE
    assert parser.feed(deciding) is verdict


def test_what_follows_the_message_is_handed_back_and_what_precedes_it_is_dropped() -> None:
    parser = ReadyParser()
    parser.feed(b' \n{"ready":')
    parser.feed(b"true}\nhello\n")
    assert parser.message == b'{"ready":true}'
    assert parser.rest == b"\nhello\n"


def test_after_a_verdict_nothing_changes_it() -> None:
    parser = ReadyParser()
    parser.feed(b'{"ready":true}')
    assert parser.feed(b"junk") is Verdict.READY
    assert parser.end() is Verdict.READY


def test_a_megabyte_fed_byte_by_byte_takes_linear_time() -> None:
    string, array, number = b'"' + b"y" * 400_000 + b'"', b"[" + b"1," * 150_000 + b"1]", b"0."
    members = (string, array, number + b"1" * 300_000)
    text = b'{"ready":true,"x":[' + b",".join(members) + b"]}"
    parser = ReadyParser()
    begin = time.monotonic()
    for position in range(len(text)):
        parser.feed(text[position : position + 1])
    assert parser.verdict is Verdict.READY
    assert time.monotonic() - begin < 60, "not linear: that takes about a second"
