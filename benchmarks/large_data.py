"""What it costs to hand large data to a child and to get it back, beside bare transfers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial

from _measure import Row, at_most_times, medians, on_one_core, seconds
from _ours import plugin
from _transfers import LARGEST, MIB, ThereAndBack, by_json, by_pipe, by_socket

Kinds = Mapping[str, ThereAndBack]


#: For each size its name, and how many rounds it gets: those with JSON, which is slow, last.
SIZES = {MIB: ("1 MiB", 200, 20), LARGEST: ("64 MiB", 12, 3)}


def run(quick: bool = False) -> list[Row]:
    on_one_core()
    data = os.urandom(LARGEST)
    with opened() as kinds:
        return [
            *beside_plain(kinds, data, quick),
            *beside_json(kinds, data, quick),
            one_way(kinds, data, 3 if quick else 12),
        ]


@contextmanager
def opened() -> Iterator[Kinds]:
    with ExitStack() as stack:
        sandbox = stack.enter_context(plugin())
        views = sandbox.using(buffers="memoryview")
        yield {
            "as memoryview": partial(views.call, "echo_view"),
            "as fresh bytes": partial(sandbox.call, "echo_bytes"),
            "one way": partial(views.call, "ends"),
            "pipe": stack.enter_context(by_pipe()),
            "socket": stack.enter_context(by_socket()),
            "JSON with base64": stack.enter_context(by_json()),
        }


def beside_plain(kinds: Kinds, data: bytes, quick: bool) -> list[Row]:
    """Beside the faster of pipe and socket, whose buffers are used again and again."""
    rows = []
    for size, (name, rounds, _) in SIZES.items():
        names = ("as memoryview", "as fresh bytes", "pipe", "socket")
        actions = {kind: partial(kinds[kind], data[:size]) for kind in names}
        took = milli_seconds(actions, rounds // 4 if quick else rounds)
        plain = min("pipe", "socket", key=took.__getitem__)
        limits = {"as memoryview": 1.5, **({"as fresh bytes": 3.0} if size == LARGEST else {})}
        rows += [
            at_most_times(
                limit,
                "ms",
                f"{name} there and back, {how}, beside a plain {plain} (one core)",
                took[how],
                took[plain],
            )
            for how, limit in limits.items()
        ]
    return rows


def beside_json(kinds: Kinds, data: bytes, quick: bool) -> list[Row]:
    rows = []
    for size, (name, _, rounds) in SIZES.items():
        names = ("as memoryview", "JSON with base64")
        actions = {kind: partial(kinds[kind], data[:size]) for kind in names}
        took = milli_seconds(actions, max(1, rounds // 4) if quick else rounds)
        claim = f"{name} there and back, as memoryview, beside JSON with base64 (one core)"
        rows.append(at_most_times(1 / 10, "ms", claim, *(took[kind] for kind in names)))
    return rows


def one_way(kinds: Kinds, data: bytes, rounds: int) -> Row:
    actions = {
        "ours": partial(kinds["one way"], data),
        "memcpy": lambda: bytes(memoryview(data)),
    }
    took = milli_seconds(actions, rounds)
    claim = "64 MiB one way, mapped, first and last byte read, beside a memcpy to fresh memory"
    return at_most_times(1.5, "ms", f"{claim} (one core)", took["ours"], took["memcpy"])


def milli_seconds(actions: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the median of each action, its first run left out: it pays for fresh memory."""
    samples = {name: partial(seconds, action) for name, action in actions.items()}
    medians(samples, 1)
    return {name: took * 1000 for name, took in medians(samples, rounds).items()}


if __name__ == "__main__":
    for row in run():
        print(row)
