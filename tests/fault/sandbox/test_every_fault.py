"""Whatever one plugin does wrong: its neighbour goes on, the host hears of it, nothing is left."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from typing import Any

import pytest

from plugkeep import Registry, isolate
from plugkeep.errors import PluginError
from plugkeep.testing import Faulty, faults

SOURCE = "python:plugkeep.testing.faulty"
#: Faults whose plugin starts, answers and stops as any other.
HARMLESS = {"slow", "flood", "leak", "eat", "spawn", "degraded", "health"}


#: Those of whose plugins the host loses its patience.
HANGING = ("hang", "ignore", "freeze", "health-blocks")


def sandbox(fault: str) -> Any:
    hangs = fault.startswith(HANGING)
    limits = {"start_timeout": 2 if hangs else 60, "stop_timeout": 0.5 if hangs else 60}
    options: dict[str, Any] = {"name": "faulty", **limits}
    if any(each.name == fault and each.moment == "load" for each in faults()):
        return isolate(SOURCE, env={**os.environ, "PLUGKEEP_FAULT": fault}, **options)
    return isolate(SOURCE, config={"fault": fault}, **options)


def is_harmless(fault: str) -> bool:
    return fault.partition("-")[0] in HARMLESS and fault not in ("health-lies", "health-blocks")


@pytest.mark.parametrize("fault", [each.name for each in faults("process")])
def test_in_a_process_of_its_own(fault: str, gone: Any) -> None:
    registry = Registry()
    faulty, sane = sandbox(fault), isolate(SOURCE, name="sane")
    registry.register(faulty)
    registry.register(sane)
    errors = registry.start_all()
    pid = faulty.pid
    try:
        for method, args in (("echo", (1,)), ("health", ())):
            if faulty.pid is not None:
                ask(faulty, method, *args)
            assert sane.call("echo", 2) == 2
        spawned = faulty.call("spawned") if fault.startswith("spawn") else []
    finally:
        errors += registry.stop_all()
    assert {error.plugin for error in errors} <= {"faulty"}
    if is_harmless(fault):
        assert not errors
    if pid is not None:
        gone(pid)
    for each in spawned:  # those with a session of their own outlive it, until the host ends
        with suppress(ProcessLookupError):
            os.kill(each, signal.SIGKILL)
        gone(each)


def ask(plugin: Any, method: str, *args: Any) -> None:
    """Call a method, and be answered or told why not."""
    with suppress(PluginError):
        plugin.call(method, *args, timeout=0.5)


@pytest.mark.parametrize("fault", [f.name for f in faults("in process") if f.moment != "load"])
def test_in_the_hosts_own_process(fault: str) -> None:
    limit = 0.3 if fault.startswith(HANGING) else 60
    registry = Registry(start_timeout=limit, stop_timeout=limit)
    faulty, sane = Faulty(fault), Faulty(name="sane")
    registry.register(faulty)
    registry.register(sane)
    try:
        errors = registry.start_all()
        assert sane.echo(2) == 2
        errors += registry.stop_all()
    finally:
        faulty.behave()
    assert {error.plugin for error in errors} <= {"faulty"}
    if is_harmless(fault):
        assert not errors
