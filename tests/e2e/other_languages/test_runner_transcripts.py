"""The transcripts, played to the reference plugin as our own runner serves it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

TRANSCRIPTS = Path(__file__).parents[3] / "protocol" / "transcripts"


def played(level: int) -> tuple[list[str], list[str]]:
    """Return the names of those that can share one life of the plugin, and of the others."""
    shared, alone = [], []
    for path in sorted(TRANSCRIPTS.glob("*.ndjson")):
        header, *events = map(json.loads, path.read_text().strip().split("\n"))
        if path.stem == "closing" or level not in header.get("levels", [1, 2]):
            continue
        if "plugin" not in header.get("tests", ["plugin"]) or header.get("codec") == "json":
            continue
        ends = any("exits" in event for event in events)
        one_of_many = header.get("begins", "running") == "running" and not ends
        (shared if one_of_many else alone).append(path.stem)
    return shared, alone


SHARED = {level: played(level)[0] for level in (1, 2)}
ALONE = [(level, name) for level in (0, 1, 2) for name in played(level)[1]]


@pytest.mark.parametrize("level", SHARED)
def test_one_life_of_many_transcripts(level, plugin, play):
    play(SHARED[level], plugin("runner"), level)


@pytest.mark.parametrize(("level", "name"), ALONE)
def test_a_life_of_its_own(level, name, plugin, play):
    play([name], plugin("runner"), level)
