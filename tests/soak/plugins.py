"""The plugins of a soak: of every kind, requiring one another, with all sorts of policies."""

from __future__ import annotations

import random
import shlex
import sys
from pathlib import Path

from plugkeep import Host, PluginSpec, RestartPolicy, Watchdog
from plugkeep.testing import faulty_program

SOURCE = "python:plugkeep.testing.faulty"
#: Seconds that a call may take.
CALL_TIMEOUT = 3.0

#: Where they run: kind, source, what else their specs say.
KINDS: dict[str, tuple[str, dict[str, object]]] = {
    "here": (SOURCE, {}),
    "fork": (SOURCE, {"isolation": "process"}),
    "fresh": (SOURCE, {"isolation": "process", "fork": False}),
    "level-1": (f"exec:{shlex.join([sys.executable, '-S', faulty_program(), '--level=1'])}", {}),
    "level-0": (f"exec:{shlex.join([sys.executable, '-S', faulty_program(), '--level=0'])}", {}),
}


def make_host(dice: random.Random, count: int, folder: Path) -> Host:
    host = Host(shutdown_timeout=20.0)
    host.registry.workers = 4
    names = [f"{list(KINDS)[number % len(KINDS)]}-{number}" for number in range(count)]
    host.add(*(spec(dice, name, names[:number], folder) for number, name in enumerate(names)))
    return host


def spec(dice: random.Random, name: str, earlier: list[str], folder: Path) -> PluginSpec:
    kind = name.rpartition("-")[0]
    source, options = KINDS[kind]
    # Within islands, or each failure would take everybody along.
    near = earlier[-6:]
    wanted = dice.sample(near, min(len(near), dice.choice((0, 0, 1, 2))))
    return PluginSpec(
        name=name,
        source=source,
        base=str(folder),
        requires=tuple(sorted(wanted, key=earlier.index)),
        restart=policy(dice),
        watchdog=Watchdog(0.5, 1.5) if dice.random() < 0.9 else None,
        start_timeout=10.0,
        stop_timeout=1.0,
        **({} if kind == "here" else {"call_timeout": CALL_TIMEOUT, "term_timeout": 0.2}),
        **options,  # type: ignore[arg-type]
    )


def policy(dice: random.Random) -> RestartPolicy:
    return dice.choice(
        (
            RestartPolicy(when="permanent", intensity=1000, delay=0.01, max_delay=0.2),
            RestartPolicy(when="permanent", intensity=1000, delay=0.0, max_delay=0.0),
            RestartPolicy(when="permanent", intensity=2, period=5.0, delay=0.05),
            RestartPolicy(when="transient", intensity=1000, delay=0.05, max_delay=0.5),
            RestartPolicy(when="permanent", intensity=1000, delay=0.02, dependents="keep"),
            RestartPolicy(),
        )
    )
