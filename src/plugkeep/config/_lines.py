"""On which line each key of a TOML text stands.

`tomllib` gives values without their places, and the packages that keep places parse ten times
slower. This finds the places only, in a text that `tomllib` has accepted before.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from plugkeep.config.model import Key

_token = re.compile(
    r'''"""(?:\\.|[^\\])*?"{3,5}'''
    r"""|'''.*?'{3,5}"""
    r'''|"(?:\\.|[^"\\\n])*"'''
    r"""|'[^'\n]*'"""
    r"""|\#[^\n]*|\n|[\[\]{},=.]|[^\s\[\]{},=."'\#]+""",
    re.DOTALL,
)

_CLOSING = ("}", ",")  # which end an inline table, or a pair in it, whatever was being read


def key_lines(text: str) -> dict[Key, int]:
    """Return the line, counted from 1, of each key and table header in `text`."""
    scan = _Scan()
    counted = 0
    line = 1
    for match in _token.finditer(text):
        line += text.count("\n", counted, match.start())
        counted = match.start()
        scan.take(match[0], line)
    return scan.lines


@dataclass(slots=True)
class _Scan:
    """Where the scanner stands: in a key, a header or a value, and in which brackets."""

    lines: dict[Key, int] = field(default_factory=dict)
    #: The header that the present keys stand under.
    table: Key = ()
    #: Open brackets of the present value: the key of an inline table, None for an array.
    nest: list[Key | None] = field(default_factory=list)
    #: Parts of the key or header that is being read.
    parts: list[str] = field(default_factory=list)
    #: The key whose value is being read; None while a key or header is.
    value_of: Key | None = None

    def take(self, token: str, line: int) -> None:
        if token.startswith("#"):
            return
        if self.value_of is not None or token in _CLOSING:
            self._in_value(token)
        else:
            self._in_key(token, line)

    def _in_key(self, token: str, line: int) -> None:
        match token:
            case "\n" if not self.nest:
                self.parts = []
            case "]" if self.parts:  # the end of a header, for in a key there is no other
                self.table = self._found(tuple(self.parts), line)
                self.parts = []
            case "=":
                around = self.nest[-1] if self.nest else None
                self.value_of = self._found((*(around or self.table), *self.parts), line)
                self.parts = []
            case "\n" | "[" | "]" | ".":
                pass
            case _:
                self.parts.append(_unquoted(token))

    def _in_value(self, token: str) -> None:
        match token:
            case "{":
                self.nest.append(self.value_of)
                self.value_of = None
            case "[":
                self.nest.append(None)
            case "]" | "}" if self.nest:
                self.value_of = self.nest.pop() or self.value_of
            case "\n" if not self.nest:
                self.value_of = None
            case "," if self.nest and self.nest[-1] is not None:
                self.value_of = None

    def _found(self, key: Key, line: int) -> Key:
        for depth in range(1, len(key)):
            self.lines.setdefault(key[:depth], line)
        self.lines[key] = line
        return key


def _unquoted(token: str) -> str:
    if token[0] == "'":
        return token[1:-1]
    if token[0] == '"':
        import tomllib

        return str(tomllib.loads(f"key = {token}")["key"])
    return token
