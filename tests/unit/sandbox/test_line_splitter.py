from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from plugkeep.sandbox._output import LineSplitter


def split(pieces: Iterable[bytes], limit: int = 64) -> list[str]:
    splitter = LineSplitter(limit)
    lines = [line for piece in pieces for line in splitter.feed(piece)]
    return [*lines, *splitter.end()]


def test_lines_come_as_soon_as_they_have_ended() -> None:
    splitter = LineSplitter()
    assert list(splitter.feed(b"one\ntw")) == ["one"]
    assert list(splitter.feed(b"o")) == []
    assert list(splitter.feed(b"\n\nthree")) == ["two"]
    assert list(splitter.end()) == ["three"]
    assert list(splitter.end()) == []


def test_only_a_newline_ends_a_line_and_a_carriage_return_before_it_is_dropped() -> None:
    assert split([b"50%\r100%\r\na\x0bb\x0cc\xe2\x80\xa8d\n"]) == [
        "50%\r100%",
        "a\x0bb\x0cc\u2028d",
    ]


def test_blank_lines_are_left_out() -> None:
    assert split([b"\n \n\t\r\nx\n\n"]) == ["x"]


def test_what_is_no_utf_8_is_replaced() -> None:
    assert split([b"caf\xe9 ol", b"\xc3", b"\xa9\n"]) == ["caf\ufffd olé"]


def test_a_line_is_cut_at_the_limit_as_soon_as_it_outgrows_it_and_the_next_is_whole() -> None:
    splitter = LineSplitter(10)
    assert list(splitter.feed(b"x" * 10)) == []
    assert list(splitter.feed(b"y")) == ["xxxxxxxxxx [cut: a line is logged up to 10 bytes]"]
    assert list(splitter.feed(b"y" * 1000)) == []
    assert list(splitter.feed(b"y\nnext\n")) == ["next"]
    assert split([b"x" * 10 + b"\n"], limit=10) == ["x" * 10]


@given(lines=st.lists(st.text(st.characters(exclude_characters="\n")), max_size=8), data=st.data())
def test_it_does_not_matter_how_the_bytes_are_cut(lines: list[str], data: st.DataObject) -> None:
    text = "\n".join(lines).encode("utf-8", "replace")
    cut = data.draw(st.integers(0, len(text)))
    single = [text[position : position + 1] for position in range(len(text))]
    assert split([text]) == split([text[:cut], text[cut:]]) == split(single)
