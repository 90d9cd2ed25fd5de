"""Our side of the benchmarks: `_plugin` in a child, called through the public API."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from _callers import AsyncCalls, Calls
from _peers import TEXT, in_tasks

from plugkeep import isolate

SOURCE = f"file:{Path(__file__).parent / '_plugin.py'}"


def plugin(**options: Any) -> Any:
    """Return the plugin's sandbox, to be started."""
    return isolate(SOURCE, isolation="process", **{"name": "bench", **options})


@contextmanager
def call(wire: int = 2) -> Iterator[Calls]:
    with plugin(wire=wire) as sandbox:

        def calls(count: int) -> None:
            for _ in range(count):
                sandbox.call("echo", TEXT)

        yield calls


@contextmanager
def acall() -> Iterator[AsyncCalls]:
    with plugin() as sandbox:

        async def calls(count: int) -> None:
            for _ in range(count):
                await sandbox.acall("echo", TEXT)

        yield calls


@contextmanager
def acall_in_tasks() -> Iterator[AsyncCalls]:
    with plugin() as sandbox:
        yield lambda count: in_tasks(lambda: sandbox.acall("echo", TEXT), count)


@contextmanager
def mapped() -> Iterator[Calls]:
    with plugin() as sandbox:
        yield lambda count: deque(sandbox.map("echo", [TEXT] * count), maxlen=0)
