"""From the arguments that came to those that a method takes."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugkeep.channel.binding import Binding
from plugkeep.errors import InvalidArgumentsError

if TYPE_CHECKING:
    from nowhere import Nothing  # type: ignore[import-not-found]


def typed(text: str, count: int = 1, *rest: float, flag: bool = False, **others: str) -> None: ...
def free(a, b=1): ...
def lost(a: Nothing, b: int) -> None: ...
def optional(a: str | None, b: int | bool = 1) -> None: ...
def whole(a: list[int]) -> None: ...
def view(data: memoryview) -> None: ...


def bound(function: Any, *args: Any, **kwargs: Any) -> tuple[list[Any], dict[str, Any]]:
    return Binding(function).bind(list(args), kwargs, ())


def test_each_argument_becomes_what_its_annotation_says():
    assert bound(typed, "a", 2, 3, flag=True, x="y") == (["a", 2, 3.0], {"flag": True, "x": "y"})
    (number,) = bound(typed, "a", 2, 3)[0][2:]
    assert type(number) is float
    assert type(bound(view, b"abc")[0][0]) is memoryview
    assert bound(lost, object, 1) == ([object, 1], {})


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "told"),
    [
        (typed, (), {}, "'text'"),
        (typed, (1,), {}, "'text': expected a text, found a whole number"),
        (typed, ("a", "b"), {}, "'count'"),
        (typed, ("a", 1, "b"), {}, "'rest'"),
        (typed, ("a",), {"flag": "yes"}, "'flag'"),
        (typed, ("a",), {"other": 5}, "'other'"),
        (typed, ("a",), {"text": "b"}, "'text'"),
        (free, (1, 2, 3), {}, "too many"),
        (free, (1,), {"c": 2}, "'c'"),
        (lost, (1, "b"), {}, "'b'"),
        (whole, ([1, "x"],), {}, "[1]"),
    ],
)
def test_what_does_not_fit_is_named(function, args, kwargs, told):
    with pytest.raises(InvalidArgumentsError) as caught:
        bound(function, *args, **kwargs)
    assert told in str(caught.value)


def test_a_reference_to_a_buffer_that_is_not_there_is_told():
    with pytest.raises(InvalidArgumentsError, match="buffer"):
        Binding(free).bind([{"$buffer": 3}], {}, [b""])


def test_what_has_come_and_was_right_is_known():
    binding = Binding(typed)
    assert binding.known == set()
    binding.bind(["a"], {}, ())
    binding.bind(["a", 1], {}, ())
    assert binding.known == {str, (str, int)}
    with pytest.raises(InvalidArgumentsError):
        binding.bind([1], {}, ())
    binding.bind(["a"], {"flag": True}, ())
    binding.bind(["a", 1, 2], {}, ())  # the last has to be converted each time
    assert binding.known == {str, (str, int)}
    assert Binding(free).known is None


@given(st.lists(st.one_of(st.text(), st.integers(), st.booleans(), st.none(), st.floats())))
def test_what_is_known_needs_no_conversion(args):
    """The runner calls methods with such arguments as they came."""
    for function in (typed, optional, free):
        binding = Binding(function)
        try:
            became, _ = binding.bind(args, {}, ())
        except InvalidArgumentsError:
            assert not binding.known
            continue
        kinds = type(args[0]) if len(args) == 1 else tuple(map(type, args))
        if binding.known is not None and kinds in binding.known:
            assert all(a is b for a, b in zip(args, became, strict=True))


def test_params_are_written_as_in_a_signature():
    def every(a, /, b, c=1, *rest, d, e=2, **others): ...
    def markers(a, /, *, b): ...
    def only(a, /): ...

    assert Binding(every).params() == ["a", "/", "b", "c=", "*rest", "d", "e=", "**others"]
    assert Binding(markers).params() == ["a", "/", "*", "b"]
    assert Binding(only).params() == ["a", "/"]
    for function in (every, markers, only, typed):
        written = ", ".join(Binding(function).params() or ()).replace("=", "=0")
        names: dict[str, Any] = {}
        exec(f"def back({written}): ...", names)
        assert list(inspect.signature(names["back"]).parameters) == list(
            inspect.signature(function).parameters
        )
