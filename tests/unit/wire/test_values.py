"""What may travel, at which level, and what becomes of it."""

from __future__ import annotations

import array
import collections
import ctypes
import dataclasses
import enum
import math
import mmap
import re
import types
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
import numpy as np
import pyarrow as pa
import pytest

from plugkeep.wire.values import (
    APART,
    Packer,
    Unsendable,
    as_memoryviews,
    pack_params,
    unpack,
    unpack_arguments,
    unpack_params,
)

MSGPACK = Packer(binary=True, allow_buffers=True)
JSON = Packer(binary=False, allow_buffers=True)
LINES = Packer(binary=False, allow_buffers=False)
PACKERS = {"msgpack": MSGPACK, "json": JSON, "lines": LINES}
LARGE = bytes(APART)


def travelled(value: Any, how: str = "msgpack", form: Any = "bytes") -> Any:
    """Return what arrives of `value`."""
    codec: Any = msgspec.msgpack if how == "msgpack" else msgspec.json
    packed, buffers = PACKERS[how].pack(value)
    return unpack(codec.decode(codec.encode(packed)), buffers or (), form)


class Text(str):
    __slots__ = ()


class Number(int):
    pass


class Real(float):
    pass


class Blob(bytes):
    pass


class Color(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Word(enum.StrEnum):
    YES = "yes"


class Point(NamedTuple):
    x: int
    y: int


class Moment(datetime):
    pass


@dataclasses.dataclass
class Book:
    title: Any
    parts: list[Any] = dataclasses.field(default_factory=list)


class Shelf(msgspec.Struct, rename="camel"):
    first_book: Any
    data: Any = None


PLAIN = {
    "subclass of str": (Text("a"), "a"),
    "subclass of int": (Number(5), 5),
    "subclass of float": (Real(0.5), 0.5),
    "enum": (Color.RED, "red"),
    "enum of integers": (Level.HIGH, 3),
    "enum of texts": (Word.YES, "yes"),
    "named tuple": (Point(1, 2), [1, 2]),
    "tuple": ((1, (2,)), [1, [2]]),
    "set": ({1}, [1]),
    "frozen set": (frozenset({1}), [1]),
    "ordered dict": (collections.OrderedDict(a=1), {"a": 1}),
    "mapping": (types.MappingProxyType({"a": Text("b")}), {"a": "b"}),
    "keys of a subclass": ({Text("k"): 1}, {"k": 1}),
    "keys that are numbers": ({1: "a", 0.5: "b", Number(2): "c"}, {"1": "a", "0.5": "b", "2": "c"}),
    "keys that are dates": ({date(2026, 1, 2): 1}, {"2026-01-02": 1}),
    "keys of an enum": ({Color.RED: 1, Level.HIGH: 2}, {"red": 1, "3": 2}),
    "dataclass": (Book("a", [Book("b")]), {"title": "a", "parts": [{"title": "b", "parts": []}]}),
    "struct": (Shelf(Book("a")), {"firstBook": {"title": "a", "parts": []}, "data": None}),
    "mapping in a dataclass": (
        Book(types.MappingProxyType({"a": 1})),
        {"title": {"a": 1}, "parts": []},
    ),
    "text in a dataclass": (Book(Text("a")), {"title": "a", "parts": []}),
    "date": (date(2026, 1, 2), "2026-01-02"),
    "time": (time(1, 2, 3), "01:02:03"),
    "time delta": (timedelta(seconds=3), "PT3S"),
    "naive datetime": (datetime(2026, 1, 2), "2026-01-02T00:00:00"),
    "decimal": (Decimal("1.50"), "1.50"),
    "uuid": (UUID(int=5), str(UUID(int=5))),
    "numpy integer": (np.int32(5), 5),
    "numpy float": (np.float32(0.5), 0.5),
    "numpy bool": (np.bool_(True), True),
    "numpy text": (np.str_("a"), "a"),
    "numpy scalars inside": ([np.float64(0.5), {"a": np.uint8(3)}], [0.5, {"a": 3}]),
}  # fmt: skip


@pytest.mark.parametrize("how", PACKERS)
@pytest.mark.parametrize(("value", "expected"), PLAIN.values(), ids=PLAIN)
def test_what_arrives(value: Any, expected: Any, how: str) -> None:
    arrived = travelled(value, how)
    assert arrived == expected
    assert type(arrived) is type(expected)


@pytest.mark.parametrize("value", [True, False], ids=str)
def test_a_numpy_bool_does_not_become_a_number(value: bool) -> None:
    assert travelled(np.bool_(value)) is value


@pytest.mark.parametrize("kind", [datetime, Moment])
def test_a_time_with_a_zone_is_the_same_moment(kind: type[datetime]) -> None:
    zone = timezone(timedelta(hours=5, minutes=30))
    moment = kind(2026, 1, 2, 3, 4, 5, 678901, tzinfo=zone)
    assert travelled(moment) == moment
    assert travelled(moment).tzinfo is UTC
    assert datetime.fromisoformat(travelled(moment, "lines")) == moment


BYTES = {
    "bytes": b"abc",
    "bytearray": bytearray(b"abc"),
    "memoryview": memoryview(b"abc"),
    "subclass": Blob(b"abc"),
    "read-only view": memoryview(bytearray(b"abc")).toreadonly(),
    "every second byte": memoryview(b"a-b-c-")[::2],
    "backwards": memoryview(b"cba")[::-1],
    "array": array.array("B", b"abc"),
    "arrow": pa.py_buffer(b"abc"),
    "ctypes": (ctypes.c_char * 3)(b"a", b"b", b"c"),
    "numpy bytes": np.bytes_(b"abc"),
    "raw": msgspec.Raw(b"abc"),
}
WRAPPED = {
    "by itself": lambda value: value,
    "in a list": lambda value: [0, [value]],
    "in a dict": lambda value: {"a": {"b": value}},
    "in a tuple": lambda value: (value,),
    "in a dataclass": lambda value: Book(value),
    "in a struct in a dataclass": lambda value: Book("x", [Shelf(Book(value))]),
}
UNWRAPPED = {
    "by itself": lambda value: value,
    "in a list": lambda value: value[1][0],
    "in a dict": lambda value: value["a"]["b"],
    "in a tuple": lambda value: value[0],
    "in a dataclass": lambda value: value["title"],
    "in a struct in a dataclass": lambda value: value["parts"][0]["firstBook"]["title"],
}


@pytest.mark.parametrize("how", ["msgpack", "json"])
@pytest.mark.parametrize("where", WRAPPED)
@pytest.mark.parametrize("value", BYTES.values(), ids=BYTES)
def test_bytes_arrive_as_asked(value: Any, where: str, how: str) -> None:
    wrapped = WRAPPED[where](value)
    assert UNWRAPPED[where](travelled(wrapped, how)) == b"abc"
    view = UNWRAPPED[where](as_memoryviews(travelled(wrapped, how, "memoryview")))
    assert type(view) is memoryview
    assert view == b"abc"


@pytest.mark.parametrize("where", WRAPPED)
@pytest.mark.parametrize("value", BYTES.values(), ids=BYTES)
def test_bytes_do_not_travel_on_lines(value: Any, where: str) -> None:
    reason = f"is {type(value).__name__}, which level 1 of the wire cannot carry; use level 2"
    with pytest.raises(Unsendable, match=reason):
        LINES.pack(WRAPPED[where](value))


@pytest.mark.parametrize("where", WRAPPED)
@pytest.mark.parametrize(
    "value",
    [math.nan, math.inf, -math.inf, np.float32("nan")],
    ids=lambda value: repr(value).partition(" object at ")[0],
)
@pytest.mark.parametrize("packer", [LINES, JSON], ids=["lines", "json"])
def test_json_has_no_such_number(packer: Packer, value: float, where: str) -> None:
    with pytest.raises(Unsendable, match="and JSON has no such number"):
        packer.pack(WRAPPED[where](value))


def test_msgpack_has_every_float() -> None:
    assert math.isnan(travelled(math.nan))
    assert travelled([math.inf, -math.inf, -0.0]) == [math.inf, -math.inf, 0.0]


# --- buffers are not copied -------------------------------------------------------------------


def address(view: Any) -> int:
    return int(np.frombuffer(view, dtype=np.uint8).__array_interface__["data"][0])


def large_ones() -> dict[str, Any]:
    mapped = mmap.mmap(-1, APART)
    return {
        "bytes": bytes(APART),
        "bytearray": bytearray(APART),
        "memoryview": memoryview(bytearray(APART)),
        "part of a view": memoryview(bytearray(APART + 10))[5 : 5 + APART],
        "array": array.array("d", bytes(APART)),
        "arrow": pa.py_buffer(bytes(APART)),
        "mmap": mapped,
    }


@pytest.mark.parametrize("where", WRAPPED)
@pytest.mark.parametrize("name", large_ones())
def test_large_buffers_travel_as_they_are(name: str, where: str) -> None:
    value = large_ones()[name]
    packed, buffers = MSGPACK.pack(WRAPPED[where](value))
    assert UNWRAPPED[where](msgspec.to_builtins(packed)) == {"$buffer": 0}
    (buffer,) = buffers
    assert (buffer.nbytes, buffer.format, buffer.ndim) == (APART, "B", 1)
    assert address(buffer) == address(value)


@pytest.mark.parametrize("dtype", ["<f8", ">i2", "|b1", "<c16", "<M8[ns]", "<U3", "|S5"])
def test_arrays_travel_as_they_are(dtype: str) -> None:
    value = np.zeros((30, 40, 50), dtype)
    packed, (buffer,) = MSGPACK.pack({"a": value})
    assert packed == {"a": {"$buffer": 0, "dtype": dtype, "shape": [30, 40, 50]}}
    assert address(buffer) == value.__array_interface__["data"][0]


def test_what_is_received_lies_in_the_buffer_itself() -> None:
    received = bytearray(APART)
    reference = {"$buffer": 0}
    array_reference = {"$buffer": 0, "dtype": "<f4", "shape": [2, APART // 8]}
    view = unpack(reference, [received], "memoryview")
    assert address(view) == address(received)
    assert address(unpack(array_reference, [received])) == address(received)
    whole = bytes(APART)
    assert unpack(reference, [whole], "bytes") is whole
    assert type(unpack([reference, b"small"], [whole], "memoryview")[1]) is memoryview


ARRAYS = {
    "matrix": np.arange(6.0).reshape(2, 3),
    "not in C order": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "transposed": np.arange(24).reshape(2, 3, 4).T,
    "every second": np.arange(10)[::2],
    "backwards": np.arange(10)[::-1],
    "broadcast": np.broadcast_to(np.arange(3), (4, 3)),
    "a number": np.array(5.5),
    "empty": np.zeros((0,)),
    "empty with a shape": np.zeros((3, 0, 2), "i4"),
    "big-endian": np.arange(3, dtype=">i4"),
    "dates": np.array(["2026-01-02", "NaT"], "M8[D]"),
    "texts": np.array(["a", "tea"]),
    "booleans": np.array([True, False]),
    "half floats": np.array([0.5], "f2"),
    "matrix class": np.arange(4).reshape(2, 2).view(np.matrix),
    "read-only": np.frombuffer(b"12345678", "i4"),
}


@pytest.mark.filterwarnings("ignore:.*matrix:PendingDeprecationWarning")
@pytest.mark.parametrize("how", ["msgpack", "json"])
@pytest.mark.parametrize("where", WRAPPED)
@pytest.mark.parametrize("value", ARRAYS.values(), ids=ARRAYS)
def test_arrays_arrive(value: Any, where: str, how: str) -> None:
    arrived = UNWRAPPED[where](travelled(WRAPPED[where](value), how))
    np.testing.assert_array_equal(arrived, np.asarray(value))
    assert arrived.dtype == value.dtype
    assert arrived.shape == value.shape


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (np.array([object()]), "is an array of dtype object"),
        (
            np.zeros(2, [("a", "i4"), ("b", "f8")]),
            "is an array of dtype .*'a'.*, which the wire has no name",
        ),
        (np.array(["a"], dtype=np.dtypes.StringDType()), "is an array of dtype StringDType"),
        (np.ma.masked_array([1, 2], [True, False]), "is a masked array, and the mask would be"),
        (np.datetime64("2026", "ns"), r"is a NumPy scalar of type datetime64\[ns\]"),
        (np.complex64(1), "is a NumPy scalar of type complex64"),
        (np.longdouble(1), "is a NumPy scalar of type"),
        (np.zeros(1, [("a", "i4")])[0], "is a NumPy scalar of type"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_arrays_and_scalars_that_would_arrive_as_something_else(value: Any, reason: str) -> None:
    with pytest.raises(Unsendable, match=rf"at \['x'\]\[1\] {reason}"):
        MSGPACK.pack({"x": [0, value]})


# --- what cannot travel -----------------------------------------------------------------------


class Ring:
    pass


@pytest.mark.parametrize(
    "value",
    [Ring(), 1j, range(3), (each for each in ()), len, Ring, collections.deque([1]), ValueError(),
     msgspec.msgpack.Ext(5, b"x"), re.compile("a")],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
@pytest.mark.parametrize("where", WRAPPED)
@pytest.mark.parametrize("packer", PACKERS.values(), ids=PACKERS)
def test_what_is_no_data_is_named(packer: Packer, where: str, value: Any) -> None:
    with pytest.raises(
        Unsendable, match=f"is of type .*{type(value).__name__}, which cannot travel"
    ):
        packer.pack(WRAPPED[where](value))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": [1, {"b": Ring()}]}, r"^at \['a'\]\[1\]\['b'\] is of type"),
        (Book("x", [Book(Ring())]), r"^at \['parts'\]\[0\]\['title'\] is of type"),
        ({"a": {None: 1}}, r"^at \['a'\] has a key of type NoneType; keys are texts$"),
        ([{b"a": 1}], r"^at \[0\] has a key of type bytes; keys are texts$"),
        ([{True: 1}], r"^at \[0\] has a key of type bool; keys are texts$"),
        ({1: "a", "1": "b"}, "^has two keys that are the same text$"),
    ],
    ids=lambda value: repr(value).partition(" object at ")[0],
)
def test_an_error_says_where(value: Any, text: str) -> None:
    with pytest.raises(Unsendable, match=text):
        MSGPACK.pack(value)


@pytest.mark.parametrize(
    ("packer", "value", "text"),
    [
        (MSGPACK, [2**64], r"^at \[0\] is an integer that 64 bits cannot hold$"),
        (MSGPACK, {"a": -(2**63) - 1}, r"^at \['a'\] is an integer that 64 bits cannot hold$"),
        (
            LINES,
            {"a": "x\ud800"},
            r"^at \['a'\] is a text with half a character in it \('\\ud800'\)$",
        ),
        (LINES, [{"\udfff": 1}], r"^at \[0\] has a key that is a text with half a character"),
        (MSGPACK, [Text("\ud800")], r"^at \[0\] is a text with half a character"),
    ],
    ids=lambda value: repr(value).partition(" object at ")[0],
)
def test_what_the_codec_would_refuse_is_found(packer: Packer, value: Any, text: str) -> None:
    with pytest.raises(Unsendable, match=text):
        packer.examine(value)


@pytest.mark.parametrize("value", [2**64 - 1, -(2**63), "\U0001f375", [True, None], {"a": {}}])
def test_what_can_travel_passes_examination(value: Any) -> None:
    MSGPACK.examine(value)
    assert travelled(value) == value


@pytest.mark.parametrize("how", PACKERS)
@pytest.mark.parametrize("inner", [5, Text("a")], ids=["plain", "with work to do"])
def test_values_may_be_nested_500_deep(how: str, inner: Any) -> None:
    value = inner
    for depth in range(500):
        value = [value] if depth % 2 else {"a": value}
    arrived = travelled(value, how)
    for depth in reversed(range(500)):
        arrived = arrived[0] if depth % 2 else arrived["a"]
    assert arrived == inner


def test_buffers_may_lie_500_deep() -> None:
    value: Any = b"x" * APART
    for _ in range(250):
        value = [{"$a": value}]
    arrived = as_memoryviews(travelled(value, form="memoryview"))
    for _ in range(250):
        (arrived,) = arrived
        arrived = arrived["$a"]
    assert arrived == b"x" * APART


def test_what_holds_itself_ends() -> None:
    ring: list[Any] = []
    ring.append(ring)
    book = Book("x")
    book.parts.append(book)
    for value in (ring, book):
        with pytest.raises(RecursionError):
            MSGPACK.pack(value)


# --- references -------------------------------------------------------------------------------

DOLLARS: list[Any] = [
    {"$buffer": 0},
    {"$": 1, "$$": 2, "$$buffer": 3, "$a": {"$buffer": [{"$$$": None}]}},
    [{"$buffer": 5, "dtype": "<f8", "shape": [1]}],
    {"$args": [1], "$kwargs": {}},
]


@pytest.mark.parametrize("how", PACKERS)
@pytest.mark.parametrize(
    "value", DOLLARS, ids=lambda value: repr(value).partition(" object at ")[0]
)
def test_without_buffers_nothing_is_a_reference(value: Any, how: str) -> None:
    packed, buffers = PACKERS[how].pack(value)
    assert (packed, buffers) == (value, [])
    assert travelled(value, how) == value


@pytest.mark.parametrize("how", ["msgpack", "json"])
@pytest.mark.parametrize(
    "value", DOLLARS, ids=lambda value: repr(value).partition(" object at ")[0]
)
def test_beside_buffers_keys_arrive_as_they_were(value: Any, how: str) -> None:
    for whole in ([value, LARGE], [LARGE, value], {"$buffer": LARGE, "$x": value}):
        assert travelled(whole, how) == whole


def test_keys_have_one_more_dollar_beside_buffers() -> None:
    packed, _ = JSON.pack([{"$a": 1, "$$b": 2, "c": 3}, b"x"])
    assert packed == [{"$$a": 1, "$$$b": 2, "c": 3}, {"$buffer": 0}]


def test_a_single_dollar_is_left_as_it_is() -> None:
    assert unpack({"$future": [{"$": 1}]}, [b""]) == {"$future": [{"$": 1}]}


def test_an_empty_list_of_buffers_is_one() -> None:
    assert unpack({"$$a": 1}, []) == {"$a": 1}
    assert unpack({"$$a": 1}, ()) == {"$$a": 1}
    with pytest.raises(ValueError, match="there are 0 buffers"):
        unpack({"$buffer": 0}, [])


@pytest.mark.parametrize("index", [1, -1, 2**70, True, 0.0, "0", None, [0], {"$buffer": 0}])
def test_a_reference_to_nowhere(index: Any) -> None:
    with pytest.raises(ValueError, match=r"\$buffer is .*, but there are 1 buffers"):
        unpack([{"$buffer": index}], [b"abc"])


@pytest.mark.parametrize(
    ("dtype", "shape"),
    [("<f8", [2]), ("<f8", [1, 1, 2]), ("<f8", None), ("<f8", 1), ("<f8", [-1]), ("<f8", [1.0]),
     ("<f8", [True]), ("<f8", [2**62, 2**62]), ("<f8", [1] * 100), ("O", [1]), ("|O8", [1]),
     ("<f3", [1]), ("f8", [1]), ("i4,i4", [1]), ("float64", [1]), ("", [1]), (None, [1]),
     (5, [1]), (["<f8"], [1]), ("|S0", [1]), ("<U0", [1]), ("|V999999999", [1]),
     ("<M8[parsec]", [1]), ("<q8", [1]), ("<f8" * 1000, [1])],
    ids=lambda value: repr(value)[:20],
)  # fmt: skip
def test_an_array_that_is_none(dtype: Any, shape: Any) -> None:
    with pytest.raises(ValueError, match="array"):
        unpack({"$buffer": 0, "dtype": dtype, "shape": shape}, [bytes(8)])


def test_other_members_of_a_reference_are_passed_over() -> None:
    assert unpack({"$buffer": 0, "future": 1}, [b"abc"]) == b"abc"


def test_one_buffer_may_be_referred_to_twice() -> None:
    assert unpack([{"$buffer": 0}, {"$buffer": 0}], [b"abc"]) == [b"abc", b"abc"]


def test_keywords_are_not_taken_for_references() -> None:
    kwargs = {"$buffer": {"$buffer": 0}, "$$x": {"$$y": 1}}
    assert unpack_arguments([{"$$z": 2}], kwargs, [b"abc"]) == (
        [{"$z": 2}],
        {"$buffer": b"abc", "$$x": {"$y": 1}},
    )
    assert unpack_arguments([{"$$z": 2}], kwargs, ()) == ([{"$$z": 2}], kwargs)


# --- params -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "kwargs", "params"),
    [
        ([], {}, msgspec.UNSET),
        ([1], {}, [1]),
        ([], {"a": 1}, {"a": 1}),
        ([1], {"a": 2}, {"$args": [1], "$kwargs": {"a": 2}}),
        ([], {"$a": 1, "$$b": 2}, {"$$a": 1, "$$$b": 2}),
        ([1], {"$args": 2, "$kwargs": 3}, {"$args": [1], "$kwargs": {"$$args": 2, "$$kwargs": 3}}),
        ([], {"a": {"$x": 1}}, {"a": {"$x": 1}}),
    ],
    ids=lambda value: repr(value).partition(" object at ")[0],
)
def test_arguments_there_and_back(args: list[Any], kwargs: dict[str, Any], params: Any) -> None:
    assert pack_params(args, kwargs) == params
    assert unpack_params(params) == (args, kwargs)


def test_a_keyword_with_a_single_dollar_is_left_as_it_is() -> None:
    assert unpack_params({"$alone": 1}) == ([], {"$alone": 1})
    assert unpack_params({"$args": [1]}) == ([1], {})
    assert unpack_params({"$kwargs": {"$$a": 1}}) == ([], {"$a": 1})


@pytest.mark.parametrize(
    "params",
    [None, 5, "text", True, {"$args": 5}, {"$kwargs": []}, {"$args": [], "a": 1}, {1: 2},
     {"$args": [], "$kwargs": {}, "x": 1}, {"$args": [], "$kwargs": None}, {"$kwargs": {b"a": 1}},
     {"$$a": 1, 2: 3}],
    ids=lambda value: repr(value).partition(" object at ")[0],
)  # fmt: skip
def test_params_of_no_form(params: Any) -> None:
    with pytest.raises(ValueError, match=r"params is|must be"):
        unpack_params(params)
