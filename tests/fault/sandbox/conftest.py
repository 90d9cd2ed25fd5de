"""Plugins that misbehave, and what is needed to see that nothing is left of them."""

from __future__ import annotations

import logging
import os
import select
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from plugkeep.channel import workers
from plugkeep.sandbox import ExecSandbox
from plugkeep.testing import faulty_program

#: Seconds after which a test gives up waiting. Nothing takes as long where nothing is wrong.
PATIENCE = 30.0

#: What each plugin in Python begins with.
PRELUDE = """\
import os, signal, sys, time
def ready():
    os.write(1, b'{"ready":true}\\n')
"""

Make = Callable[..., ExecSandbox]


@pytest.fixture
def plugin() -> Make:
    """Return a function that makes a sandbox of a few lines of Python."""

    def make(body: str, *args: str, **options: Any) -> ExecSandbox:
        options.setdefault("name", "naughty")
        options.setdefault("start_timeout", PATIENCE)
        options.setdefault("stop_timeout", PATIENCE)
        code = PRELUDE + dedent(body)
        return ExecSandbox(sys.executable, "-S", "-E", "-c", code, *args, **options)

    return make


@pytest.fixture
def shell() -> Make:
    """Return a function that makes a sandbox of a shell script."""

    def make(script: str, **options: Any) -> ExecSandbox:
        options.setdefault("name", "naughty")
        options.setdefault("start_timeout", PATIENCE)
        options.setdefault("stop_timeout", PATIENCE)
        return ExecSandbox("sh", "-c", script, **options)

    return make


@pytest.fixture
def faulty() -> Make:
    """Return a function that makes a sandbox of a program of level 0 with a fault of the kit."""

    def make(*fault: str, **options: Any) -> ExecSandbox:
        options.setdefault("name", "naughty")
        options.setdefault("start_timeout", PATIENCE)
        options.setdefault("stop_timeout", PATIENCE)
        chosen = ("--level=0", "--fault", *fault) if fault else ("--level=0",)
        return ExecSandbox(sys.executable, "-S", "-E", faulty_program(), *chosen, **options)

    return make


WIRED = Path(__file__).with_name("wired.py").read_text()


@pytest.fixture(params=[1, 2], ids=["level 1", "level 2"])
def level(request: pytest.FixtureRequest) -> int:
    """Have a test run at both levels that have calls."""
    return int(request.param)


@pytest.fixture
def wired(level: int) -> Make:
    """Return a function that makes a sandbox of a plugin that speaks level 1 or 2."""

    def make(body: str = "ready(); serve()", **options: Any) -> ExecSandbox:
        options.setdefault("name", "naughty")
        options.setdefault("start_timeout", PATIENCE)
        options.setdefault("stop_timeout", PATIENCE)
        options.setdefault("wire", level)
        return ExecSandbox(sys.executable, "-S", "-E", "-c", WIRED + dedent(body), **options)

    return make


class Records(logging.Handler):
    """What the plugins of a test printed, as it was logged."""

    def __init__(self) -> None:
        super().__init__()
        self.all: list[logging.LogRecord] = []
        self._came = threading.Condition()

    def emit(self, record: logging.LogRecord) -> None:
        with self._came:
            self.all.append(record)
            self._came.notify_all()

    def lines(self, stream: str) -> list[str]:
        return [record.getMessage() for record in self.all if vars(record)["stream"] == stream]

    def wait_for(self, beginning: str) -> str:
        """Return the rest of the first line that begins so, as soon as there is one."""
        with self._came:
            assert self._came.wait_for(lambda: self._find(beginning), PATIENCE), (
                f"nothing begins with {beginning!r} in {[each.getMessage() for each in self.all]}"
            )
            return self._find(beginning)[0].removeprefix(beginning)

    def _find(self, beginning: str) -> list[str]:
        lines = (record.getMessage() for record in self.all)
        return [line for line in lines if line.startswith(beginning)]


@pytest.fixture
def records() -> Iterator[Records]:
    logger = logging.getLogger("plugkeep.plugin")
    handler = Records()
    logger.addHandler(handler)
    level, logger.level = logger.level, logging.DEBUG
    propagate, logger.propagate = logger.propagate, False
    yield handler
    logger.removeHandler(handler)
    logger.level, logger.propagate = level, propagate


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


@pytest.fixture
def ended(gone: Callable[[int | None], None]) -> Callable[[ExecSandbox], None]:
    """Return a function that waits until the plugin has ended by itself."""

    def wait(sandbox: ExecSandbox) -> None:
        if (pid := sandbox.pid) is not None:
            gone(pid)
        assert sandbox.pid is None

    return wait


@pytest.fixture
def run_host(tmp_path: Path) -> Callable[..., str]:
    """Return a function that runs a host of its own, in Python, and returns what it printed."""

    def run(body: str, *args: str, status: int = 0, **options: Any) -> str:
        script = tmp_path / "host.py"
        script.write_text("from plugkeep import ExecSandbox\n" + dedent(body))
        done = subprocess.run(
            [sys.executable, script, *args],
            capture_output=True,
            text=True,
            timeout=100,
            **options,
        )
        assert done.returncode == status, done.stderr
        return done.stdout

    return run


@pytest.fixture(autouse=True)
def _impatient_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have idle threads end at once, so that no test has to wait for that."""
    monkeypatch.setattr(workers._shared, "_idle_for", 0.02)
