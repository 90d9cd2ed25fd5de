"""From a file to its TOML tables, or to what is wrong with it and on which line."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from plugkeep.units import format_size

#: More than anybody writes by hand; less than what /dev/zero would give.
_LIMIT = 2**20

NO_FILE = "there is no such file"


class UnreadableError(Exception):
    """Raised for what is no TOML file; the text says what it is, `line` where it is wrong."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


def read_text(file: str) -> str:
    """Return the text in `file`, with its line ends as TOML has them."""
    try:
        with Path(file).open("rb") as stream:
            content = stream.read(_LIMIT + 1)
    except FileNotFoundError:
        raise UnreadableError(NO_FILE) from None
    except IsADirectoryError:
        raise UnreadableError("is a directory; expected a TOML file in it, by name") from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        reason = getattr(error, "strerror", None) or str(error)
        raise UnreadableError(f"cannot be read: {reason}") from None
    if len(content) > _LIMIT:
        raise UnreadableError(f"is larger than {format_size(_LIMIT)}; expected a configuration")
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        byte = f"byte 0x{content[error.start]:02x}"
        raise UnreadableError(f"is not UTF-8: found {byte}; save it as UTF-8", line) from None


def parse(text: str) -> dict[str, Any]:
    """Return the tables that `text` says."""
    try:
        return tomllib.loads(text)
    except RecursionError:
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
