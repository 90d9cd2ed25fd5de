"""Who reports the end of a process, in orders of events that no scheduler will show."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest

from plugkeep.sandbox._exit_watch import ExitWatch
from plugkeep.sandbox._output import Output
from plugkeep.sandbox._process import Exit


class FakeProcess:
    """One that ends when a test says so."""

    pid = stdin = stdout = stderr = exit_fd = -1
    ended: Exit | None = None

    def wait(self, timeout: float | None) -> bool:
        return self.ended is not None

    def kill(self, number: int) -> None: ...

    def peek(self) -> Exit | None:
        return self.ended

    def collect(self) -> Exit:
        assert self.ended
        return self.ended


@pytest.fixture
def process() -> FakeProcess:
    return FakeProcess()


@pytest.fixture
def watch(process: FakeProcess) -> Iterator[ExitWatch]:
    outputs = []
    for stream in ("stdout", "stderr"):
        reader, writer = os.pipe()
        os.close(writer)
        outputs.append(Output("fake", stream, reader))
    yield ExitWatch("fake", process, *outputs)
    for output in outputs:
        output.finish()


def test_before_it_begins_an_end_is_not_its_business(
    watch: ExitWatch, process: FakeProcess, caplog: pytest.LogCaptureFixture
) -> None:
    process.ended = Exit(returncode=1)
    assert not watch.pump()
    watch.end()
    assert not caplog.records


def test_woken_for_nothing_it_goes_on(
    watch: ExitWatch, process: FakeProcess, caplog: pytest.LogCaptureFixture
) -> None:
    """The event was that of another descriptor, which has had the same number before."""
    watch.begin()
    assert watch.pump()
    assert not caplog.records
    process.ended = Exit(returncode=1)
    assert not watch.pump()
    assert len(caplog.records) == 1


def test_once_ended_it_does_not_report_even_if_it_is_woken(
    watch: ExitWatch, process: FakeProcess, caplog: pytest.LogCaptureFixture
) -> None:
    watch.begin()
    assert watch.end()
    process.ended = Exit(returncode=0)
    assert not watch.pump()
    assert not caplog.records


@pytest.mark.parametrize("order", [("pump", "end"), ("end", "pump"), ("end", "end")])
def test_whoever_comes_first_reports_and_the_others_do_not(
    watch: ExitWatch,
    process: FakeProcess,
    caplog: pytest.LogCaptureFixture,
    order: tuple[str, str],
) -> None:
    watch.begin()
    process.ended = Exit(signal=11)
    assert [getattr(watch, each)() for each in order] == [False, False]
    [record] = caplog.records
    assert (record.name, record.levelno) == ("plugkeep.plugin.fake", logging.ERROR)
    assert record.getMessage() == "plugin 'fake' ended by itself: it was ended by SIGSEGV"
