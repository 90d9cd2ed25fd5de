"""What a start consisted of, as bars."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugkeep import Registry, events
from plugkeep.cli._timeline import Bar, Timeline, _step, svg
from plugkeep.sandbox import Phase

SVG = "{http://www.w3.org/2000/svg}"
PHASES = (Phase("launch", 10.0, 10.5), Phase("import", 10.5, 10.75), Phase("start", 10.75, 11.0))


def bars_of(drawing: str) -> list[tuple[str, float, float, str]]:
    """Return the kind, left end, width and words of each bar."""
    return [
        (
            rect.attrib["class"],
            float(rect.attrib["x"]),
            float(rect.attrib["width"]),
            rect[0].text or "",
        )
        for rect in ElementTree.fromstring(drawing).iter(f"{SVG}rect")
        if len(rect)
    ]


def texts_of(drawing: str) -> list[Any]:
    return [text.text for text in ElementTree.fromstring(drawing).iter(f"{SVG}text")]


def test_bars_are_as_long_as_what_they_stand_for() -> None:
    drawing = svg([Bar("far", 10.0, 11.0, phases=PHASES), Bar("near", 10.5, 11.0)])
    found = bars_of(drawing)
    assert [(kind, words) for kind, _, _, words in found] == [
        ("launch", "far: launch 500ms"),
        ("import", "far: import 250ms"),
        ("start", "far: start 250ms"),
        ("start", "near: start 500ms"),
    ]
    (_, first, launch, _), (_, second, _, _), _, (_, near, width, _) = found
    assert second == pytest.approx(first + launch, abs=0.2)
    assert (near, width) == (pytest.approx(second, abs=0.2), launch)


def test_what_failed_and_what_was_skipped() -> None:
    bars = [
        Bar("early", 10.0, 11.0, "failed", PHASES[:1]),
        Bar("near", 10.0, 11.0, "failed"),
        Bar("user", 11.0, 11.0, "skipped"),
    ]
    drawing = svg(bars)
    assert [words for *_, words in bars_of(drawing)] == [
        "early: launch 500ms",
        "early: failed 500ms",
        "near: failed 1s",
    ]
    assert {"skipped", "failed, 1s"} <= set(texts_of(drawing))


def test_names_cannot_break_the_drawing() -> None:
    name = '<&"\x1b[31m>'
    assert texts_of(svg([Bar(name, 0.0, 1.0)])).count('<&"\\u001b[31m>') == 1


def test_nothing_and_no_time_at_all() -> None:
    assert bars_of(svg([])) == []
    assert len(bars_of(svg([Bar("a", 5.0, 5.0)]))) == 1


@given(st.floats(1e-6, 1e6))
def test_there_are_a_few_round_ticks(whole: float) -> None:
    step = _step(whole)
    assert whole / step <= 10.001
    assert f"{step:e}"[0] in "125"


def test_it_notes_the_starts_of_a_registry() -> None:
    class Plugin:
        def __init__(self, name: str, requires: tuple[str, ...] = ()) -> None:
            self.name, self.requires = name, requires
            self.start_phases = PHASES

        def start(self) -> None:
            if self.name == "bad":
                raise RuntimeError

        def stop(self) -> None: ...

    registry = Registry()
    for plugin in (Plugin("good"), Plugin("bad"), Plugin("user", ("bad",))):
        registry.register(plugin)
    timeline = Timeline(registry)
    registry.subscribe(timeline)
    registry.start_all()
    registry.stop_all()
    assert [(bar.plugin, bar.outcome) for bar in timeline.bars] == [
        ("good", "started"),
        ("bad", "failed"),
        ("user", "skipped"),
    ]
    assert all(bar.begin <= bar.end and bar.phases == PHASES for bar in timeline.bars)


def test_what_listeners_take_is_no_part_of_a_start() -> None:
    timeline = Timeline(Registry())
    timeline(events.Starting(plugin="a", time=10.0))
    timeline(events.Started(plugin="a", time=13.0, duration=2.0))
    assert [(bar.begin, bar.end) for bar in timeline.bars] == [(11.0, 13.0)]
