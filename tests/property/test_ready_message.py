"""Ready messages in any shape and any pieces, against the stdlib's json and Go's own decoder."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plugkeep.wire.ready import ReadyParser, Verdict

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)
objects = st.dictionaries(st.text() | st.just("ready"), values, max_size=6)


def fed(pieces: Iterable[bytes]) -> ReadyParser:
    parser = ReadyParser()
    for piece in pieces:
        parser.feed(piece)
    return parser


def single_bytes(text: bytes) -> list[bytes]:
    return [text[position : position + 1] for position in range(len(text))]


def finite(value: Any) -> bool:
    """Whether JSON can say it: it has no NaN and no infinities, which Python's encoder writes."""
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return False
    return True


@given(
    members=objects,
    indent=st.none() | st.integers(0, 2),
    plain=st.booleans(),
    ahead=st.text(" \t\r\n"),
    behind=st.binary(),
    data=st.data(),
)
def test_any_object_with_ready_true_is_ready_wherever_it_is_split(
    members: dict[str, Any],
    indent: int | None,
    plain: bool,
    ahead: str,
    behind: bytes,
    data: st.DataObject,
) -> None:
    members["ready"] = True
    text = json.dumps(members, indent=indent, ensure_ascii=plain)
    message = text.encode("utf-8", "surrogatepass")
    whole = ahead.encode() + message + behind
    cut = data.draw(st.integers(0, len(whole)))
    expected = Verdict.READY if finite(members) else Verdict.REFUSED
    for pieces in ([whole], [whole[:cut], whole[cut:]], single_bytes(whole)):
        parser = fed(pieces)
        assert parser.verdict is expected
        if expected is Verdict.READY:
            assert parser.message == message
    assert fed([whole]).rest == behind or expected is Verdict.REFUSED


@given(members=objects)
def test_it_agrees_with_the_stdlib(members: dict[str, Any]) -> None:
    text = json.dumps(members).encode()
    is_ready = members.get("ready") is True and finite(members)
    assert (fed([text]).verdict is Verdict.READY) == is_ready


@given(text=st.binary() | st.text(alphabet='{}[]":,truefalsn0123eE+-.\\u \n').map(str.encode))
def test_junk_is_refused_as_the_stdlib_refuses_it_and_never_crashes(text: bytes) -> None:
    parser = fed(single_bytes(text))
    parser.end()
    assert (parser.verdict is Verdict.READY) == (not parser.reason)
    if parser.verdict is Verdict.READY:
        assert json.loads(parser.message.decode(errors="replace"))["ready"] is True


GO_DECODER = r"""
package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"io"
	"os"
)

func main() {
	in, out := bufio.NewReader(os.Stdin), bufio.NewWriter(os.Stdout)
	defer out.Flush()
	for {
		var size uint32
		if binary.Read(in, binary.LittleEndian, &size) != nil {
			return
		}
		text := make([]byte, size)
		if _, err := io.ReadFull(in, text); err != nil {
			return
		}
		var message map[string]any
		err := json.NewDecoder(bytes.NewReader(text)).Decode(&message)
		ready, isBool := message["ready"].(bool)
		out.WriteString(map[bool]string{true: "R", false: "-"}[err == nil && isBool && ready])
	}
}
"""


@pytest.fixture(scope="module")
def go_verdicts(tmp_path_factory: pytest.TempPathFactory) -> Callable[[list[bytes]], str]:
    """Return a function that asks Go: "R" for each text that is a ready message, "-" for others."""
    go = shutil.which("go")
    if go is None:
        pytest.skip("go is not installed")
    folder: Path = tmp_path_factory.mktemp("go")
    (folder / "main.go").write_text(GO_DECODER)
    subprocess.run([go, "build", "-o", "decoder", "main.go"], cwd=folder, check=True)

    def ask(texts: list[bytes]) -> str:
        said = b"".join(struct.pack("<I", len(text)) + text for text in texts)
        return subprocess.run(
            [folder / "decoder"], input=said, capture_output=True, check=True
        ).stdout.decode()

    return ask


SEEDS = (
    b'{"ready":true}',
    b' {"a":[1,2,{"b":null}], "re\\u0061dy": true}x',
    b'{"ready":true,"x":-0.5e+10,"y":"\\ud800\\n\xff\xfe","z":[],"w":{}}',
    b'{"ready":false,"ready":true,"q":[true,false,null,0,1.5,"s"]}\n',
    b'\r\n\t{"ready" : true , "n" : 123}',
    b'{"ready":{"ready":true},"ready":true}',
)
PARTS = (
    *(b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"-", b".", b"e", b"E+", b" ", b"\n"),
    *(b"true", b"null", b"0", b"1", b"9" * 310, b"1e308", b"1.8e308", b'"ready":true', b'"ready"'),
    *(b"\x00", b"\x7f", b"\xff", b"\xc2\xa0", b"\\u00", b"\\u0072", b"NaN", b"/*", b"//", b"'"),
)


@st.composite
def almost_ready(draw: st.DrawFn) -> bytes:
    """A ready message with a few bytes put in, taken out or replaced."""
    text = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 4))):
        begin = draw(st.integers(0, len(text)))
        end = min(begin + draw(st.integers(0, 3)), len(text))
        text[begin:end] = draw(st.sampled_from(PARTS) | st.binary(max_size=1))
    return bytes(text)


@settings(max_examples=40)
@given(texts=st.lists(almost_ready(), min_size=20, max_size=60))
def test_it_accepts_exactly_what_go_accepts(
    texts: list[bytes], go_verdicts: Callable[[list[bytes]], str]
) -> None:
    ours = ["R" if fed(single_bytes(text)).end() is Verdict.READY else "-" for text in texts]
    differing = [
        text for text, our, go in zip(texts, ours, go_verdicts(texts), strict=True) if our != go
    ]
    assert not differing
