"""Where the boxes and lines of a graph go: in layers from left to right, by what requires what.

The usual way of drawing such graphs (Sugiyama's): each plugin one layer after the last that it
requires; lines that pass a layer get a lane of their own in it, shared by all lines from the same
plugin; within a layer the order that follows the neighbours; then as level as there is room.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

#: In pixels.
_CHARACTER = 7.8
_RANK = 12.0
BOX_HEIGHT = 34.0
PADDING = 16.0
_LANE_HEIGHT = 4.0
_GAP_ACROSS = 64.0
_GAP_DOWN = 14.0
MARGIN = 16.0

_SWEEPS = 8

#: Something in a layer: a plugin, or the lane (name, layer) that lines from `name` take.
Item = str | tuple[str, int]


@dataclass(slots=True)
class Place:
    """Where an item is: the middle of its left edge, its size, and its neighbours."""

    width: float
    height: float
    x: float = 0.0
    y: float = 0.0
    before: list[Item] = field(default_factory=list)
    after: list[Item] = field(default_factory=list)


@dataclass(slots=True)
class Layout:
    """A graph with a place for everything in it."""

    places: dict[Item, Place]
    layers: list[list[Item]]
    width: float
    height: float


def lay_out(requirements: Mapping[str, Sequence[str]], order: Sequence[str]) -> Layout:
    """Place all plugins; `order` has each after what it requires, and decides what else is open."""
    depth: dict[str, int] = {}
    for name in order:
        depth[name] = max((depth[each] + 1 for each in requirements[name]), default=0)
    places: dict[Item, Place] = {name: Place(_width(name), BOX_HEIGHT) for name in order}
    layers: list[list[Item]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for name in order:
        layers[depth[name]].append(name)
        for requirement in requirements[name]:
            _connect(places, layers, requirement, name, depth)
    _untangle(places, layers)
    width = _put_across(places, layers)
    height = _put_down(places, layers)
    return Layout(places, layers, width, height)


def _width(name: str) -> float:
    from rich.cells import cell_len

    return cell_len(name) * _CHARACTER + 2 * PADDING + _RANK


def _connect(
    places: dict[Item, Place],
    layers: list[list[Item]],
    start: str,
    end: str,
    depth: Mapping[str, int],
) -> None:
    """Lead a line from `start` to `end`, by a lane in each layer between."""
    here: Item = start
    for layer in range(depth[start] + 1, depth[end]):
        lane = (start, layer)
        if lane not in places:
            places[lane] = Place(0.0, _LANE_HEIGHT)
            layers[layer].append(lane)
            _join(places, here, lane)
        here = lane
    _join(places, here, end)


def _join(places: dict[Item, Place], left: Item, right: Item) -> None:
    places[left].after.append(right)
    places[right].before.append(left)


def _untangle(places: dict[Item, Place], layers: list[list[Item]]) -> None:
    """Order each layer by where the neighbours are, forth and back a few times."""
    ranks = {item: float(rank) for layer in layers for rank, item in enumerate(layer)}
    for sweep in range(_SWEEPS):
        forth = sweep % 2 == 0
        for layer in layers if forth else reversed(layers):
            wanted = {
                item: _mean((ranks[near] for near in _near(places[item], forth=forth)), ranks[item])
                for item in layer
            }
            layer.sort(key=wanted.__getitem__)
            ranks.update((item, float(rank)) for rank, item in enumerate(layer))


def _near(place: Place, *, forth: bool) -> list[Item]:
    return place.before if forth else place.after


def _mean(values: Iterable[float], default: float) -> float:
    found = list(values)
    return sum(found) / len(found) if found else default


def _put_across(places: dict[Item, Place], layers: list[list[Item]]) -> float:
    """Set every x, and return the width of the whole."""
    x = MARGIN
    for layer in layers:
        width = max(places[item].width for item in layer)
        for item in layer:
            places[item].x = x
            places[item].width = width
        x += width + _GAP_ACROSS
    return max(x - _GAP_ACROSS, MARGIN) + MARGIN


def _put_down(places: dict[Item, Place], layers: list[list[Item]]) -> float:
    """Set every y, as level with the neighbours as there is room; return the height."""
    for layer in layers:
        _stack(places, layer, [0.0] * len(layer))
    for sweep in range(_SWEEPS):
        forth = sweep % 2 == 0
        for layer in layers if forth else reversed(layers):
            wanted = [
                _mean((places[near].y for near in _near(places[item], forth=forth)), places[item].y)
                for item in layer
            ]
            _stack(places, layer, wanted)
    boxes = list(places.values())
    top = min((box.y - box.height / 2 for box in boxes), default=0.0)
    for box in boxes:
        box.y += MARGIN - top
    return max((box.y + box.height / 2 for box in boxes), default=MARGIN) + MARGIN


def _stack(places: dict[Item, Place], layer: list[Item], wanted: list[float]) -> None:
    """Put a layer's items below one another, on the whole as near to `wanted` as can be."""
    bottom = float("-inf")
    for item, y in zip(layer, wanted, strict=True):
        place = places[item]
        place.y = max(y, bottom + _GAP_DOWN + place.height / 2)
        bottom = place.y + place.height / 2
    shift = _mean((y - places[item].y for item, y in zip(layer, wanted, strict=True)), 0.0)
    for item in layer:
        places[item].y += shift
