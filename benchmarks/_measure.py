"""How the benchmarks measure: side by side, on one core, in many short rounds."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypedDict


class Row(TypedDict):
    """One measured claim. `ours` and `peer` are in `unit`; `met` says whether the target was."""

    claim: str
    target: str
    ours: float
    peer: float | None
    ratio: float | None
    unit: str
    met: bool


def at_most(limit: float, unit: str, claim: str, ours: float, peer: float | None = None) -> Row:
    """Claim that `ours` is at most `limit` units, whatever the peer's figure."""
    return _row(claim, f"≤ {limit:g} {unit}", ours, peer, unit, met=ours <= limit)


def at_most_times(limit: float, unit: str, claim: str, ours: float, peer: float) -> Row:
    """Claim that `ours` is at most `limit` times the peer's figure."""
    return _row(claim, f"≤ {limit:g} ×", ours, peer, unit, met=ours <= limit * peer)


def at_least_times(limit: float, unit: str, claim: str, ours: float, peer: float) -> Row:
    """Claim that `ours` is at least `limit` times the peer's figure."""
    return _row(claim, f"≥ {limit:g} ×", ours, peer, unit, met=ours >= limit * peer)


def _row(claim: str, target: str, ours: float, peer: float | None, unit: str, *, met: bool) -> Row:
    ratio = ours / peer if peer else None
    return Row(claim=claim, target=target, ours=ours, peer=peer, ratio=ratio, unit=unit, met=met)


def on_one_core() -> None:
    """Keep this process, and those it starts, on one core: moving between two costs more than most
    of what is measured here."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


Samples = Mapping[str, Callable[[], float]]


def medians(samples: Samples, rounds: int) -> dict[str, float]:
    """Return the median of each sample: for ratios, as all have met the same weather."""
    return {name: statistics.median(taken) for name, taken in _in_turns(samples, rounds).items()}


def least(samples: Samples, rounds: int) -> dict[str, float]:
    """Return the least of each sample: for microseconds, as other programs can only add to them."""
    return {name: min(taken) for name, taken in _in_turns(samples, rounds).items()}


def _in_turns(samples: Samples, rounds: int) -> dict[str, list[float]]:
    taken: dict[str, list[float]] = {name: [] for name in samples}
    for _ in range(rounds):
        for name, sample in samples.items():
            taken[name].append(sample())
    return taken


def seconds(action: Callable[[], object]) -> float:
    """Return how long `action` takes."""
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


def process_seconds(command: Sequence[str]) -> float:
    """Return how long `command` takes from its launch to its end."""
    return seconds(lambda: subprocess.run(command, check=True, stdin=subprocess.DEVNULL))
