"""The transcripts of the protocol, against its own codecs and connection: both sides of them."""

from __future__ import annotations

import importlib
import json
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest
from msgspec import UNSET

from plugkeep.errors import ProtocolViolationError
from plugkeep.wire import connection as c
from plugkeep.wire.connection import Connection
from plugkeep.wire.frames import Frames
from plugkeep.wire.messages import Message
from plugkeep.wire.ndjson import Ndjson, Noise

PROTOCOL = Path(__file__).parents[3] / "protocol"
NAMES = sorted(path.stem for path in PROTOCOL.glob("transcripts/*.ndjson"))
CODECS = {
    "lines": Ndjson,
    "frames of json": lambda: Frames("json"),
    "frames of msgpack": lambda: Frames("msgpack"),
}


def header(name: str) -> dict[str, Any]:
    text = (PROTOCOL / "transcripts" / f"{name}.ndjson").read_text()
    return json.loads(text.partition("\n")[0])


def plays(name: str, codec: str) -> bool:
    """Say whether the transcript is for a plugin of that codec."""
    level = 1 if codec == "lines" else 2
    wanted = header(name).get("codec")
    return level in header(name).get("levels", [1, 2]) and (wanted is None or wanted in codec)


CASES = [(name, codec) for name in NAMES for codec in CODECS if plays(name, codec)]


@pytest.fixture
def replay(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(PROTOCOL)
    return importlib.import_module("replay")


def encode(message: dict[str, Any], codec: str, buffers: list[bytes] | None = None) -> bytes:
    """Write `message` without any code of ours."""
    if codec == "lines":
        return json.dumps(message).encode() + b"\n"
    msgpack = codec.endswith("msgpack")
    body = msgspec.msgpack.encode(message) if msgpack else json.dumps(message).encode()
    ways = zip(buffers or [], message.get("buffers", []), strict=False)
    inline = b"".join(buffer for buffer, way in ways if type(way) is int)
    return struct.pack("<III", len(body) + len(inline), len(body), 0) + body + inline


def messages(transcript: Any) -> Iterator[tuple[str, dict[str, Any], list[bytes]]]:
    """Yield who says it, the message, and its buffers; the ready object is none."""
    for line in transcript.whole:
        event = line.event
        for member in ("message", "or"):
            if member in event and "ready" not in event[member]:
                yield event["from"], event[member], [*map(bytes.fromhex, event.get("buffers", []))]


# --- Their form -------------------------------------------------------------------------------


HEADER = {"transcript", "about", "levels", "begins", "needs", "codec", "tests", "batch"}
EVENTS = {
    "host": ("message", "closes", "text", "hex", "cuts_off"),
    "plugin": ("message", "prints", "exits"),
}
BESIDE = {"from", "or", "group", "optional", "buffers", "frame", "comment", "batch", "series"}


@pytest.mark.parametrize("name", NAMES)
def test_a_transcript_is_as_conformance_says(name, replay):
    head = header(name)
    assert head.keys() <= HEADER
    assert (head["transcript"], head.get("begins", "running")) in (
        (name, "running"),
        (name, "launched"),
    )
    said: dict[str, set[Any]] = {"host": set(), "plugin": set()}
    for line in replay.load(name).whole:
        event = line.event
        kinds = [kind for kind in EVENTS[event["from"]] if kind in event]
        assert len(kinds) == 1, line
        assert event.keys() <= {*kinds, *BESIDE}, line
        message = event.get("message", {})
        if "id" in message and "method" in message:
            said[event["from"]].add(message["id"])
        elif "id" in message and "tests" not in head and name != "late-answers":
            other = "plugin" if event["from"] == "host" else "host"
            assert message["id"] in {*said[other], None}, f"answers no request: {line}"


# --- Codecs -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "codec"), CASES)
def test_each_message_is_read_and_written(name, codec, replay):
    for _, message, buffers in messages(replay.load(name)):
        if name == "cut-off-buffers" and "buffers" in message:
            continue
        reader = CODECS[codec]()
        found = reader.receive(encode(message, codec, buffers))
        ways = zip(buffers, message.get("buffers", []), strict=False)
        for buffer in [each for each, way in ways if type(way) is dict and each]:
            found += reader.supply(buffer)
        (decoded,) = found
        assert isinstance(decoded, Message), decoded
        if "buffers" in message:
            assert list(map(bytes, decoded.buffers)) == buffers
            decoded.buffers = message["buffers"]
        known = {k: v for k, v in message.items() if k in {"jsonrpc", *Message.__struct_fields__}}
        assert json.loads(msgspec.json.encode(decoded)) == {"jsonrpc": "2.0", **known}


FRAMED = [name for name in NAMES if name.startswith("frames-")]


@pytest.mark.parametrize("name", FRAMED)
def test_frames_are_the_same_to_the_byte(name, replay):
    transcript = replay.load(name)
    compared = 0
    for line in transcript.lines:
        if "frame" not in line.event:
            continue
        frame, message = bytes.fromhex(line.event["frame"]), line.event["message"]
        compared += 1
        if "ready" in message:
            assert struct.unpack_from("<III", frame) == (len(frame) - 12, len(frame) - 12, 0)
            assert json.loads(frame[12:]) == message
            continue
        (decoded,) = Frames(transcript.codec).receive(frame)
        if "buffers" in message:
            buffers, decoded.buffers = decoded.buffers, message["buffers"]
            assert [each.hex() for each in buffers] == line.event["buffers"]
            inline = [memoryview(each) for each in buffers]
            assert Frames(transcript.codec).encode(decoded, inline) == frame
        elif "cmd" not in message:  # of no level but 0, and so never written in a frame
            assert Frames(transcript.codec).encode(decoded) == frame
    assert compared


HEX = re.compile(r"(?:[0-9a-f]{2} {1,2})+")


def test_the_frames_that_the_specification_shows():
    shown = []
    for block in (PROTOCOL / "README.md").read_text().split("```text\n")[1:]:
        found = [HEX.match(line) for line in block.split("```")[0].splitlines()]
        if all(found):  # else it is a drawing
            shown.append(bytes.fromhex("".join(line[0] for line in found)))
    codecs = ("json", "msgpack", "json")
    found = [Frames(codec).receive(frame)[0] for codec, frame in zip(codecs, shown, strict=True)]
    assert found[:2] == [Message(1, result=None)] * 2
    assert found[2] == Message(1, result={"$buffer": 0}, buffers=[b"hello"])


# --- Connections ------------------------------------------------------------------------------


class Sides:
    """Two connections that say to one another what a transcript says."""

    def __init__(self, replay: ModuleType, codec: str) -> None:
        self.replay = replay
        self.codec = codec
        self.ends = {side: Connection(CODECS[codec]()) for side in ("host", "plugin")}
        #: The numbers of the calls that each side has under way, by their ids in the transcript.
        self.calls: dict[str, dict[Any, Any]] = {"host": {}, "plugin": {}}

    def say(self, side: str, message: Said, buffers: list[bytes]) -> None:
        """Let `side` say it; check what is sent, and what it brings about at the other side."""
        other = "plugin" if side == "host" else "host"
        kind = kind_of(message)
        expected = self.expected(side, other, message)
        meant = self.with_numbers(side, other, message)
        if is_foreign(message):
            number, data = message.get("id"), encode(meant, self.codec, buffers)
            ways = zip(buffers, message.get("buffers", []), strict=False)
            apart = [each for each, way in ways if type(way) is dict and each]
            if kind == "request" and expected is c.Request:
                self.ends[side].calls[number] = "waiter"  # as if it had been made there
        else:
            number, data = getattr(self, f"make_{kind}")(self.ends[side], meant, buffers)
            apart = []
            self.check(data, meant, buffers)
        events = self.ends[other].receive(data)
        for buffer in apart:
            events += self.ends[other].supply(buffer)
        assert [type(event) for event in events] == [expected], f"{message} brought {events}"
        if kind == "response":
            self.calls[other].pop(message["id"], None)
        elif expected is c.Request:
            self.calls[side][message["id"]] = number

    def expected(self, side: str, other: str, message: Said) -> type:
        """Return the kind of event that the message is to the other side."""
        kind, method = kind_of(message), message.get("method", "")
        if kind == "request":
            return c.Request if well_formed(message) else c.Refusal
        if kind == "response":
            return c.Answer if message["id"] in self.calls[other] else c.Dropped
        if kind == "stop":
            return c.Stop
        event, owner = NOTIFICATIONS.get(method, (c.Notification, None))
        if owner is None:
            return event
        caller = side if owner == "caller" else other
        return event if message["params"]["id"] in self.calls[caller] else c.Dropped

    def with_numbers(self, side: str, other: str, message: Said) -> Said:
        """Put the numbers that the connections chose in the place of the transcript's ids."""
        changed = dict(message)
        _, owner = NOTIFICATIONS.get(message.get("method", ""), (None, None))
        if kind_of(message) == "response":
            changed["id"] = self.calls[other].get(message["id"], message["id"])
        elif owner:
            calls, about = self.calls[side if owner == "caller" else other], message["params"]["id"]
            changed["params"] = {**message["params"], "id": calls.get(about, about)}
        if "within" in message:
            changed["within"] = self.calls[other][message["within"]]
        return changed

    def check(self, data: bytes, meant: Said, buffers: list[bytes]) -> None:
        """See that what a connection made says what the transcript says."""
        (made,) = CODECS[self.codec]().receive(data)
        came = [] if made.buffers is msgspec.UNSET else list(made.buffers)
        wrote = msgspec.to_builtins(made, builtin_types=(bytes,))
        expected, actual = self.replay.values(meant, buffers), self.replay.values(wrote, came)
        assert self.replay.matches(expected, actual), f"{meant} was made {wrote}"

    def make_request(self, end: Connection, message: Said, buffers: list[bytes]) -> Made:
        params = self.replay.values(message, buffers)["params"]
        args, kwargs = params if isinstance(params, list) else ([], params)
        own = {key: message[key] for key in ("deadline_ms", "credit", "within") if key in message}
        number, (data, _) = end.request(message["method"], args, kwargs, "waiter", **own)
        return number, bytes(data)

    def make_response(self, end: Connection, message: Said, buffers: list[bytes]) -> Made:
        if message["id"] not in end.serving:  # no connection would say that
            return None, encode(message, self.codec)
        if "result" in message:
            result = self.replay.values(message, buffers)["result"]
            return None, bytes(end.answer(message["id"], result)[0])
        error = message["error"]
        refusal = end.refuse(message["id"], error["code"], error["message"], error.get("data"))
        return None, bytes(refusal[0])

    def make_notification(self, end: Connection, message: Said, _: list[bytes]) -> Made:
        method, params = message["method"], message.get("params", {})
        if method == "$/chunk" and end.credit_left(params["id"]):
            return None, bytes(end.chunk(params["id"], params["value"])[0])
        if method == "$/credit" and (sent := end.grant(params["id"], params["n"])):
            return None, bytes(sent[0])
        if method == "$/chunk" or not isinstance(params, dict):
            return None, encode(message, self.codec)
        return None, bytes(end.notify(method, **params)[0])


Said = dict[str, Any]
Made = tuple[Any, bytes]

#: What each is to its receiver, and whose request the id in it is.
NOTIFICATIONS: dict[str, tuple[type, str | None]] = {
    "$/cancel": (c.Cancel, "caller"),
    "$/credit": (c.Credit, "caller"),
    "$/chunk": (c.Chunk, "callee"),
    "$/progress": (c.Progress, "callee"),
    "$/log": (c.Log, None),
}


def kind_of(message: Said) -> str:
    if "cmd" in message:
        return "stop"
    if "method" not in message:
        return "response"
    return "request" if "id" in message else "notification"


def is_foreign(message: Said) -> bool:
    """Say whether only others write messages like this one."""
    return (
        not set(message) <= set(Message.__struct_fields__) | {"jsonrpc"}
        or kind_of(message) == "stop"
        or isinstance(message.get("id"), str)
        or any(type(way) is dict or way < 0 for way in message.get("buffers", []))
        or not well_formed(message)
    )


def well_formed(message: Said) -> bool:
    params = message.get("params")
    if not isinstance(params, dict):
        return params is None or isinstance(params, list)
    both = params.keys() & {"$args", "$kwargs"}
    return not both or params.keys() == both


@pytest.mark.parametrize(("name", "codec"), CASES)
def test_connections_say_it_to_one_another(name, codec, replay):
    sides = Sides(replay, codec)
    lines = [line.event for line in replay.load(name).whole]
    for event, following in zip(lines, [*lines[1:], {}], strict=True):
        is_cut_off = "cuts_off" in following or following.get("exits") == "not 0"
        if "ready" in event.get("message", {}):
            continue
        try:
            if "message" in event:
                buffers = list(map(bytes.fromhex, event.get("buffers", ())))
                sides.say(event["from"], event["message"], buffers)
            elif codec == "lines" and ("text" in event or "prints" in event):
                text = event.get("text", event.get("prints"))
                other = "host" if event["from"] == "plugin" else "plugin"
                said = sides.ends[other].receive(f"{text}\n".encode())
                assert {type(each) for each in said} <= {Noise}
                assert bool(said) == bool(text.strip())
            elif "hex" in event:
                sides.ends["plugin"].receive(bytes.fromhex(event["hex"]))
        except ProtocolViolationError:
            assert is_cut_off, event
        else:
            assert not is_cut_off, f"this was let pass: {event}"


@pytest.mark.parametrize(("name", "codec"), CASES)
def test_the_quick_way_reads_the_same(name, codec, replay):
    for _, message, buffers in messages(replay.load(name)):
        if buffers or "buffers" in message:
            continue
        data = encode(message, codec)
        (whole,) = CODECS[codec]().receive(data)
        for quick in (CODECS[codec]().plain_request, CODECS[codec]().plain_answer):
            found = quick(data)
            for member in found.__struct_fields__ if found else ():
                expected = getattr(whole, member)
                if member == "params" and expected is UNSET:
                    expected = []
                assert getattr(found, member) == expected
