"""How near a parallel start comes to the shortest time there is: the longest chain's."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from _measure import Row, at_most_times, medians, seconds

from plugkeep import Registry


class Slow:
    """A plugin that takes a while to start, doing nothing, and requires others."""

    def __init__(self, name: str, takes: float, requires: Sequence[str] = ()) -> None:
        self.name = name
        self.takes = takes
        self.requires = tuple(requires)

    def start(self) -> None:
        time.sleep(self.takes)

    def stop(self) -> None: ...


def run(quick: bool = False) -> list[Row]:
    return [*independent(rounds=3 if quick else 9), graph(graphs=3 if quick else 9)]


def independent(rounds: int) -> list[Row]:
    plugins = [Slow(f"slow-{number}", 0.05) for number in range(20)]
    samples = {
        "ours": lambda: start_all(plugins, workers=20) * 1000,
        "pool": lambda: in_a_thread_pool(plugins) * 1000,
    }
    took = medians(samples, rounds)
    claim = "start_all(workers=20), 20 plugins of 50 ms, beside"
    return [
        at_most_times(1.15, "ms", f"{claim} the longest", took["ours"], 50.0),
        at_most_times(1.15, "ms", f"{claim} a bare thread pool", took["ours"], took["pool"]),
    ]


def graph(graphs: int) -> Row:
    """Random graphs, the same at every run; the one with the median ratio stands for them."""
    measured = []
    for seed in range(graphs):
        plugins = random_graph(seed)
        measured.append((start_all(plugins, workers=len(plugins)) * 1000, critical_path(plugins)))
    measured.sort(key=lambda pair: pair[0] / pair[1])
    ours, path = measured[len(measured) // 2]
    claim = "start_all, a random graph of 200 plugins, beside its critical path"
    return at_most_times(1.15, "ms", claim, ours, path)


def random_graph(seed: int) -> list[Slow]:
    """Return 200 plugins of 1 to 20 ms, each requiring up to three that come before it."""
    draw = random.Random(seed)
    names = [f"node-{number}" for number in range(200)]
    return [
        Slow(
            name,
            draw.uniform(0.001, 0.020),
            draw.sample(names[:number], min(number, draw.randint(0, 3))),
        )
        for number, name in enumerate(names)
    ]


def critical_path(plugins: Sequence[Slow]) -> float:
    """Return the time that the longest chain of requirements takes, in ms."""
    done: dict[str, float] = {}
    for plugin in plugins:  # each comes after all that it requires
        begin = max((done[name] for name in plugin.requires), default=0.0)
        done[plugin.name] = begin + plugin.takes
    return max(done.values()) * 1000


def start_all(plugins: Sequence[Slow], workers: int) -> float:
    registry = Registry()
    for plugin in plugins:
        registry.register(plugin)
    took = seconds(lambda: registry.start_all(workers=workers))
    registry.stop_all()
    return took


def in_a_thread_pool(plugins: Sequence[Slow]) -> float:
    with ThreadPoolExecutor(len(plugins)) as pool:
        return seconds(lambda: list(pool.map(Slow.start, plugins)))
