"""The ready message: the first thing that a plugin says, and at level 0 the only one.

It is one JSON object with a member ``"ready": true``. It may carry other members, be spread over
lines, begin with white space, lack a newline at its end and be followed by anything. What is
accepted is what the Go package's decoder accepts, so neither `json` nor a line reader will do:
the verdict has to come with the very byte that decides it, for the plugin may print no other.

The parser is a table of states and, beside it, a stack that holds for every open object or array
the state that follows the value at hand.
"""

from __future__ import annotations

import math
import re
from enum import Enum

#: A ready message that has not ended after so many bytes, white space before it included, is none.
MAX_BYTES = 1024 * 1024
#: Objects and arrays within one another, the message itself being the first.
MAX_DEPTH = 500

_SPACE = b" \t\r\n"
_DIGITS = b"0123456789"
_HEX = b"0123456789abcdefABCDEF"
_IN_STRING = bytes(byte for byte in range(0x20, 0x100) if byte not in b'"\\')

# Steps that do more than go to the next state; see `_step`.
_OPEN_OBJECT, _OPEN_ARRAY, _COLON, _COMMA, _CLOSE, _END = "{", "[", ":", ",", "close", "end"

_NUMBER = {b"-": "minus", b"0": "zero", b"123456789": "integer"}
_VALUE = {
    b'"': "string",
    b"{": _OPEN_OBJECT,
    b"[": _OPEN_ARRAY,
    b"t": "t",
    b"f": "f",
    b"n": "n",
    **_NUMBER,
}
_POINT_OR_EXPONENT = {b".": "point", b"eE": "e"}

#: For each state what is expected in it, in words, and where each byte that may come leads.
_GRAMMAR: dict[str, tuple[str, dict[bytes, str]]] = {
    "start": ("a JSON object", {_SPACE: "start", b"{": _OPEN_OBJECT}),
    "first key": ("'\"' or '}'", {_SPACE: "first key", b'"': "string", b"}": _CLOSE}),
    "key": ("'\"'", {_SPACE: "key", b'"': "string"}),
    "after key": ("':'", {_SPACE: "after key", b":": _COLON}),
    "value": ("a value", {_SPACE: "value", **_VALUE}),
    "after member": ("',' or '}'", {_SPACE: "after member", b",": _COMMA, b"}": _CLOSE}),
    "first element": ("a value or ']'", {_SPACE: "first element", b"]": _CLOSE, **_VALUE}),
    "after element": ("',' or ']'", {_SPACE: "after element", b",": "value", b"]": _CLOSE}),
    "string": ("a character", {_IN_STRING: "string", b'"': _END, b"\\": "escape"}),
    "escape": ('one of "\\/bfnrtu', {b'"\\/bfnrt': "string", b"u": "u"}),
    "u": ("a hexadecimal digit", {_HEX: "u1"}),
    "u1": ("a hexadecimal digit", {_HEX: "u2"}),
    "u2": ("a hexadecimal digit", {_HEX: "u3"}),
    "u3": ("a hexadecimal digit", {_HEX: "string"}),
    "minus": ("a digit", {b"0": "zero", b"123456789": "integer"}),
    "zero": ("the end of a number", _POINT_OR_EXPONENT),
    "integer": ("the end of a number", {_DIGITS: "integer", **_POINT_OR_EXPONENT}),
    "point": ("a digit", {_DIGITS: "fraction"}),
    "fraction": ("the end of a number", {_DIGITS: "fraction", b"eE": "e"}),
    "e": ("a digit or sign", {b"+-": "sign", _DIGITS: "exponent"}),
    "sign": ("a digit", {_DIGITS: "exponent"}),
    "exponent": ("the end of a number", {_DIGITS: "exponent"}),
    "t": ("true", {b"r": "tr"}),
    "tr": ("true", {b"u": "tru"}),
    "tru": ("true", {b"e": _END}),
    "f": ("false", {b"a": "fa"}),
    "fa": ("false", {b"l": "fal"}),
    "fal": ("false", {b"s": "fals"}),
    "fals": ("false", {b"e": _END}),
    "n": ("null", {b"u": "nu"}),
    "nu": ("null", {b"l": "nul"}),
    "nul": ("null", {b"l": _END}),
}
_NEXT = {
    state: {byte: target for group, target in row.items() for byte in group}
    for state, (_, row) in _GRAMMAR.items()
}
#: From these a string, a number or a word begins.
_BEFORE_TOKEN = frozenset({"first key", "key", "value", "first element"})
#: In these states a byte that is not listed ends the number and belongs to what follows it.
_NUMBER_MAY_END = frozenset({"zero", "integer", "fraction", "exponent"})
#: What makes no difference where it stands is passed over at once, for speed.
_RUNS = {
    "string": re.compile(rb'[^"\\\x00-\x1f]+'),
    "start": re.compile(rb"[ \t\r\n]+"),
    "integer": re.compile(rb"[0-9]+"),
    "fraction": re.compile(rb"[0-9]+"),
}
#: The message as nearly all plugins print it is known at a glance, for it is in the way of a start.
_PLAIN = re.compile(rb'\{[ ]?"ready"[ ]?:[ ]?true[ ]?\}').match
#: The key may be written with escapes, and counts all the same.
_READY_KEY = re.compile(
    rb'"(?:r|\\u0072)(?:e|\\u0065)(?:a|\\u0061)(?:d|\\u0064)(?:y|\\u0079)"'
).fullmatch


class Verdict(Enum):
    """What is known of a ready message so far."""

    MORE = "more"
    READY = "ready"
    REFUSED = "refused"


class ReadyParser:
    """Reads one ready message, in pieces of any size, in time linear to its length.

    `verdict` is what the last `feed` returned. With REFUSED, `reason` says why, as the end of a
    sentence. With READY, `message` is the object as it was received and `rest` what came after it
    in the same piece.
    """

    def __init__(self) -> None:
        self.verdict = Verdict.MORE
        self.reason = ""
        self.rest = b""
        self._received = bytearray()
        self._state = "start"
        self._stack: list[str] = []
        self._token = 0  # where the string, number or word at hand begins
        self._at_ready = False  # the value at hand is that of the key "ready"
        self._ready = False

    @property
    def message(self) -> bytes:
        """All that was read of the message, from its first byte on."""
        return bytes(self._received).lstrip(_SPACE)

    def feed(self, data: bytes) -> Verdict:
        """Take the next bytes and return what is known now. After a verdict nothing changes it."""
        if self.verdict is not Verdict.MORE:
            return self.verdict
        start = len(self._received)
        self._received += data[: MAX_BYTES - start]
        if not start and (plain := _PLAIN(data)):
            self.verdict, end = Verdict.READY, plain.end()
        else:
            end = self._parse(start)
        self.rest = data[end - start :]
        del self._received[end:]
        if self.verdict is Verdict.MORE and self.rest:
            self._refuse(f"is longer than {MAX_BYTES} bytes")
        return self.verdict

    def end(self) -> Verdict:
        """Say that nothing more will come, and return the verdict."""
        if self.verdict is Verdict.MORE:
            self._refuse("ends in the middle" if self.message else "is empty")
        return self.verdict

    def _parse(self, position: int) -> int:
        """Go on from `position`, return where it stopped: behind the byte that decided, or all."""
        received, state = self._received, self._state
        while position < len(received) and self.verdict is Verdict.MORE:
            if (run := _RUNS.get(state)) and (passed := run.match(received, position)):
                position = passed.end()
                continue
            target = _NEXT[state].get(received[position])
            if target is None and state in _NUMBER_MAY_END:
                state = self._end_number(position)
                continue
            if target is None:
                self._refuse_byte(state, position)
                break
            if state in _BEFORE_TOKEN:
                self._token = position
            position += 1
            state = target if target in _NEXT else self._step(target, position)
        self._state = state
        return position

    def _step(self, step: str, position: int) -> str:
        """Do `step`, whose byte lies before `position`, and return the next state."""
        stack = self._stack
        if step == _COLON:
            stack[-1] = "after member"
            return "value"
        if step == _COMMA:
            stack[-1] = "after key"
            return "key"
        if step == _OPEN_OBJECT:
            return self._open("after key", "first key")
        if step == _OPEN_ARRAY:
            return self._open("after element", "first element")
        if step == _CLOSE:
            stack.pop()
        return self._end_value(position) if stack else self._finish()

    def _open(self, after: str, state: str) -> str:
        if len(self._stack) == MAX_DEPTH:
            self._refuse(f"is nested deeper than {MAX_DEPTH}")
        self._stack.append(after)
        return state

    def _end_number(self, position: int) -> str:
        if math.isinf(float(self._received[self._token : position])):
            self._refuse(f"has a number too large at byte {self._token}")
        return self._end_value(position)

    def _end_value(self, position: int) -> str:
        """Note what a key or value of the message itself was; return the state after it."""
        after = self._stack[-1]
        if len(self._stack) == 1:
            if after == "after key":
                self._at_ready = bool(_READY_KEY(self._received, self._token, position))
            elif self._at_ready:
                self._ready = self._received[self._token : position] == b"true"
        return after

    def _finish(self) -> str:
        if self._ready:
            self.verdict = Verdict.READY
        else:
            self._refuse('has no "ready": true')
        return "start"

    def _refuse_byte(self, state: str, position: int) -> None:
        found = ascii(chr(self._received[position]))
        self._refuse(f"has {found} at byte {position}, where {_GRAMMAR[state][0]} should be")

    def _refuse(self, reason: str) -> None:
        self.verdict, self.reason = Verdict.REFUSED, reason
