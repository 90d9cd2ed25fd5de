"""Play the host's part of the transcripts to a plugin, and see that the plugin plays its own.

    python protocol/replay.py ./plugin --its-own argument
    python protocol/replay.py --level 2 --only stream,cancel ./plugin

The plugin is the reference plugin of conformance.md, or what there is of it: transcripts that
need methods which it does not announce are skipped. Exits with 0 if all others hold.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from replay_channels import FramedPlugin, Message, Plugin, WireError

TRANSCRIPTS = Path(__file__).with_name("transcripts")
#: Played before those that begin when the plugin runs, and after those that do not end it.
OPENING, CLOSING = "opening", "closing"
#: For languages without integers of 64 bits, which the protocol allows.
WIDE = "values-wide-integers"


class MismatchError(Exception):
    """Raised when a plugin says something else than the transcript; `args` say where and what."""


class SkippedError(Exception):
    """Raised when a transcript is not for this plugin."""


@dataclass(frozen=True)
class Line:
    """One line of a transcript; `event` is what stands in it."""

    place: str
    event: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.place}: {json.dumps(self.event, ensure_ascii=False)[:500]}"


@dataclass(frozen=True)
class Transcript:
    """One file: its header, with the defaults filled in, and its lines."""

    name: str
    about: str
    levels: tuple[int, ...]
    begins: str
    needs: tuple[str, ...]
    tests: tuple[str, ...]
    codec: str | None
    batch: bool
    lines: tuple[Line, ...]

    @property
    def whole(self) -> tuple[Line, ...]:
        """The lines, with the opening and the closing where they are needed."""
        before = load(OPENING).lines if self.begins == "running" else ()
        ended = any("exits" in line.event for line in self.lines)
        return (*before, *self.lines, *(() if ended else load(CLOSING).lines))


def load(name: str) -> Transcript:
    path = TRANSCRIPTS / f"{name}.ndjson"
    header, *events = map(json.loads, path.read_text().strip().split("\n"))
    return Transcript(
        name=header["transcript"],
        about=header["about"],
        levels=tuple(header.get("levels", (1, 2))),
        begins=header.get("begins", "running"),
        needs=tuple(header.get("needs", ())),
        tests=tuple(header.get("tests", ("plugin", "host"))),
        codec=header.get("codec"),
        batch=header.get("batch", False),
        lines=tuple(Line(f"{path.name}:{n}", each) for n, each in enumerate(events, start=2)),
    )


def together(names: Sequence[str]) -> Transcript:
    """Return one transcript of several, to be played in one life of a plugin."""
    first, *others = map(load, names)
    lines = (line for each in (first, *others) for line in each.lines)
    needs = {method for each in (first, *others) for method in each.needs}
    return replace(first, lines=tuple(lines), needs=tuple(needs))


def transcripts(tests: str, level: int) -> list[Transcript]:
    """Return those that test a "plugin" or a "host", at `level`."""
    names = sorted(path.stem for path in TRANSCRIPTS.glob("*.ndjson"))
    found = [load(name) for name in names if name != CLOSING]
    return [each for each in found if tests in each.tests and level in each.levels]


# --- Comparing --------------------------------------------------------------------------------


def values(message: Message, buffers: Sequence[bytes]) -> Message:
    """Return `message` in the one form that all ways to write it have in common."""
    plain = {k: v for k, v in message.items() if k != "buffers"}
    beside = buffers if "buffers" in message else None
    if "result" in plain:
        plain["result"] = _value(plain["result"], beside)
    if message.get("method") == "$/chunk":
        plain["params"] = {k: _value(v, beside) for k, v in plain["params"].items()}
    elif message.get("method", "$/").startswith("$/"):
        plain["params"] = plain.get("params") or {}
    else:
        plain["params"] = _arguments(plain.get("params", []), beside)
    return plain


def _arguments(params: Any, buffers: Sequence[bytes] | None) -> Any:
    """Return positional and keyword arguments."""
    if isinstance(params, list):
        return [_value(params, buffers), {}]
    both = params.keys() & {"$args", "$kwargs"}
    named = params.get("$kwargs", {}) if both else params
    args = [_value(each, buffers) for each in params.get("$args", [])] if both else []
    return [args, {_without_dollar(k): _value(v, buffers) for k, v in named.items()}]


def _value(value: Any, buffers: Sequence[bytes] | None) -> Any:
    """Return `value` with bytes where its buffers were; None: there were none, nor any escapes."""
    if isinstance(value, list):
        return [_value(each, buffers) for each in value]
    if not isinstance(value, dict) or buffers is None:
        return value
    if "$buffer" in value:
        data = bytes(buffers[value["$buffer"]])
        return data if len(value) == 1 else {**value, "$buffer": data}
    return {_without_dollar(k): _value(v, buffers) for k, v in value.items()}


def _without_dollar(key: str) -> str:
    return key[1:] if key.startswith("$$") else key


def same(expected: Any, actual: Any) -> bool:
    """Compare as JSON does: 1 is 1.0, but not true."""
    if isinstance(expected, bool) or isinstance(actual, bool):
        return expected is actual
    if isinstance(expected, dict) and isinstance(actual, dict):
        keys = expected.keys() == actual.keys()
        return keys and all(same(expected[key], actual[key]) for key in expected)
    if isinstance(expected, list) and isinstance(actual, list):
        return len(expected) == len(actual) and all(map(same, expected, actual))
    return bool(expected == actual)


def matches(expected: Message, actual: Message) -> bool:
    """Say whether the plugin said what it should; see conformance.md for what is left to it."""
    if "ready" in expected:
        return actual.get("ready") is True
    if "error" in expected:
        return _same_error(expected, actual)
    if expected.get("method") == "$/log":
        wanted, got = expected["params"], actual.get("params", {})
        return actual.get("method") == "$/log" and all(
            wanted[key] == got.get(key) for key in ("level", "message")
        )
    left_to_it = {"deadline_ms"} | ({"id"} if "method" in expected else set())
    if "within" not in actual:
        left_to_it.add("within")
    return same(
        {k: v for k, v in expected.items() if k not in left_to_it},
        {k: v for k, v in actual.items() if k not in left_to_it},
    )


def _same_error(expected: Message, actual: Message) -> bool:
    wanted, got = expected["error"], actual.get("error")
    if not isinstance(got, dict) or not same(expected["id"], actual.get("id")):
        return False
    message = got.get("message")
    if wanted["code"] != got.get("code") or not isinstance(message, str):
        return False
    return wanted["code"] != -32000 or wanted["message"] in message


# --- Playing ----------------------------------------------------------------------------------


class Player:
    """Plays one transcript to one plugin that has just been launched."""

    def __init__(self, plugin: Plugin, transcript: Transcript) -> None:
        self.plugin = plugin
        self.transcript = transcript
        self._ids: dict[Any, Any] = {}  # those in the transcript, and those that the plugin chose
        self._may_come: list[Line] = []

    def play(self) -> None:
        """Raises MismatchError, SkippedError."""
        by_group = groupby(enumerate(self.transcript.whole), _group)
        for lines in ([line for _, line in group] for _, group in by_group):
            try:
                self._step(lines)
            except WireError as error:
                raise MismatchError(f"{lines[0]}\n  {error}") from error

    def _step(self, lines: list[Line]) -> None:
        event = lines[0].event
        if "batch" in event or "series" in event:
            messages = [self._with_their_ids(line.event["message"]) for line in lines]
            send = self.plugin.send_batch if "batch" in event else self.plugin.send_series
            send(messages)
        elif event["from"] == "host":
            self._say(event)
        elif "prints" in event:
            self.plugin.await_print(event["prints"])
        elif "exits" in event:
            self._expect_exit(lines[0], event["exits"])
        else:
            self._may_come += [line for line in lines if line.event.get("optional")]
            self._expect([line for line in lines if not line.event.get("optional")])

    # --- the host's lines -----------------------------------------------------------------

    def _say(self, event: dict[str, Any]) -> None:
        if "message" in event:
            buffers = list(map(bytes.fromhex, event.get("buffers", ())))
            self.plugin.send(self._with_their_ids(event["message"]), buffers)
        elif "closes" in event:
            self.plugin.close()
        elif "text" in event:
            self.plugin.write(f"{event['text']}\n".encode())
        else:
            self.plugin.write(bytes.fromhex(event["hex"]))

    def _with_their_ids(self, message: Message) -> Message:
        """Put the ids that the plugin chose in the place of those in the transcript."""
        members = ("within",) if "method" in message else ("id",)
        theirs = {m: self._ids.get(message[m], message[m]) for m in members if m in message}
        return {**message, **theirs}

    # --- the plugin's lines ---------------------------------------------------------------

    def _expect(self, lines: list[Line]) -> None:
        """Wait for these messages, in any order."""
        while lines:
            received = self.plugin.receive()
            if received is None:
                raise MismatchError(f"{lines[0]}\n  but its output has ended")
            found = self._find(lines, *received)
            if found:
                lines.remove(found)
            elif not self._is_allowed(*received):
                raise MismatchError(f"{lines[0]}\n  but it says {received[0]}")

    def _expect_exit(self, line: Line, wanted: int | str | None) -> None:
        while received := self.plugin.receive():
            if not self._is_allowed(*received):
                raise MismatchError(f"{line}\n  but it says {received[0]}")
        status = self.plugin.exit_status()
        if wanted is not None and (status == 0) != (wanted == 0):
            raise MismatchError(f"{line}\n  but it exits with status {status}")

    def _is_allowed(self, message: Message, buffers: list[bytes]) -> bool:
        found = self._find(self._may_come, message, buffers)
        if found:
            self._may_come.remove(found)
        return bool(found) or message.get("method") == "$/log"

    def _find(self, lines: Iterable[Line], message: Message, buffers: list[bytes]) -> Line | None:
        actual = values(message, buffers)
        for line in lines:
            ours = list(map(bytes.fromhex, line.event.get("buffers", ())))
            choices = [line.event["message"], line.event.get("or")]
            if any(c and matches(values(c, ours), actual) for c in choices):
                self._note(line.event["message"], message)
                return line
        return None

    def _note(self, expected: Message, actual: Message) -> None:
        if "ready" in expected:
            self._check_ready(actual)
        elif "method" in expected and "id" in expected:
            self._ids[expected["id"]] = actual["id"]

    def _check_ready(self, ready: Message) -> None:
        level = ready.get("wire", 0)
        # A host of level 0 does not look at the member; a plugin need not look at what is offered.
        if self.plugin.offered and level not in self.transcript.levels:
            raise MismatchError(f"it chooses level {level}, where {self.plugin.offered} is offered")
        self.plugin.codec = ready.get("codec", "json")
        if self.transcript.codec not in (None, self.plugin.codec):
            raise SkippedError(f"it speaks {self.plugin.codec}")
        if self.transcript.batch and not ready.get("batch"):
            raise SkippedError("it takes no batches")
        methods = {m if isinstance(m, str) else m["name"] for m in ready.get("methods", ())}
        if missing := set(self.transcript.needs) - methods:
            raise SkippedError(f"it has no {', '.join(sorted(missing))}")


def _group(numbered: tuple[int, Line]) -> object:
    number, line = numbered
    for member in ("batch", "series"):
        if member in line.event:
            return (member, line.event[member])
    return line.event.get("group", ("alone", number))


def launcher(command: Sequence[str], level: int) -> Callable[[], Plugin]:
    """Return what launches the plugin, offering it `level`."""
    kind = FramedPlugin if level == 2 else Plugin
    return lambda: kind(command, offer=level)


def play(transcript: Transcript, launch: Callable[[], Plugin]) -> None:
    """Play `transcript` to a plugin that `launch` starts. Raises MismatchError, SkippedError."""
    plugin = launch()
    try:
        Player(plugin, transcript).play()
    except MismatchError as error:
        said = plugin.stderr().strip()
        raise MismatchError(f"{error}\n  stderr: {said}" if said else str(error)) from None
    finally:
        plugin.end()


# --- The command line -------------------------------------------------------------------------


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--level", type=int, choices=(0, 1, 2), default=1, help="to be offered")
    parser.add_argument("--only", type=_names, default=[], help="names of transcripts: one,other")
    parser.add_argument("--skip", type=_names, default=[], help="names of transcripts: one,other")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="the plugin and its arguments")
    options = parser.parse_args()
    failed = False
    for transcript in transcripts("plugin", options.level):
        named = not options.only or transcript.name in options.only
        if named and transcript.name not in options.skip:
            failed |= _report(transcript, launcher(options.command, options.level))
    return int(failed)


def _names(text: str) -> list[str]:
    return text.split(",")


def _report(transcript: Transcript, launch: Callable[[], Plugin]) -> bool:
    """Play it, print what came of it, and return whether it failed."""
    try:
        play(transcript, launch)
    except SkippedError as reason:
        print(f"skipped  {transcript.name}: {reason}")
    except MismatchError as error:
        print(f"FAILED   {transcript.name}: {transcript.about}\n  {error}")
        if transcript.name == WIDE:
            print(f"  a language without integers of 64 bits may leave this out: --skip {WIDE}")
        return True
    else:
        print(f"ok       {transcript.name}")
    return False


if __name__ == "__main__":
    sys.exit(main())
