"""How many small calls a second go through with 64 under way, beside multiprocessing and grpcio."""

from __future__ import annotations

from functools import partial

import _ours
import _peers
from _callers import Callers, best
from _measure import Row, at_least_times, on_one_core

HOW = "64 under way, 100 bytes, one core, best of {} children"


def run(quick: bool = False) -> list[Row]:
    on_one_core()
    children = 2 if quick else 3
    with Callers() as callers:
        on_loop = partial(callers.on_loop, children=children)
        kinds = {
            "map": callers.plain(_ours.mapped, children, 6400),
            "multiprocessing.Pipe": callers.plain(_peers.pipelined_connection, children, 6400),
            "grpcio": callers.plain(_peers.grpc_pipelined, children, 640),
            "acall": on_loop(_ours.acall_in_tasks, count=3200),
            "grpc.aio": on_loop(partial(_peers.grpc_aio, callers.runner), count=640),
        }
        rate = {kind: 1 / seconds for kind, seconds in best(kinds, 8 if quick else 30).items()}
    return [
        at_least_times(
            times,
            "calls/s",
            f"{what}, beside {peer} ({HOW.format(children)})",
            rate[ours],
            rate[peer],
        )
        for ours, what, peer, times in (
            ("map", "map", "multiprocessing.Pipe", 4),
            ("map", "map", "grpcio", 60),
            ("acall", "acall in 64 asyncio tasks", "grpc.aio", 25),
        )
    ]


if __name__ == "__main__":
    for row in run():
        print(row)
