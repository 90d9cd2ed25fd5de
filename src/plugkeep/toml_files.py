"""From a TOML file that anybody may have written to its tables, or to what is wrong with it.

Whatever stands at the path, reading it ends, and takes neither much time nor much memory.
"""

from __future__ import annotations

import os
import re
import stat
from typing import Any

from plugkeep.units import format_size

#: More than anybody writes by hand.
_LIMIT = 2**20

#: The most parts of one key, and the most brackets around one value. The time and the memory
#: that `tomllib` takes for a key grow with the square of its parts: 20,000 took 1.6 GB.
_DEEPEST = 32

#: What is said of a path at which there is nothing.
NO_FILE = "there is no such file"
DEAD_LINK = "is a link to nothing"

#: Pipes that somebody gave on purpose, such as the shell's ``<(...)``.
_given = re.compile(r"/dev/(stdin|fd/\d+)|/proc/self/fd/\d+").fullmatch


class UnreadableError(Exception):
    """Raised for what is no TOML file; the text says what it is, `line` where it is wrong."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


def read_text(file: str) -> str:
    """Return the text in `file`, with its line ends as TOML has them."""
    try:
        content = _content(file)
    except FileNotFoundError:
        raise UnreadableError(DEAD_LINK if os.path.islink(file) else NO_FILE) from None  # noqa: PTH114  (cheaper)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        reason = getattr(error, "strerror", None) or str(error)
        raise UnreadableError(f"cannot be read: {reason}") from None
    if len(content) > _LIMIT:
        raise UnreadableError(f"is larger than {format_size(_LIMIT)}; expected a TOML file")
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        byte = f"byte 0x{content[error.start]:02x}"
        raise UnreadableError(f"is not UTF-8: found {byte}; save it as UTF-8", line) from None


def _content(file: str) -> bytes:
    # Without O_NONBLOCK opening a pipe would wait for somebody to write to it.
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISFIFO(mode) and _given(file):
            os.set_blocking(descriptor, True)
        elif not stat.S_ISREG(mode):
            raise UnreadableError(f"is {_kind(mode)}; expected a TOML file")
        with open(descriptor, "rb", closefd=False) as stream:
            return stream.read(_LIMIT + 1) or b""
    finally:
        os.close(descriptor)


def _kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "a directory"
    return "a pipe" if stat.S_ISFIFO(mode) else "a device"


def parse(text: str) -> dict[str, Any]:
    """Return the tables that `text` says."""
    import tomllib

    _check_depth(text)
    try:
        return tomllib.loads(text)
    except RecursionError:  # few brackets suffice where the caller's own stack is deep
        raise UnreadableError("is nested too deeply to be read") from None
    except tomllib.TOMLDecodeError as error:
        message = str(error)
    except ValueError:  # from int(), which bounds the digits that it takes
        raise UnreadableError("holds a number of too many digits") from None
    place = re.search(r" \(at line (\d+), column \d+\)$", message)
    line = int(place[1]) if place else text.count("\n") + 1
    complaint = message[: place.start()] if place else message.replace(" (at end of document)", "")
    if "Cannot overwrite" in message or "twice" in message:
        complaint = "a key or table is given a second time here"
    raise UnreadableError(f"is not TOML: {complaint}", line)


# --- depth ------------------------------------------------------------------------------------

_PART = r"""(?:[\w-]++|"(?:\\[^\n]|[^"\\\n])*+"?+|'[^'\n]*+'?+)"""
_part = re.compile(_PART)

#: Comments, long texts, brackets, and what may be a dotted key. What has no end goes on to the
#: end of the line or of the text, so that no character is looked at twice.
_token = re.compile(
    r'''#[^\n]*+|"""(?:\\.|[^\\])*?(?:"{3,5}|\\?\Z)'''
    r"""|'''.*?(?:'{3,5}|\Z)"""
    rf"""|[\[\]{{}}]|{_PART}(?:[ \t]*+\.[ \t]*+{_PART})*+""",
    re.DOTALL,
)


def _check_depth(text: str) -> None:
    """Refuse what is nested deeper than anybody means, at a glance."""
    depth = 0
    for match in _token.finditer(text):
        found = match[0]
        if found in "[{":
            depth += 1
        elif found in "]}":
            depth = max(depth - 1, 0)
        if depth > _DEEPEST or (found.count(".") >= _DEEPEST and _has_many_parts(found)):
            line = text.count("\n", 0, match.start()) + 1
            raise UnreadableError(
                f"is nested too deeply: expected at most {_DEEPEST} parts of a key, "
                "and as many brackets around a value",
                line,
            )


def _has_many_parts(found: str) -> bool:
    long_text = found.startswith(('"""', "'''", "#"))
    return not long_text and len(_part.findall(found)) > _DEEPEST
