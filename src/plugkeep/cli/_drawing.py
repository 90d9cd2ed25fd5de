"""A graph of plugins as text, as DOT and as SVG."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from plugkeep.cli._layout import BOX_HEIGHT, PADDING, lay_out
from plugkeep.cli._output import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from plugkeep.cli._layout import Item, Layout, Place

#: Deeper than this the tree is not indented further: a chain would fill the screen with blanks.
_DEEPEST = 24


@dataclass(frozen=True, slots=True)
class Graph:
    """What is drawn."""

    #: What each plugin requires, and all of them in the order in which they start.
    requirements: Mapping[str, Sequence[str]]
    order: Sequence[str]
    #: Where each comes from, for people; those that are not here the file does not have.
    sources: Mapping[str, str]


# --- text -------------------------------------------------------------------------------------


def text(graph: Graph) -> str:
    """Return a tree: each plugin under the last to start of those that it requires."""
    rank = {name: index for index, name in enumerate(graph.order, 1)}
    under: dict[str | None, list[str]] = {}
    for name in graph.order:
        parent = max(graph.requirements[name], key=rank.__getitem__, default=None)
        under.setdefault(parent, []).append(name)
    width = len(str(len(graph.order)))
    lines = (
        f"{rank[name]:>{width}}  {branches}{name}{_also(graph, name, parent)}\n"
        for name, parent, branches in _walk(under)
    )
    return "".join(lines)


def _also(graph: Graph, name: str, parent: str | None) -> str:
    others = [each for each in graph.requirements[name] if each != parent]
    stranger = "" if name in graph.sources else "  (not in the file)"
    return f"{stranger}  (also after {', '.join(others)})" if others else stranger


def _walk(under: Mapping[str | None, list[str]]) -> Iterator[tuple[str, str | None, str]]:
    """Yield each plugin, its parent and the branches to draw before it, from the roots on."""
    # With a stack of its own, for chains may be longer than the interpreter's.
    stack: list[tuple[str, str | None, str, str]] = [
        (name, None, "", "") for name in reversed(under.get(None, []))
    ]
    while stack:
        name, parent, branches, below = stack.pop()
        yield name, parent, branches
        children = under.get(name, [])
        deep = len(below) >= _DEEPEST
        for child in reversed(children):
            last = child is children[-1]
            bough, gap = ("└─ ", "   ") if last else ("├─ ", "│  ")
            stack.append((child, name, below + bough, below if deep else below + gap))


# --- DOT --------------------------------------------------------------------------------------


def dot(graph: Graph) -> str:
    """Return the graph in the language of Graphviz; lines lead from what is required."""
    lines = ["digraph plugins {", "  rankdir=LR;", "  node [shape=box, style=rounded];"]
    lines += [f"  {_quoted(name)};" for name in graph.order]
    for name in graph.order:
        lines += [f"  {_quoted(each)} -> {_quoted(name)};" for each in graph.requirements[name]]
    return "\n".join((*lines, "}", ""))


def _quoted(name: str) -> str:
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


# --- SVG --------------------------------------------------------------------------------------

_STYLE = """
  svg { color-scheme: light dark; background: #ffffff; }
  .box { fill: #f6f8fa; stroke: #8c959f; }
  .name { fill: #1f2328; font: 13px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
  .rank { fill: #59636e; font: 10px system-ui, sans-serif; text-anchor: end; }
  .line { fill: none; stroke: #8c959f; stroke-width: 1.5; }
  .tip { fill: #8c959f; }
  @media (prefers-color-scheme: dark) {
    svg { background: #0d1117; }
    .box { fill: #161b22; stroke: #6e7681; }
    .name { fill: #e6edf3; }
    .rank { fill: #9198a1; }
    .line { stroke: #6e7681; }
    .tip { fill: #6e7681; }
  }
"""


def svg(graph: Graph) -> str:
    """Return a drawing for light and dark surroundings, needing nothing from elsewhere."""
    layout = lay_out(graph.requirements, graph.order)
    size = f"{layout.width:.0f} {layout.height:.0f}"
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" '
        f'width="{layout.width:.0f}" height="{layout.height:.0f}" role="img">\n'
        f"<title>{len(graph.order)} plugins, in order of start from left to right</title>\n"
        f"<style>{_STYLE}</style>\n"
        '<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto"><path class="tip" d="M0 0L8 4L0 8z"/></marker>\n'
    )
    lines = "".join(_line(layout, item, place) for item, place in layout.places.items())
    boxes = "".join(
        _box(layout.places[name], rank, name, graph.sources.get(name, ""))
        for rank, name in enumerate(graph.order, 1)
    )
    return f"{head}{lines}{boxes}</svg>\n"


def _line(layout: Layout, item: Item, place: Place) -> str:
    """Return the lines that leave an item for the next layer; through a lane they go straight."""
    across = "" if isinstance(item, str) else f"H{place.x + place.width:.1f}"
    drawn = []
    for following in place.after:
        there = layout.places[following]
        start = f"M{place.x if across else place.x + place.width:.1f} {place.y:.1f}{across}"
        left, right = place.x + place.width, there.x
        middle = (left + right) / 2
        curve = f"C{middle:.1f} {place.y:.1f} {middle:.1f} {there.y:.1f} {right:.1f} {there.y:.1f}"
        tip = ' marker-end="url(#tip)"' if isinstance(following, str) else ""
        drawn.append(f'<path class="line" d="{start}{curve}"{tip}/>\n')
    return "".join(drawn)


def _box(place: Place, rank: int, name: str, source: str) -> str:
    top, right = place.y - BOX_HEIGHT / 2, place.x + place.width
    hint = f"{name}: {source}" if source else name
    return (
        f"<g><title>{escape(printable(hint))}</title>"
        f'<rect class="box" x="{place.x:.1f}" y="{top:.1f}" width="{place.width:.1f}" '
        f'height="{BOX_HEIGHT:.1f}" rx="8"/>'
        f'<text class="name" x="{place.x + PADDING:.1f}" y="{place.y + 4.5:.1f}">'
        f"{escape(name)}</text>"
        f'<text class="rank" x="{right - 7:.1f}" y="{top + 13:.1f}">{rank}</text></g>\n'
    )
