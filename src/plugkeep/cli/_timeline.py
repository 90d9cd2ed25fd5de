"""How a start has gone, drawn: each plugin a bar, from when it was begun to when it ran."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from plugkeep import events
from plugkeep.cli._output import printable
from plugkeep.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from plugkeep.events import Event
    from plugkeep.registry import Registry
    from plugkeep.sandbox import Phase


@dataclass(slots=True)
class Bar:
    """The start of one plugin; times in seconds since the epoch."""

    plugin: str
    begin: float
    end: float
    #: What became of it: "started", "failed" or "skipped".
    outcome: str = "started"
    #: What it consisted of, where that is known.
    phases: Sequence[Phase] = field(default=())


_OUTCOMES: dict[type[Event], str] = {
    events.Started: "started",
    events.StartFailed: "failed",
    events.StartSkipped: "skipped",
}


class Timeline:
    """Notes how a registry's plugins start, in the order in which they were begun."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._bars: dict[str, Bar] = {}

    def __call__(self, event: Event) -> None:
        name, time = event.plugin, event.time
        if type(event) is events.Starting:
            self._bars[name] = Bar(name, time, time)
        elif outcome := _OUTCOMES.get(type(event)):
            bar = self._bars.setdefault(name, Bar(name, time, time))
            bar.begin = max(bar.begin, time - (event.duration or 0.0))  # listeners take time, too
            bar.end, bar.outcome = max(time, bar.begin), outcome
            bar.phases = getattr(self._registry.get(name), "start_phases", ())

    @property
    def bars(self) -> list[Bar]:
        """What has been noted so far."""
        return list(self._bars.values())


# --- SVG --------------------------------------------------------------------------------------

_STYLE = """
  svg { color-scheme: light dark; background: #ffffff; }
  text { fill: #1f2328; font: 12px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
  .tick { fill: #59636e; font-size: 10px; text-anchor: middle; }
  .name { text-anchor: end; }
  .grid { stroke: #d1d9e0; }
  .launch { fill: #8c959f; }
  .import { fill: #54aeff; }
  .start { fill: #4ac26b; }
  .failed { fill: #ff8182; }
  @media (prefers-color-scheme: dark) {
    svg { background: #0d1117; }
    text { fill: #e6edf3; }
    .tick { fill: #9198a1; }
    .grid { stroke: #3d444d; }
    .launch { fill: #6e7681; }
    .import { fill: #388bfd; }
    .start { fill: #2ea043; }
    .failed { fill: #da3633; }
  }
"""
_ROW, _BAR, _MARGIN, _TOP = 22, 14, 12, 34
_CHART = 800  # the width of the time from the first to the last
_LETTER = 7.3  # the width of a letter, nearly
_TICKS = 10  # at most
_AFTER = 90  # what a duration behind a bar takes
_KINDS = ("launch", "import", "start", "failed")


def svg(bars: Sequence[Bar]) -> str:
    """Return a drawing for light and dark surroundings, needing nothing from elsewhere."""
    begin = min((bar.begin for bar in bars), default=0.0)
    whole = max((bar.end for bar in bars), default=0.0) - begin
    left = _MARGIN + _LETTER * max((len(printable(bar.plugin)) for bar in bars), default=0) + 8
    scale = _CHART / whole if whole > 0 else 0.0
    bottom = _TOP + _ROW * len(bars)
    width, height = left + _CHART + _AFTER, bottom + 2 * _ROW
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" role="img">\n'
        f"<title>{len(bars)} plugins, started in {format_duration(whole)}</title>\n"
        f"<style>{_STYLE}</style>\n"
    )
    parts = [*_axis(whole, left, scale, bottom)]
    for index, bar in enumerate(bars):
        parts += _row(bar, begin, left, scale, _TOP + _ROW * index)
    return "".join((head, *parts, *_legend(left, bottom + _ROW + _BAR), "</svg>\n"))


def _axis(whole: float, left: float, scale: float, bottom: float) -> Iterator[str]:
    step = _step(whole)
    for count in range(int(whole / step) + 1 if step else 1):
        x = left + count * step * scale
        yield f'<line class="grid" x1="{x:.1f}" y1="{_TOP - 6}" x2="{x:.1f}" y2="{bottom}"/>\n'
        label = format_duration(count * step) if count else "0"
        yield f'<text class="tick" x="{x:.1f}" y="{_TOP - 12}">{label}</text>\n'


def _step(whole: float) -> float:
    """Return a round number of seconds that goes into `whole` a few times."""
    step = 1e-6
    while step * _TICKS < whole:
        for times in (2, 2.5, 2):  # 1, 2, 5, 10
            step *= times
            if step * _TICKS >= whole:
                break
    return step if whole > 0 else 0.0


def _row(bar: Bar, begin: float, left: float, scale: float, y: float) -> Iterator[str]:
    name = escape(printable(bar.plugin))
    end = left + (bar.end - begin) * scale
    yield f'<text class="name" x="{left - 8:.1f}" y="{y + _BAR - 3}">{name}</text>\n'
    for kind, since, until in _parts(bar):
        x = left + (since - begin) * scale
        width = max((until - since) * scale, 1.0)
        yield (
            f'<rect class="{kind}" x="{x:.1f}" y="{y}" width="{width:.1f}" height="{_BAR}">'
            f"<title>{name}: {kind} {format_duration(until - since)}</title></rect>\n"
        )
    said = format_duration(bar.end - bar.begin)
    if bar.outcome != "started":
        said = "skipped" if bar.outcome == "skipped" else f"failed, {said}"
    yield f'<text x="{end + 6:.1f}" y="{y + _BAR - 3}">{said}</text>\n'


def _parts(bar: Bar) -> Iterator[tuple[str, float, float]]:
    """Yield what a bar consists of: its phases as far as they are known, and the rest."""
    if bar.outcome == "skipped":
        return
    since = bar.begin
    for phase in bar.phases:
        until = min(max(phase.end, since), bar.end)
        yield phase.name, since, until
        since = until
    if bar.outcome == "failed":
        yield "failed", since, bar.end
    elif not bar.phases:
        yield "start", since, bar.end


def _legend(left: float, y: float) -> Iterator[str]:
    for index, kind in enumerate(_KINDS):
        x = left + index * 100
        yield f'<rect class="{kind}" x="{x:.1f}" y="{y - 10}" width="10" height="10"/>\n'
        yield f'<text x="{x + 16:.1f}" y="{y - 1}">{kind}</text>\n'
