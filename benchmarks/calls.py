"""What one call costs a lone caller, beside a raw pipe, grpcio and the MCP SDK."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import _ours
import _peers
from _callers import Callers, Sample, best
from _measure import Row, at_most_times, on_one_core

#: How all of it is measured; a child's medians, and the best child.
HOW = "100 bytes, one core, best of {} children"


def run(quick: bool = False) -> list[Row]:
    on_one_core()
    return [*beside_a_pipe(quick), *beside_others(quick)]


def beside_a_pipe(quick: bool) -> list[Row]:
    with Callers() as callers:
        kinds = {
            "call, level 2": callers.plain(_ours.call, 5, 200),
            "call, level 1": callers.plain(partial(_ours.call, wire=1), 5, 200),
            "acall on asyncio": callers.on_loop(_ours.acall, 5, 100),
            "a raw pipe": callers.plain(_peers.floor, 5, 200),
        }
        took = micro_seconds(kinds, 40 if quick else 300)
    how, pipe = HOW.format(5), took.pop("a raw pipe")
    limits = {"acall on asyncio": 7.0}
    return [
        at_most_times(limits.get(kind, 3.2), "µs", f"{kind}, beside a raw pipe ({how})", ours, pipe)
        for kind, ours in took.items()
    ]


def beside_others(quick: bool) -> list[Row]:
    children = 2 if quick else 5
    with Callers() as callers:
        kinds = {
            "call": callers.plain(_ours.call, children, 200),
            "grpcio unary on a Unix socket": callers.plain(_peers.grpc_unary, children, 20),
            "an MCP SDK tool on stdio": callers.on_loop(
                partial(_peers.mcp_tool, callers.runner), children, 10
            ),
        }
        took = micro_seconds(kinds, 15 if quick else 100)
    how, ours = HOW.format(children), took.pop("call")
    parts = {"grpcio unary on a Unix socket": 20, "an MCP SDK tool on stdio": 100}
    return [
        at_most_times(1 / parts[kind], "µs", f"call, level 2, beside {kind} ({how})", ours, theirs)
        for kind, theirs in took.items()
    ]


def micro_seconds(kinds: Mapping[str, Sequence[Sample]], rounds: int) -> dict[str, float]:
    return {kind: seconds * 1e6 for kind, seconds in best(kinds, rounds).items()}


if __name__ == "__main__":
    for row in run():
        print(row)
