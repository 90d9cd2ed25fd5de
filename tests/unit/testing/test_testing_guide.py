"""The guide's tables of faults and rules are those that the code goes by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from plugkeep.testing import PLUGIN_RULES, WIRE_RULES, faults

GUIDE = (Path(__file__).parents[3] / "docs" / "testing-plugins.md").read_text("utf-8")
PLACES = ("in process", "process", "program")


def rows(header: str) -> list[str]:
    """Return the rows of the table that begins with `header`."""
    return GUIDE.partition(header)[2].partition("\n\n")[0].split("\n")[2:]


def taken(takes: Any) -> str:
    def value(each: object) -> str:
        return (
            f'"{each}"'
            if isinstance(each, str)
            else f"{each:g}"
            if type(each) is float
            else f"{each}"
        )

    return ", ".join(f"`{name}` {value(default)}" for name, default in takes.items())


def test_the_table_of_faults() -> None:
    assert rows("| fault | the plugin |") == [
        f"| `{each.name}` | {each.does} | {taken(each.takes)} | "
        + " | ".join("yes" if place in each.where else "" for place in PLACES)
        + " |"
        for each in faults()
    ]


@pytest.mark.parametrize("rules", [PLUGIN_RULES, WIRE_RULES], ids=["plugin", "wire"])
def test_the_tables_of_rules(rules: Any) -> None:
    name = "WIRE_RULES" if rules is WIRE_RULES else "PLUGIN_RULES"
    table = GUIDE.partition(f"as in `{name}`:\n\n")[2].partition("\n\n")[0]
    assert table.split("\n")[2:] == [f"| `{each.name}` | {each.says} |" for each in rules.values()]
