"""The guide's table of states is the one that the code goes by."""

from __future__ import annotations

import re
from pathlib import Path

from plugkeep import events
from plugkeep.lifecycle import TRANSITIONS

GUIDE = (Path(__file__).parents[2] / "docs" / "lifecycle.md").read_text("utf-8")


def test_the_table_of_states() -> None:
    rows = re.findall(r"^\| `(\w+)` \| .+ \| (.+) \|$", GUIDE, re.MULTILINE)
    documented = {state: re.findall(r"`(\w+)`", after) for state, after in rows}
    assert documented == {old: sorted(new) for old, new in TRANSITIONS.items()}


def test_the_table_of_events() -> None:
    table = GUIDE[GUIDE.index("| event |") :]
    documented = {name for row in re.findall(r"^\| (`.+?) \|", table, re.MULTILINE)
                  for name in re.findall(r"`(\w+)`", row)}  # fmt: skip
    assert documented == {each.__name__ for each in events.Event.__subclasses__()}
