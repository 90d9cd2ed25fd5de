"""Callers to be measured: peers in several children each, called from here or from a loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from typing import Self

from _measure import medians

Calls = Callable[[int], object]
AsyncCalls = Callable[[int], Awaitable[object]]
#: Takes one sample: seconds a call.
Sample = Callable[[], float]


class Callers(ExitStack):
    """Opens peers, and closes them at its end. Has one event loop, for those that need one."""

    def __enter__(self) -> Self:
        super().__enter__()
        self.runner = self.enter_context(asyncio.Runner())
        return self

    def plain(
        self, peer: Callable[[], AbstractContextManager[Calls]], children: int, count: int
    ) -> list[Sample]:
        """Return for each child of `peer` a sample of `count` calls."""
        opened = [self.enter_context(peer()) for _ in range(children)]
        return [partial(per_call, calls, count) for calls in opened]

    def on_loop(
        self, peer: Callable[[], AbstractContextManager[AsyncCalls]], children: int, count: int
    ) -> list[Sample]:
        """The same for calls that are awaited; starting and ending the loop is not measured."""
        opened = [self.enter_context(peer()) for _ in range(children)]
        return [
            lambda calls=calls: self.runner.run(per_awaited_call(calls, count)) for calls in opened
        ]


def best(kinds: Mapping[str, Sequence[Sample]], rounds: int) -> dict[str, float]:
    """Return for each kind the least of its children's medians.

    About one child in six is slower than its like for all its life, whatever it runs; hence
    several of each.
    """
    samples = {
        f"{kind} {n}": one for kind, several in kinds.items() for n, one in enumerate(several)
    }
    took = medians(samples, rounds)
    return {
        kind: min(took[f"{kind} {n}"] for n in range(len(several)))
        for kind, several in kinds.items()
    }


def per_call(calls: Calls, count: int) -> float:
    calls(warm_up(count))
    begin = time.perf_counter()
    calls(count)
    return (time.perf_counter() - begin) / count


async def per_awaited_call(calls: AsyncCalls, count: int) -> float:
    await calls(warm_up(count))
    begin = time.perf_counter()
    await calls(count)
    return (time.perf_counter() - begin) / count


def warm_up(count: int) -> int:
    """Say how many calls to make unmeasured: between its turns a child grows cold."""
    return -(-count // 10)
