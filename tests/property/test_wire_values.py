"""Every value arrives as it was, whatever the codec and whatever else is in the message."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from plugkeep.wire.connection import Connection
from plugkeep.wire.events import Answer, Chunk, Request
from plugkeep.wire.frames import Frames
from plugkeep.wire.ndjson import Ndjson
from plugkeep.wire.values import APART, as_memoryviews, unpack, unpack_arguments

CODECS: dict[str, Any] = {
    "lines": Ndjson,
    "json": lambda: Frames("json"),
    "msgpack": lambda: Frames("msgpack"),
}

#: Keys that look like the wire's own, among others.
keys = st.text() | st.sampled_from(["$", "$$", "$buffer", "$$buffer", "$args", "$kwargs", "$x"])
atoms = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
# What is long takes another way; a failing example may well be as long, then.
pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")
blobs = st.binary(max_size=30) | st.sampled_from([bytes(APART), b"x" * (APART - 1), b"y" * 40_000])


def nested(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
        max_leaves=12,
    )


plain = nested(atoms)
with_bytes = nested(atoms | blobs)


def ends(codec: str) -> tuple[Connection, Connection]:
    return Connection(CODECS[codec]()), Connection(CODECS[codec]())


def hears(receiver: Connection, sending: Any) -> Any:
    data, apart = sending
    events = receiver.receive(bytes(data))
    for piece in apart:
        wanted = receiver.codec.wanted
        assert (piece.buffer.nbytes, piece.via) == (wanted.size, wanted.via)
        events += receiver.supply(bytes(piece.buffer))
    (event,) = events
    return event


def there_and_back(codec: str, args: list[Any], kwargs: dict[str, Any]) -> None:
    """Send all in a call, and back as a chunk and as the result."""
    us, them = ends(codec)
    number, sending = us.request("m", args, kwargs, "waiter", credit=1)
    request = hears(them, sending)
    assert type(request) is Request
    assert unpack_arguments(request.args, request.kwargs, request.buffers) == (args, kwargs)
    chunk = hears(us, them.chunk(number, [args, kwargs]))
    assert type(chunk) is Chunk
    assert unpack(chunk.value, chunk.buffers) == [args, kwargs]
    answer = hears(us, them.answer(number, {"result": [args, kwargs]}))
    assert type(answer) is Answer
    assert unpack(answer.result, answer.buffers) == {"result": [args, kwargs]}


@pytest.mark.parametrize("codec", CODECS)
@given(args=st.lists(plain, max_size=3), kwargs=st.dictionaries(keys, plain, max_size=3))
def test_what_json_has(codec: str, args: list[Any], kwargs: dict[str, Any]) -> None:
    there_and_back(codec, args, kwargs)


@pytest.mark.parametrize("codec", ["json", "msgpack"])
@given(args=st.lists(with_bytes, max_size=3), kwargs=st.dictionaries(keys, with_bytes, max_size=3))
def test_with_bytes(codec: str, args: list[Any], kwargs: dict[str, Any]) -> None:
    there_and_back(codec, args, kwargs)


@given(value=with_bytes)
def test_as_memoryviews(value: Any) -> None:
    us, them = ends("msgpack")
    request = hears(them, us.request("m", (value,), {}, None)[1])
    (arrived,) = unpack(request.args, request.buffers, "memoryview")
    arrived = as_memoryviews(arrived)
    assert arrived == value  # a view equals the bytes that it shows
    assert not any(type(leaf) is bytes for leaf in leaves(arrived))


def leaves(value: Any) -> list[Any]:
    if isinstance(value, (list, dict)):
        inner = value.values() if isinstance(value, dict) else value
        return [leaf for each in inner for leaf in leaves(each)]
    return [value]


@given(value=st.floats())
def test_floats_arrive_bit_by_bit(value: float) -> None:
    us, them = ends("msgpack")
    (arrived,) = hears(them, us.request("m", (value,), {}, None)[1]).args
    assert math.copysign(1, arrived) == math.copysign(1, value) or math.isnan(value)
    assert arrived == value or math.isnan(arrived)


@given(
    value=arrays.arrays(
        arrays.integer_dtypes(endianness="?")
        | arrays.floating_dtypes(sizes=(16, 32, 64), endianness="?")
        | arrays.complex_number_dtypes(sizes=(64, 128))
        | arrays.boolean_dtypes()
        | arrays.datetime64_dtypes(),
        arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=6),
    ),
    data=st.data(),
)
def test_arrays_and_views_of_them(value: Any, data: st.DataObject) -> None:
    steps = tuple(slice(None, None, data.draw(st.sampled_from([1, -1, 2]))) for _ in value.shape)
    value = data.draw(st.sampled_from([value, value.T, np.asarray(value[steps])]))
    us, them = ends("msgpack")
    request = hears(them, us.request("m", ({"$a": [value]},), {}, None)[1])
    ((arrived,),) = unpack(request.args, request.buffers)[0].values()
    assert (arrived.dtype, arrived.shape) == (value.dtype, np.shape(value))
    assert arrived.tobytes() == value.tobytes()


fields = st.lists(st.tuples(st.from_regex(r"[a-z]{1,8}", fullmatch=True), with_bytes), max_size=4)


@given(members=fields)
def test_structs_arrive_as_their_members(members: list[tuple[str, Any]]) -> None:
    made = msgspec.defstruct("Made", [(f"f_{name}", Any) for name in dict(members)])
    expected = {f"f_{name}": value for name, value in dict(members).items()}
    us, them = ends("msgpack")
    request = hears(them, us.request("m", ([made(**expected)],), {}, None)[1])
    assert unpack(request.args, request.buffers) == [[expected]]
