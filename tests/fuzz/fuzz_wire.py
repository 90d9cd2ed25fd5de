"""Feeds the wire what a coverage-guided fuzzer thinks of, until something gives.

    python tests/fuzz/fuzz_wire.py --seconds 300

Whatever comes in, in whatever pieces: a broken rule is a ProtocolViolationError, a value that is
none a ValueError, one that cannot be sent back an UnsendableValueError. Anything else, a hang or
memory that grows is a finding; the input that led to it is left in a file, whose name is printed,
and given as an argument is tried again.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
from pathlib import Path
from typing import Any, Literal, NoReturn

import atheris
import msgspec

with atheris.instrument_imports(include=["plugkeep.wire"]):
    from plugkeep.errors import ProtocolViolationError, UnsendableValueError
    from plugkeep.wire.connection import Connection
    from plugkeep.wire.events import Answer, Chunk, Progress, Request
    from plugkeep.wire.frames import Frames
    from plugkeep.wire.messages import Code
    from plugkeep.wire.ndjson import Ndjson
    from plugkeep.wire.values import unpack, unpack_arguments


def batching(codec: Literal["json", "msgpack"]) -> Frames:
    frames = Frames(codec)
    frames.takes_batches = True
    return frames


CODECS = (Ndjson, lambda: batching("json"), lambda: batching("msgpack"))
#: Besides what is said as it stands there is what is given as lines of JSON and put into frames,
#: for a fuzzer that has to get lengths right never comes far.
KINDS = 5
#: Bytes of a buffer that are made up where it is asked for; more is refused, as if none came.
MOST_SUPPLIED = 1_000_000


def one_input(data: bytes) -> None:
    """Be a peer that says `data`. Its first bytes choose the codec and how the rest is cut."""
    if len(data) < 2:
        return
    kind, cut, said = data[0] % KINDS, data[1], data[2:]
    if kind >= len(CODECS):
        kind -= 2
        said = b"".join(framed(line, kind) for line in said.split(b"\n"))
    us = Connection(CODECS[kind]())
    for credit in (msgspec.UNSET, 1, 3):
        us.request("m", (), {}, "waiter", credit=credit)
    for look in ("plain_request", "plain_requests", "plain_answer", "plain_answers", "series"):
        getattr(us.codec, look)(said)
    broken = ""
    try:
        for piece in pieces(said, cut):
            for event in heard(us, piece):
                react(us, event)
    except ProtocolViolationError as error:
        broken = str(error)
    assert len(broken) < 2000, "an error without bounds"
    assert us.calls.keys() <= {1, 2, 3}, "calls that were never made"


def framed(line: bytes, kind: int) -> bytes:
    """Return a frame of the message that `line` is, with the inline buffers that it announces.

    What begins with a ``~`` goes into the frame of a series.
    """
    beside, flags = 0, line[:1] == b"~"
    line = line[flags:]
    try:
        message = msgspec.json.decode(line)
        if isinstance(message, dict) and isinstance(message.get("buffers"), list):
            beside = sum(size for size in message["buffers"] if type(size) is int and size > 0)
        line = msgspec.msgpack.encode(message) if kind == 2 else line
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError):
        pass
    return frame(line, bytes(min(beside, MOST_SUPPLIED)), flags)


def frame(body: bytes, beside: bytes, flags: int = 0) -> bytes:
    header = (len(body) + len(beside), len(body), flags)
    return b"".join(number.to_bytes(4, "little") for number in header) + body + beside


def pieces(said: bytes, cut: int) -> list[bytes]:
    if not cut:
        return [said]
    return [said[start : start + cut] for start in range(0, len(said), cut)]


def heard(us: Connection, piece: bytes) -> list[Any]:
    events = list(us.receive(piece))
    while (wanted := us.codec.wanted) and wanted.size <= MOST_SUPPLIED:
        events += us.supply(bytes(wanted.size))
    return events


def react(us: Connection, event: Any) -> None:
    """Do what an end does with what it hears: look at the values, and answer with them."""
    try:
        if isinstance(event, Request):
            echo(us, event)
        elif isinstance(event, Answer) and event.error is None:
            unpack(event.result, event.buffers)
        elif isinstance(event, (Chunk, Progress)):
            unpack(event.value, event.buffers, "memoryview")
    except ValueError:
        pass  # a reference to nowhere, or an array that is none
    if isinstance(event, Request) and event.id in us.serving:
        us.refuse(event.id, Code.INVALID_PARAMS, event.method, event.kwargs)
        assert event.id not in us.serving


def echo(us: Connection, request: Request) -> None:
    values = unpack_arguments(request.args, request.kwargs, request.buffers)
    try:
        if us.credit_left(request.id):
            us.chunk(request.id, values)
        us.answer(request.id, values)
    except UnsendableValueError:
        assert request.id in us.serving, "an answer that was not sent is still owed"


# --- what it starts from ----------------------------------------------------------------------

MESSAGES: list[dict[str, Any]] = [
    {"id": 1, "method": "m", "params": [1, "two", None, 0.5]},
    {"id": "x", "method": "m", "params": {"$args": [1], "$kwargs": {"$$a": {"$b": True}}}},
    {"id": 2, "method": "m", "params": {"a": [[]]}, "deadline_ms": 5, "credit": 2, "within": 1},
    {"id": 1, "result": {"a": [1]}},
    {"id": 2, "error": {"code": -32000, "message": "oh", "data": {"type": "ValueError"}}},
    {"method": "$/chunk", "params": {"id": 3, "value": 1}},
    {"method": "$/credit", "params": {"id": 2, "n": 1}},
    {"method": "$/progress", "params": {"id": 1, "value": [0.5]}},
    {"method": "$/cancel", "params": {"id": 2}},
    {"method": "$/log", "params": {"level": "info", "message": "a", "fields": {}}},
    {"cmd": "stop"},
]
WITH_BUFFERS: list[tuple[dict[str, Any], bytes]] = [
    ({"id": 4, "method": "m", "params": [{"$buffer": 0}], "buffers": [3]}, b"abc"),
    ({"id": 1, "result": {"$buffer": 0, "dtype": "<i2", "shape": [2]}, "buffers": [4]}, b"1234"),
    (
        {
            "method": "$/chunk",
            "params": {"id": 3, "value": [{"$buffer": 0}, {"$buffer": 1}, {"$$buffer": 1}]},
            "buffers": [{"size": 5, "via": "socket"}, {"size": 9, "via": "memory"}],
        },
        b"",
    ),
]
SERIES: list[dict[str, Any]] = [
    {"id": 5, "method": "m", "params": [[1], {"a": 2}], "deadline_ms": 9},
    {"id": 1, "result": [1, None]},
]
# --- how it thinks ----------------------------------------------------------------------------

#: What a member or element may become.
VALUES: list[Any] = [
    *(None, True, 0, 1, -1, 2, 3, 5, 1.5, 2**64, "", "1", "x", [], {}, [1], {"$buffer": 0}),
    *("socket", "memory", "<f8", "|O8", {"size": 1, "via": "socket"}, {"$args": [1]}),
]
NAMES = ["id", "method", "params", "result", "error", "credit", "buffers", "$buffer", "shape"]


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """Change a value somewhere in a message, for bytes changed blindly are mostly no JSON."""
    chance = random.Random(seed)
    lines = data[2:].split(b"\n")
    index = chance.randrange(len(lines))
    if chance.random() < 0.5:
        series = lines[index][:1] == b"~"
        try:
            message = json.loads(lines[index][series:])
            change(message, chance)
            lines[index] = b"~" * series + json.dumps(message).encode()
            return (data[:2] + b"\n".join(lines))[:max_size]
        except (ValueError, RecursionError):
            pass  # it is no JSON
    return bytes(atheris.Mutate(data, max_size))


def change(value: Any, chance: random.Random) -> None:
    """Go down into `value` and put something else in one place, or take it away."""
    if not isinstance(value, (dict, list)) or not value:
        return
    key = chance.choice(list(value) if isinstance(value, dict) else range(len(value)))
    what = chance.random()
    if what < 0.5 and isinstance(value[key], (dict, list)) and value[key]:
        change(value[key], chance)
    elif what < 0.8:
        value[key] = chance.choice(VALUES)
    elif what < 0.9 and isinstance(value, dict):
        value[chance.choice(NAMES)] = chance.choice(VALUES)
    else:
        del value[key]


def beginnings() -> list[bytes]:
    """Return what a sound peer may say, in each codec, whole and in pieces."""
    said: list[tuple[int, bytes]] = []
    for message, beside in [*((message, b"") for message in MESSAGES), *WITH_BUFFERS]:
        whole = {"jsonrpc": "2.0", **message}
        said += [(kind, msgspec.json.encode(whole) + b"\n") for kind in (0, 3, 4)]
        said.append((1, frame(msgspec.json.encode(whole), beside)))
        said.append((2, frame(msgspec.msgpack.encode(whole), beside)))
    for message in SERIES:
        whole = msgspec.json.encode({"jsonrpc": "2.0", **message})
        said += [(kind, b"~" + whole + b"\n") for kind in (3, 4)]
        said.append((1, frame(whole, b"", 1)))
    return [bytes([kind, cut]) + data for kind, data in said for cut in (0, 7)]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, default=0, help="for how long; 0: until stopped")
    parser.add_argument("--runs", type=int, default=-1, help="how many inputs; -1: no limit")
    parser.add_argument("--seed", type=int, default=0, help="0: another one each time")
    parser.add_argument("inputs", nargs="*", help="files to be tried, instead of fuzzing")
    options = parser.parse_args()
    if options.inputs:
        fuzz(options.inputs)
    limits = [
        "-timeout=10",
        "-rss_limit_mb=1024",
        "-max_len=500",
        "-len_control=0",
        "-print_final_stats=1",
    ]
    how_long = [f"-max_total_time={options.seconds}", f"-runs={options.runs}"]
    with tempfile.TemporaryDirectory() as corpus:
        for index, data in enumerate(beginnings()):
            (Path(corpus) / f"{index:03}").write_bytes(data)
        if not (child := os.fork()):  # it ends without giving anyone a chance to tidy up
            fuzz([*limits, *how_long, f"-seed={options.seed}", corpus])
        _, status = os.waitpid(child, 0)
    sys.exit(os.waitstatus_to_exitcode(status))


def fuzz(arguments: list[str]) -> NoReturn:
    atheris.Setup([sys.argv[0], *arguments], one_input, custom_mutator=mutate)
    atheris.Fuzz()
    raise AssertionError("it ends the process")


if __name__ == "__main__":
    main()
