from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugkeep.units import format_duration, format_size, parse_duration, parse_size

anything = st.one_of(
    st.text(),
    st.floats(),
    st.integers(),
    st.booleans(),
    st.binary(),
    st.from_regex(r"[0-9.smhdBKi ]*"),
)


@given(st.floats(min_value=0, max_value=3e9))
def test_a_duration_shown_and_read_is_the_same_within_its_three_digits(seconds):
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, rel=0.01, abs=6e-6)


@given(st.integers(min_value=60, max_value=3 * 10**9))
def test_whole_seconds_from_a_minute_on_are_shown_exactly(seconds):
    assert parse_duration(format_duration(seconds)) == seconds


@given(st.integers(min_value=0, max_value=2**62))
def test_a_size_shown_and_read_is_the_same_within_its_three_digits(size):
    assert parse_size(format_size(size)) == pytest.approx(size, rel=0.01)


@given(st.integers(0, 1023), st.sampled_from(["B", "KiB", "MiB", "GiB", "TiB"]))
def test_whole_units_are_shown_exactly(count, unit):
    size = parse_size(f"{count}{unit}")
    assert parse_size(format_size(size)) == size


@pytest.mark.parametrize("parse", [parse_duration, parse_size])
@given(value=anything)
def test_anything_else_is_refused_with_a_value_error_and_nothing_worse(parse, value):
    try:
        result = parse(value)
    except ValueError:
        return
    assert result >= 0
