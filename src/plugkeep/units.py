"""Durations and sizes as people write them: ``"1h30m"``, ``"500ms"``, ``"64MiB"``.

Reading is exact to what the text says; writing rounds to three digits, for people.
"""

from __future__ import annotations

import math
import re

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

#: Beyond this (a hundred years) the system's own clocks and locks refuse a timeout.
_LONGEST = 36500 * _SECONDS["d"]

_BYTES = {
    "B": 1,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
}
_bytes_of = {unit.lower(): size for unit, size in _BYTES.items()}

#: What a file or an address space can hold at most.
_LARGEST = 2**63 - 1

_NUMBER = r"([0-9]{1,18})(?:\.([0-9]{1,18}))?"
_one_duration = re.compile(rf"{_NUMBER}\s*(ms|s|m|h|d)\s*").match
_bare_number = re.compile(_NUMBER).fullmatch
_one_size = re.compile(rf"{_NUMBER}\s*([A-Za-z]*)").fullmatch

_DURATION_HELP = (
    'a duration is a number of seconds, or text like "5s", "500ms", "2m" or "1h30m" '
    "(units: ms, s, m, h, d; the larger first, each once)"
)
_SIZE_HELP = (
    'a size is a whole number of bytes, or text like "512", "64MiB" or "1GB" '
    f"(units: {', '.join(_BYTES)})"
)


def parse_duration(value: object) -> float:
    """Return `value`, such as ``"1h30m"``, ``"500ms"`` or a number of seconds, in seconds.

    Raises ValueError, saying what was expected, for anything else: negative, infinite, not a
    number, longer than a hundred years.
    """
    seconds = _seconds(value)
    if seconds is None or not 0 <= seconds <= _LONGEST:
        too_long = seconds is not None and _LONGEST < seconds < math.inf
        limit = "at most 36500d; " if too_long else ""
        raise ValueError(f"{value!r} is not a duration: {limit}{_DURATION_HELP}")
    return seconds


def _seconds(value: object) -> float | None:
    if isinstance(value, str):
        return _seconds_in(value.strip())
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _seconds_in(text: str) -> float | None:
    if _bare_number(text):
        return float(text)
    units = list(reversed(_SECONDS))
    total, position = 0.0, 0
    while position < len(text):
        part = _one_duration(text, position)
        if part is None or part[3] not in units:
            return None
        total += float(f"{part[1]}.{part[2] or 0}") * _SECONDS[part[3]]
        units = units[units.index(part[3]) + 1 :]
        position = part.end()
    return total if text else None


def parse_size(value: object) -> int:
    """Return `value`, such as ``"64MiB"``, ``"1.5GB"`` or a number of bytes, in bytes.

    KiB, MiB, ... are powers of 1024, kB, MB, ... powers of 1000; case does not matter. Raises
    ValueError, saying what was expected, for anything else.
    """
    size = _bytes(value)
    if size is None or not 0 <= size <= _LARGEST:
        raise ValueError(f"{value!r} is not a size: {_SIZE_HELP}")
    return size


def _bytes(value: object) -> int | None:
    if isinstance(value, str):
        return _bytes_in(value.strip())
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _bytes_in(text: str) -> int | None:
    match = _one_size(text)
    if match is None:
        return None
    whole, fraction = match[1], match[2] or ""
    unit = _bytes_of.get((match[3] or "B").lower())
    # In integers, for floats would lose bytes above 8 PiB.
    return None if unit is None else int(whole + fraction) * unit // 10 ** len(fraction)


def format_duration(seconds: float) -> str:
    """Return `seconds` for people: ``"0.42ms"``, ``"12.3ms"``, ``"1.5s"``, ``"1h30m"``."""
    if seconds < 0.9995:
        return f"{_three_digits(seconds * 1000)}ms"
    if seconds < 59.95:
        return f"{_three_digits(seconds)}s"
    left = round(seconds)
    parts = []
    for unit in ("d", "h", "m", "s"):
        count, left = divmod(left, int(_SECONDS[unit]))
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)


def format_size(size: int) -> str:
    """Return `size`, in bytes, for people: ``"512B"``, ``"1.5KiB"``, ``"64MiB"``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if round(size / _BYTES[unit]) < 1024:
            return f"{_three_digits(size / _BYTES[unit])}{unit}"
    return f"{_three_digits(size / _BYTES['TiB'])}TiB"


def _three_digits(value: float) -> str:
    places = 2 if value < 9.995 else 1 if value < 99.95 else 0
    text = f"{value:.{places}f}"
    return text.rstrip("0").rstrip(".") if places else text
