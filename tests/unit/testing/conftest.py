"""What tests of the fault kit need to see that a fault is what it says."""

from __future__ import annotations

import logging
import os
import select
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from plugkeep import ExecSandbox, Sandbox, isolate
from plugkeep.channel import workers
from plugkeep.testing import faults, faulty_program

#: Seconds after which a test gives up waiting. Nothing takes as long where nothing is wrong.
PATIENCE = 30.0

Make = Callable[..., Sandbox]


@pytest.fixture
def program() -> Make:
    """Return a function that makes a sandbox of the faulty program."""

    def make(fault: str | None = None, *, args: tuple[str, ...] = (), **how: Any) -> Sandbox:
        limits = {key: how.pop(key, PATIENCE) for key in ("start_timeout", "stop_timeout")}
        words = [f"--{key.replace('_', '-')}={value}" for key, value in how.items()]
        chosen = ["--fault", fault] if fault else []
        return ExecSandbox(
            sys.executable, "-S", "-E", faulty_program(), *chosen, *words, *args,
            name="faulty", **limits,
        )  # fmt: skip

    return make


@pytest.fixture
def process() -> Make:
    """Return a function that makes a sandbox of the faulty plugin."""
    early = {each.name for each in faults() if each.moment == "load"}

    def make(fault: str | None = None, **how: Any) -> Sandbox:
        limits = {key: how.pop(key, PATIENCE) for key in ("start_timeout", "stop_timeout")}
        source = "python:plugkeep.testing.faulty"
        if fault in early:
            return isolate(source, env={**os.environ, "PLUGKEEP_FAULT": fault}, **limits)
        config = {"fault": fault, **how} if fault else None
        return isolate(source, config=config, **limits)

    return make


@pytest.fixture
def gone() -> Callable[[int | None], None]:
    """Return a function that waits until no process of that number runs."""

    def wait(pid: int | None) -> None:
        assert pid is not None
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        try:
            ended, _, _ = select.select([descriptor], [], [], PATIENCE)
        finally:
            os.close(descriptor)
        assert ended, f"process {pid} is still there"

    return wait


class Records(logging.Handler):
    """What was logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self._came = threading.Condition()

    def emit(self, record: logging.LogRecord) -> None:
        with self._came:
            self.lines.append(record.getMessage())
            self._came.notify_all()

    def wait_for(self, text: str, count: int = 1) -> list[str]:
        """Return the lines that contain `text`, as soon as there are so many."""

        def find() -> list[str]:
            return [line for line in self.lines if text in line]

        with self._came:
            assert self._came.wait_for(lambda: len(find()) >= count, PATIENCE), (
                f"{len(find())} lines have {text!r}, of {self.lines[-5:]}"
            )
            return find()


@pytest.fixture
def records() -> Iterator[Records]:
    logger = logging.getLogger("plugkeep")
    handler = Records()
    logger.addHandler(handler)
    level, logger.level = logger.level, logging.DEBUG
    propagate, logger.propagate = logger.propagate, False
    yield handler
    logger.removeHandler(handler)
    logger.level, logger.propagate = level, propagate


@pytest.fixture(autouse=True)
def _impatient_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have idle threads end at once, so that no test has to wait for that."""
    monkeypatch.setattr(workers._shared, "_idle_for", 0.02)
