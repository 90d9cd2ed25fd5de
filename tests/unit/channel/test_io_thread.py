"""The one thread that all sandboxes share, at the moments that no scheduler will show."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator

import pytest

from plugkeep.channel import io_thread as _io_thread
from plugkeep.channel.io_thread import IoThread, borrow, give_back
from plugkeep.sandbox._output import Output


def io_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "plugkeep-io"]


@pytest.fixture
def print_line() -> Iterator[Callable[[IoThread], str]]:
    """Return a function that prints a line into a pipe and returns the thread that logged it."""
    logged_by: list[str] = []
    logged = threading.Event()

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            logged_by.append(str(record.threadName))
            logged.set()

    logger = logging.getLogger("plugkeep.plugin.printer")
    handler = Keep()
    logger.addHandler(handler)

    def print_and_wait(thread: IoThread) -> str:
        logged.clear()
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        output = Output("printer", "stderr", reader)
        thread.watch(output)
        os.write(writer, b"a line\n")
        os.close(writer)
        assert logged.wait(30)
        thread.forget(output)
        output.finish()
        return logged_by[-1]

    yield print_and_wait
    logger.removeHandler(handler)


def test_it_is_shared_and_ends_with_the_last_borrower(
    print_line: Callable[[IoThread], str],
) -> None:
    first, second = borrow("a"), borrow("b")
    assert first is second
    assert not io_threads(), "there is nothing to read yet"
    for _ in range(2):
        assert print_line(first) == "plugkeep-io"
        assert len(io_threads()) == 1
    give_back(first, "a")
    assert len(io_threads()) == 1
    give_back(second, "b")
    assert not io_threads()


def test_one_that_never_had_anything_to_read_leaves_nothing() -> None:
    for _ in range(100):
        thread = borrow("a")
        give_back(thread, "a")
    assert not io_threads()


def test_the_next_borrower_gets_a_new_one(print_line: Callable[[IoThread], str]) -> None:
    first = borrow("a")
    give_back(first, "a")
    second = borrow("b")
    assert second is not first
    assert print_line(second) == "plugkeep-io"
    give_back(second, "b")
    assert not io_threads()


def test_the_garbage_collector_may_give_back_in_the_middle_of_a_borrow() -> None:
    """A forgotten sandbox is ended wherever the collector comes by, on the very same thread."""
    first = borrow("forgotten")

    class Collecting(set[int]):
        def add(self, element: int, /) -> None:
            give_back(first, "forgotten")
            super().add(element)

    first.borrowers = Collecting(first.borrowers)
    second = borrow("b")
    assert second is not first, "borrowed a thread that has ended"
    give_back(second, "b")
    assert not io_threads()


@pytest.mark.keeps("to `threading` a bare thread that has logged is a dummy, and stays")
def test_where_there_can_be_no_more_threads_reading_goes_on(
    print_line: Callable[[IoThread], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_more(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_io_thread.threading.Thread, "start", no_more)
    thread = borrow("a")
    assert print_line(thread) != "plugkeep-io"
    give_back(thread, "a")
