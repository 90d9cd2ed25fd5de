from __future__ import annotations

import math

import pytest

from plugkeep.units import format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("5s", 5.0),
        ("500ms", 0.5),
        ("2m", 120.0),
        ("1h30m", 5400.0),
        ("1h 30m", 5400.0),
        (" 1.5s ", 1.5),
        ("1d2h3m4s5ms", 93784.005),
        ("5", 5.0),
        ("0.25", 0.25),
        (5, 5.0),
        (0.5, 0.5),
        (0, 0.0),
        ("36500d", 3153600000.0),
    ],
)
def test_durations_that_people_write(value, seconds):
    result = parse_duration(value)
    assert result == pytest.approx(seconds)
    assert type(result) is float


@pytest.mark.parametrize(
    "value",
    ["", " ", "s", "5 apples", "5S", "-5s", "-1", "1e3", "5s5s", "30m1h", "1,5s", "nan", "inf",
     "1h-5m", "٣s", "36501d", "9" * 5000, -1, -0.001, math.nan, math.inf, -math.inf, 10**400,
     True, False, None, [], b"5s", object],
)  # fmt: skip
def test_what_is_no_duration_is_refused_with_examples(value):
    with pytest.raises(ValueError, match="is not a duration") as caught:
        parse_duration(value)
    assert '"1h30m"' in str(caught.value)
    assert "units: ms, s, m, h, d" in str(caught.value)


def test_a_duration_that_is_too_long_is_told_the_limit():
    with pytest.raises(ValueError, match="at most 36500d"):
        parse_duration(1e300)


@pytest.mark.parametrize(
    ("value", "size"),
    [
        ("64MiB", 64 * 2**20),
        ("64 mib", 64 * 2**20),
        ("1GB", 10**9),
        ("1.5KiB", 1536),
        ("2kB", 2000),
        ("3TiB", 3 * 2**40),
        ("512", 512),
        ("512B", 512),
        (1024, 1024),
        (1024.0, 1024),
        (0, 0),
        (2**63 - 1, 2**63 - 1),
        ("9007199254740993", 2**53 + 1),
    ],
)
def test_sizes_that_people_write(value, size):
    result = parse_size(value)
    assert result == size
    assert type(result) is int


@pytest.mark.parametrize(
    "value",
    ["", "MiB", "64M", "64 apples", "-1", "1e3", "1 2", "9" * 5000, "99999999TiB", "1.MiB",
     -1, 0.5, math.nan, math.inf, 2**63, 10**400, True, False, None, [], b"1"],
)  # fmt: skip
def test_what_is_no_size_is_refused_with_examples(value):
    with pytest.raises(ValueError, match="is not a size") as caught:
        parse_size(value)
    assert '"64MiB"' in str(caught.value)
    assert "KiB, MiB, GiB, TiB, kB, MB, GB, TB" in str(caught.value)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0ms"),
        (0.00042, "0.42ms"),
        (0.0123, "12.3ms"),
        (0.25, "250ms"),
        (0.9999, "1s"),
        (1.5, "1.5s"),
        (10, "10s"),
        (59.97, "1m"),
        (90, "1m30s"),
        (5400, "1h30m"),
        (86400, "1d"),
    ],
)
def test_durations_are_shown_with_three_digits(seconds, text):
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0B"),
        (100, "100B"),
        (1023, "1023B"),
        (1536, "1.5KiB"),
        (2**20 - 1, "1MiB"),
        (64 * 2**20, "64MiB"),
        (2000 * 2**40, "2000TiB"),
    ],
)
def test_sizes_are_shown_with_three_digits(size, text):
    assert format_size(size) == text
