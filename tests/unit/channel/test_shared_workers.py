"""Threads that are kept for a moment after use."""

from __future__ import annotations

import logging
import os
import threading
import weakref
from typing import Any

import pytest

from plugkeep.channel.workers import Workers, _shared, run

PATIENCE = 30


def _busy(workers: Workers, count: int) -> tuple[list[threading.Thread], threading.Event]:
    """Have `count` threads wait for the event; return them."""
    threads: list[threading.Thread] = []
    came, go = threading.Semaphore(0), threading.Event()

    def wait() -> None:
        threads.append(threading.current_thread())
        came.release()
        go.wait(PATIENCE)

    for _ in range(count):
        workers.run(wait)
    for _ in range(count):
        assert came.acquire(timeout=PATIENCE)
    return threads, go


def test_as_many_threads_as_are_busy_and_none_for_long() -> None:
    threads, go = _busy(Workers(idle=0.01), 5)
    assert len(set(threads)) == 5
    assert all(thread.daemon for thread in threads)
    go.set()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()


def test_an_idle_thread_is_used_again() -> None:
    workers = Workers(idle=1)
    threads: set[threading.Thread] = set()
    for _ in range(20):
        workers.run(lambda: threads.add(threading.current_thread()))
        _await_idle(workers)
    assert len(threads) == 1
    threads.pop().join(PATIENCE)  # it ends when nothing more comes


def test_one_that_retires_and_is_chosen_at_that_moment_does_the_job() -> None:
    workers, done = Workers(idle=0.0001), threading.Semaphore(0)
    for number in range(2000):
        workers.run(done.release)
        if number % 3 == 0:
            threading.Event().wait(0.0001)
    for _ in range(2000):
        assert done.acquire(timeout=PATIENCE), "a job was lost"


def test_what_a_job_raises_is_logged_and_its_thread_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    workers, done = Workers(idle=0.05), threading.Event()
    caplog.set_level(logging.ERROR)
    workers.run(_divide, 1, 0)
    workers.run(done.set)
    assert done.wait(PATIENCE)
    for thread in threading.enumerate():
        if thread.name == "plugkeep-worker":
            thread.join(PATIENCE)
    (record,) = caplog.records
    assert record.name == "plugkeep.channel"
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError


def test_an_idle_thread_keeps_nothing_alive() -> None:
    class Something:
        def __call__(self, done: threading.Event) -> None:
            done.set()

    workers, job, done = Workers(idle=0.5), Something(), threading.Event()
    gone = threading.Event()
    weakref.finalize(job, gone.set)
    workers.run(job, done)
    assert done.wait(PATIENCE)
    del job
    assert gone.wait(PATIENCE)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_shared, "_idle_for", 0.5)
    done = threading.Event()
    run(done.set)
    assert done.wait(PATIENCE)
    _await_idle(_shared)
    child = os.fork()
    if not child:  # where the idle thread is known, but has not come along
        again = threading.Event()
        run(again.set)
        os._exit(0 if again.wait(PATIENCE) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def _await_idle(workers: Workers) -> None:
    """A job is done a moment before its thread is idle."""
    for _ in range(PATIENCE * 1000):
        if workers._idle:
            return
        threading.Event().wait(0.001)
    pytest.fail("no thread has become idle")


def _divide(a: Any, b: Any) -> Any:
    return a / b
