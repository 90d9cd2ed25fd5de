"""Play the plugin's part of a transcript to a host, and see that the host plays its own.

    python protocol/puppet.py call-both

A host starts this as its plugin, at level 1, and does what the host does in the transcript. Exits
with 0, or with 3 after telling on stderr what the host said instead.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from replay import Line, load, matches, values
from replay_channels import Message


class Puppet:
    """Says the plugin's lines on stdout, and awaits the host's on stdin."""

    def __init__(self) -> None:
        #: Of the host's requests: those in the transcript, and its own.
        self._ids: dict[Any, Any] = {}
        self._unsaid = ""

    def say(self, event: dict[str, Any]) -> None:
        if "prints" in event:
            self._unsaid += f"{event['prints']}\n"
        elif "message" in event and not event.get("optional"):
            self._unsaid += f"{json.dumps(self._with_their_ids(event['message']))}\n"

    def flush(self) -> None:
        """Write what was said since the host's last line: it arrives together."""
        sys.stdout.write(self._unsaid)
        sys.stdout.flush()
        self._unsaid = ""

    def _with_their_ids(self, message: Message) -> Message:
        if "within" in message:
            message = {**message, "within": self._ids[message["within"]]}
        if "method" not in message and "id" in message:
            message = {**message, "id": self._ids.get(message["id"], message["id"])}
        elif "id" not in message and isinstance(message.get("params"), dict):
            about = message["params"].get("id")
            message = {
                **message,
                "params": {**message["params"], "id": self._ids.get(about, about)},
            }
        return message

    def expect(self, line: Line) -> None:
        """Wait for the host to say this."""
        self.flush()
        wanted = line.event
        heard = sys.stdin.readline()
        if "closes" in wanted or "cuts_off" in wanted:
            self._check(not heard, line, heard)
            return
        self._check(bool(heard), line, "nothing")
        message, expected = json.loads(heard), wanted["message"]
        if "cmd" in expected:
            self._check(message == expected, line, message)
            return
        if expected.get("method") == "$/start":  # what is granted is not the transcript's matter
            message["params"]["host"] = expected["params"]["host"]
        if "method" in expected and "id" in expected:
            self._ids[expected["id"]] = message.get("id")
        meant = self._meant(expected)
        self._check(matches(values(meant, []), values(message, [])), line, message)

    def _meant(self, expected: Message) -> Message:
        """Return what the transcript has with the host's own ids, where it speaks of a call."""
        if expected.get("method") in ("$/cancel", "$/credit"):
            about = expected["params"]["id"]
            params = {**expected["params"], "id": self._ids.get(about, about)}
            return {**expected, "params": params}
        return expected

    @staticmethod
    def _check(holds: bool, line: Line, heard: object) -> None:
        if not holds:
            sys.stderr.write(f"{line}\n  but the host says {heard}\n")
            sys.exit(3)


def needed(lines: Iterable[Line]) -> Iterator[Line]:
    """Yield all lines but those about requests that a host makes only if it wants to."""
    unneeded = set()
    for line in lines:
        message = line.event.get("message", {})
        method, number = message.get("method", ""), message.get("id")
        own = method.startswith("$/") and method not in ("$/start", "$/stop")
        if own and number and line.event["from"] == "host":
            unneeded.add(number)
        elif method or number not in unneeded:
            yield line


def main() -> None:
    puppet = Puppet()
    for line in needed(load(sys.argv[1]).whole):
        if line.event["from"] == "plugin":
            puppet.say(line.event)
        else:
            puppet.expect(line)
    puppet.flush()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main()
