"""From what has travelled to what an annotation asks for."""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import inspect
from datetime import UTC, date, datetime
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, NamedTuple, Protocol, TypedDict, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from plugkeep.wire.conversion import ConversionError, buffer_form, converter

T = TypeVar("T")


@dataclasses.dataclass
class Book:
    title: str
    pages: list[bytes] = dataclasses.field(default_factory=list)
    path: Path | None = None


class Shelf(msgspec.Struct):
    books: dict[str, Book]


class Row(TypedDict):
    a: int


class Point(NamedTuple):
    x: int
    y: int


class Color(enum.Enum):
    RED = "red"


class Closing(Protocol):
    def close(self) -> None: ...


NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
FITTING = {
    "int": (int, 5, 5),
    "float": (float, 0.5, 0.5),
    "float from int": (float, 1, 1.0),
    "str": (str, "a", "a"),
    "bool": (bool, True, True),
    "None": (None, None, None),
    "Any": (Any, [1], [1]),
    "object": (object, {"a": 1}, {"a": 1}),
    "no annotation": (inspect.Parameter.empty, "a", "a"),
    "bytes": (bytes, b"a", b"a"),
    "bytes of a view": (bytes, memoryview(b"a"), b"a"),
    "bytes of views": (list[bytes], [memoryview(b"a"), b"b"], [b"a", b"b"]),
    "bytearray": (bytearray, b"a", bytearray(b"a")),
    "memoryview": (memoryview, b"a", memoryview(b"a")),
    "list": (list[int], [1, 2], [1, 2]),
    "tuple": (tuple[int, str], [1, "a"], (1, "a")),
    "tuple of any length": (tuple[int, ...], [1, 2], (1, 2)),
    "set": (set[int], [1, 1], {1}),
    "sequence": (collections.abc.Sequence[int], [1], [1]),
    "mapping": (collections.abc.Mapping[str, int], {"a": 1}, {"a": 1}),
    "dict with numbers as keys": (dict[int, str], {"1": "a"}, {1: "a"}),
    "literal": (Literal["a", "b"], "b", "b"),
    "enum": (Color, "red", Color.RED),
    "optional": (int | None, None, None),
    "union": (int | str, "a", "a"),
    "annotated": (Annotated[int, msgspec.Meta(ge=3)], 3, 3),
    "moment as text": (datetime, "2026-01-02T12:00:00Z", NOON),
    "moment": (datetime, NOON, NOON),
    "path": (Path, "a/b", Path("a/b")),
    "pure path": (PurePosixPath, "a/b", PurePosixPath("a/b")),
    "named tuple": (Point, [1, 2], Point(1, 2)),
    "typed dict": (Row, {"a": 1}, {"a": 1}),
    "dataclass": (
        Book,
        {"title": "a", "pages": [memoryview(b"p")], "path": "b"},
        Book("a", [b"p"], Path("b")),
    ),
    "struct": (Shelf, {"books": {"x": {"title": "a"}}}, Shelf({"x": Book("a")})),
    "type variable": (T, 5, 5),
    "protocol": (Closing, 5, 5),
    "beyond msgspec": (int | np.ndarray, "a", "a"),
    "not evaluated": ("int", "a", "a"),
    "numpy number": (np.float32, 0.5, np.float32(0.5)),
}


@pytest.mark.parametrize(("annotation", "value", "expected"), FITTING.values(), ids=FITTING)
def test_what_fits(annotation: Any, value: Any, expected: Any) -> None:
    converted = converter(annotation)(value)
    assert converted == expected
    assert type(converted) is type(expected)


MISFITS = {
    "int": (int, "5", "expected a whole number, found a text"),
    "true is no number": (int, True, "expected a whole number, found true or false"),
    "a number is not true": (bool, 1, "expected true or false, found a whole number"),
    "str": (str, b"a", "expected a text, found bytes"),
    "base64 is no bytes": (bytes, "aGk=", "expected bytes, found a text"),
    "None": (None, 5, "expected null, found a whole number"),
    "list": (list[int], [1, "a"], r"expected a whole number, found a text \(at \[1\]\)"),
    "tuple": (tuple[int, str], [1], "expected an array of length 2, found 1"),
    "dict": (dict[str, int], {"a": "x"}, "expected a whole number, found a text"),
    "literal": (Literal["a"], "b", "'b' is none of the values that may be"),
    "enum": (Color, "blue", "'blue' is none of the values that may be"),
    "bounds": (Annotated[int, msgspec.Meta(ge=3)], 2, "expected a whole number >= 3"),
    "path": (Path, 5, "expected Path, found a whole number"),
    "dataclass": (Book, {}, "has no member 'title', which is required"),
    "key": (dict[int, int], {"a": 1}, "expected a whole number, found a text as a key"),
    "union": (int | list[int], "x", "expected a whole number or an array, found a text"),
    "fraction": (int | None, 1.5, "expected a whole number or null, found a number with a frac"),
    "pair": (tuple[int, int], [1], "expected an array of length 2, found 1 items"),
    "day": (date, "soon", "expected a date as in RFC 3339"),
    "within": (
        Shelf,
        {"books": {"x": {"title": "a", "pages": [b"", 5]}}},
        r"expected bytes, found a whole number \(at \.books\[...\]\.pages\[1\]\)",
    ),
    "array": (np.ndarray, b"abc", "expected an array, found bytes"),
    "ragged": (np.ndarray, [1, [2]], "expected an array, found lists of different lengths"),
    "objects": (np.ndarray, [None], "expected an array, found lists of different lengths, or of"),
    "other items": (
        npt.NDArray[np.float32],
        np.zeros(2),
        "expected an array of float32, found one of float64",
    ),
}


@pytest.mark.parametrize(("annotation", "value", "reason"), MISFITS.values(), ids=MISFITS)
def test_what_does_not_fit_says_so(annotation: Any, value: Any, reason: str) -> None:
    with pytest.raises(ConversionError, match=f"^{reason}") as raised:
        converter(annotation)(value)
    assert isinstance(raised.value, ValueError)


@pytest.mark.parametrize(
    ("annotation", "value", "dtype"),
    [
        (np.ndarray, np.zeros(2, "i2"), "int16"),
        (np.ndarray, [1, 2], "int64"),
        (np.ndarray | None, np.zeros(2), "float64"),
        (npt.NDArray[np.float64], np.zeros(2, "f4"), "float64"),
        (npt.NDArray[np.float64], [1, 2], "float64"),
        (npt.NDArray[np.floating], np.zeros(2, "f4"), "float32"),
        (npt.NDArray[Any], np.zeros(2, "u1"), "uint8"),
        (dict[str, npt.NDArray[np.int8]], {"a": np.zeros(1, "i1")}, "int8"),
    ],
    ids=str,
)
def test_arrays(annotation: Any, value: Any, dtype: str) -> None:
    converted = converter(annotation)(value)
    array = converted["a"] if isinstance(converted, dict) else converted
    assert isinstance(array, np.ndarray)
    assert array.dtype == dtype


@pytest.mark.parametrize("annotation", [np.ndarray, npt.NDArray[np.float64], Any, memoryview])
def test_nothing_is_copied_that_fits(annotation: Any) -> None:
    value = memoryview(b"abc") if annotation is memoryview else np.zeros(3)
    assert converter(annotation)(value) is value


@pytest.mark.parametrize(
    ("annotation", "form"),
    [
        (memoryview, "memoryview"),
        (memoryview | None, "memoryview"),
        (dict[str, list[memoryview]], "memoryview"),
        (Annotated[memoryview, 5], "memoryview"),
        (bytes, "bytes"),
        (Any, "bytes"),
        (inspect.Parameter.empty, "bytes"),
        (np.ndarray, "bytes"),
        (Literal["memoryview"], "bytes"),
    ],
    ids=str,
)
def test_how_buffers_are_wanted(annotation: Any, form: str) -> None:
    assert buffer_form(annotation) == form
