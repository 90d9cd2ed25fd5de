"""What forks of a warm interpreter save, and what the keeper that is behind all starts costs."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from _measure import Row, at_most, at_most_times, medians, process_seconds, seconds

from plugkeep import Registry, isolate, preimport
from plugkeep.sandbox import Sandbox

if TYPE_CHECKING:
    from plugkeep.sandbox.keeper.client import Keeper

#: What a plugin that computes imports; forks have it from before.
IMPORTS = ("asyncio", "numpy")
PLUGIN = f"""
import {", ".join(IMPORTS)}

class PluginFactory:
    name = "typical"
    def start(self): ...
    def stop(self): ...
"""


def run(quick: bool = False) -> list[Row]:
    preimport(*IMPORTS)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "typical.py")
        source.write_text(PLUGIN)
        return [
            *one(source, rounds=5 if quick else 25),
            many(source, count=20 if quick else 100),
            *keeper(rounds=5 if quick else 25),
        ]


def one(source: Path, rounds: int) -> list[Row]:
    plugins = {fork: isolate(f"file:{source}", fork=fork) for fork in (True, False)}
    samples: dict[str, Callable[[], float]] = {
        "forked": partial(start, plugins[True]),
        "fresh": partial(start, plugins[False]),
    }
    medians(samples, rounds=2)  # what only the first pay: the zygote's own start
    took = medians(samples, rounds)
    with plugins[True], plugins[False]:
        forked, fresh = (private(plugins[fork].pid) for fork in (True, False))
    claim = "a Python plugin with NumPy and asyncio, forked, beside a fresh interpreter:"
    return [
        at_most_times(
            0.1, "ms", f"{claim} start to ready", took["forked"] * 1e3, took["fresh"] * 1e3
        ),
        at_most_times(0.25, "MiB", f"{claim} private memory", forked, fresh),
    ]


def many(source: Path, count: int) -> Row:
    took = {}
    for fork in (True, False):
        registry = Registry()
        for number in range(count):
            name = f"typical-{number}"
            registry.register(isolate(f"file:{source}", name=name, fork=fork))
        took[fork] = seconds(lambda registry=registry: registry.start_all(workers=4))
        registry.stop_all()
    claim = f"start_all(workers=4), {count} Python plugins, forked, beside fresh interpreters"
    return at_most_times(0.2, "ms", claim, took[True] * 1e3, took[False] * 1e3)


def keeper(rounds: int) -> list[Row]:
    samples = {
        "keeper": keeper_start,
        "interpreter": lambda: process_seconds([sys.executable, "-I", "-S", "-c", "pass"]),
    }
    took = medians(samples, rounds)
    beyond = (took["keeper"] - took["interpreter"]) * 1e3
    from plugkeep.sandbox.keeper.client import keepers

    return [
        at_most(
            20, "ms", "the keeper, until it answers, beyond a bare interpreter's start", beyond
        ),
        at_most(12, "MiB", "the keeper: private memory", private(keepers()[-1].pid)),
    ]


def keeper_start() -> float:
    """Return how long a keeper takes to launch its first program, less what the second takes."""
    from plugkeep.sandbox.keeper.client import Keeper
    from plugkeep.sandbox.keeper.surroundings import surroundings

    inherited = surroundings()
    begin = time.perf_counter()
    fresh = Keeper(inherited)
    first = launch(fresh) - begin
    begin = time.perf_counter()
    took = first - (launch(fresh) - begin)
    fresh.retire()
    while not fresh.has_gone():
        time.sleep(0.001)
    return took


def launch(keeper: Keeper) -> float:
    from plugkeep.sandbox._process import Order
    from plugkeep.sandbox.keeper.kept import KeptProcess

    with Path(os.devnull).open("r+b", 0) as null:
        number = null.fileno()
        launched = keeper.launch(Order("/bin/true", (), {}, None, (number,) * 3))
        ended = time.perf_counter()
        process = KeptProcess(launched, None, number, number)
        process.wait(None)
        process.collect()
    return ended


def start(plugin: Sandbox) -> float:
    took = seconds(plugin.start)
    plugin.stop()
    return took


def private(pid: int | None) -> float:
    """Return how much memory is this process's alone, in MiB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024


if __name__ == "__main__":
    for row in run():
        print(row)
