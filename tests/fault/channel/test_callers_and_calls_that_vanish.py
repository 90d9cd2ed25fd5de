"""Children that die, go deaf or are forked from, and callers that are gone before the answer."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from plugkeep.errors import (
    CallTimeoutError,
    PluginError,
    ProcessExitedError,
    ProtocolViolationError,
)

UNIT = Path(__file__).parents[2] / "unit" / "channel"


def test_10_000_calls_in_flight_fail_at_once_when_the_child_is_killed(running: Any) -> None:
    with running() as toy:

        async def main() -> list[Any]:
            calls = [asyncio.ensure_future(toy.acall("hold", n)) for n in range(10_000)]
            while len(toy.channel.connection.calls) < 10_000:  # noqa: ASYNC110
                await asyncio.sleep(0)
            toy.process.kill()
            async with asyncio.timeout(30):
                return await asyncio.gather(*calls, return_exceptions=True)

        with ThreadPoolExecutor(1) as pool:
            results = pool.submit(asyncio.run, main()).result(60)
        assert {type(each) for each in results} == {ProcessExitedError}
        assert {each.plugin for each in results} == {"toy"}
        assert not toy.channel.connection.calls


def test_all_kinds_of_callers_learn_at_once_that_the_child_has_died(running: Any) -> None:
    with running() as toy, ThreadPoolExecutor(8) as pool:
        calls = [
            *(pool.submit(toy.call, "hold") for _ in range(3)),
            pool.submit(lambda: list(toy.stream("hold", (), {}))),
            pool.submit(lambda: list(toy.caller.map("hold", [range(100)]))),
            pool.submit(lambda: asyncio.run(toy.acall("hold"))),
        ]
        deadline = time.monotonic() + 30
        while len(toy.channel.connection.calls) < 3 + 1 + 64 + 1:
            assert time.monotonic() < deadline
        toy.process.kill()
        errors = [each.exception(30) for each in calls]
        assert {type(each) for each in errors} == {ProcessExitedError}


def test_a_child_that_dies_while_it_is_being_called(running: Any) -> None:
    for _ in range(10):
        with running() as toy:
            toy.call("echo", 1)
            with pytest.raises(ProcessExitedError):
                toy.call("die")
            with pytest.raises(ProcessExitedError):
                toy.call("echo", "x" * 100_000)


def test_answers_that_came_before_the_end_are_delivered(running: Any) -> None:
    with running() as toy, ThreadPoolExecutor(1) as pool:
        held = pool.submit(toy.call, "hold")
        while not toy.channel.connection.calls:
            pass
        sent = list(toy.caller.map("echo", [range(10)]))
        assert sent == list(range(10))
        assert toy.call("release") == 1
        assert held.result(30) == "released"


@pytest.mark.parametrize("level", [1, 2])
def test_a_child_that_does_not_read_is_cut_off(level: int, running: Any) -> None:
    with running(level, stalled=0.2) as toy:
        toy.call("deaf")
        with pytest.raises(ProtocolViolationError, match=r"has read nothing for 0\.2 s"):
            toy.call("echo", "x" * 1_000_000)
        assert toy.process.wait(30) == -signal.SIGKILL


def test_with_a_timeout_the_caller_waits_no_longer_for_one_that_does_not_read(
    running: Any,
) -> None:
    with running(stalled=30.0) as toy:
        toy.call("deaf")
        with pytest.raises(CallTimeoutError):
            toy.call("echo", "x" * 1_000_000, timeout=0.05)


def test_tasks_are_freed_from_a_child_that_does_not_read(running: Any) -> None:
    with running(stalled=0.2) as toy:

        async def main() -> list[Any]:
            await toy.acall("deaf")
            calls = [toy.acall("echo", "x" * 300_000) for _ in range(20)]
            return await asyncio.gather(*calls, return_exceptions=True)

        results = asyncio.run(main())
        assert {type(each) for each in results} == {ProtocolViolationError}
        assert toy.process.wait(30) == -signal.SIGKILL


def test_many_tasks_do_not_pile_up_what_cannot_be_sent(running: Any) -> None:
    with running() as toy:

        async def main() -> int:
            await toy.acall("sleep", 0.0)
            busy = asyncio.create_task(toy.acall("sleep", 0.1))
            calls = [asyncio.create_task(toy.acall("echo", "x" * 100_000)) for _ in range(200)]
            most = 0
            while not busy.done():
                most = max(most, toy.channel.outbox.size)
                await asyncio.sleep(0)
            assert await asyncio.gather(*calls) == ["x" * 100_000] * 200
            return most

        assert asyncio.run(main()) < 3_000_000


def test_a_child_that_reads_no_more_but_lives_on(running: Any) -> None:
    with running() as toy:
        toy.call("close")
        with pytest.raises(PluginError):
            for _ in range(3):  # the pipe takes the first before it is closed
                toy.call("echo", 1, timeout=5)


def test_closing_ends_all_calls_and_leaves_nothing_open(running: Any) -> None:
    with ThreadPoolExecutor(4) as pool:
        with running() as toy:
            calls = [
                pool.submit(toy.call, "hold"),
                pool.submit(toy.call, "hold"),
                pool.submit(lambda: asyncio.run(toy.acall("hold"))),
            ]
            while len(toy.channel.connection.calls) < 3:
                pass
        assert {type(each.exception(30)) for each in calls} == {ProcessExitedError}


def test_a_forked_process_cannot_use_the_channel_and_does_no_harm(running: Any) -> None:
    with running() as toy:
        toy.call("echo", 1)
        counted = toy.stream("count", (10**6,), {})
        assert next(counted) == 0
        pid = os.fork()
        if not pid:  # here nothing may raise, or there would be two test runs
            try:
                status = 1
                toy.call("echo", "from the copy")
            except ProcessExitedError:
                del counted
                status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert [toy.call("echo", n) for n in range(20)] == list(range(20))
        assert next(counted) == 1
        assert toy.call("cancelled") == 0
        counted.close()


# --- interrupts -------------------------------------------------------------------------------

SWEPT = """
import faulthandler, random, signal, sys, threading, time
sys.path.insert(0, {unit!r})
import toy as toys

faulthandler.dump_traceback_later(80, exit=True)  # hung: show where
random.seed({seed})

def interrupt(number, frame):
    raise KeyboardInterrupt

def take_some(values):
    for value in values:
        if value == 20:
            break

with toys.running(stalled=60.0) as toy:
    stop = threading.Event()
    wrong = []

    def others():
        while not stop.is_set():
            if toy.call("echo", 7) != 7:
                wrong.append("another's answer")

    threads = [threading.Thread(target=others) for _ in range({threads})]
    for thread in threads:
        thread.start()
    actions = [
        lambda: toy.call("echo", 1),
        lambda: toy.call("echo", 1, timeout=30),
        lambda: toy.call("echo", "x" * 100_000),
        lambda: take_some(toy.stream("count", (40,), {{}}, toy.options(window=4))),
        lambda: take_some(toy.caller.map("echo", [range(40)], toy.options(window=8))),
    ]
    signal.signal(signal.SIGALRM, interrupt)
    interrupted, longest = 0, 1e-3
    for step in range(100 * {wanted}):
        if interrupted == {wanted}:
            break
        action = random.choice(actions)
        try:
            signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, longest))
            action()
            signal.setitimer(signal.ITIMER_REAL, 0)
            longest = max(1e-5, longest * 0.95)
        except KeyboardInterrupt:
            interrupted += 1
            longest = min(1e-2, longest * 1.05)
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert toy.call("echo", step) == step
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    stop.set()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "a thread was left asleep"
    assert not wrong, wrong
    assert interrupted == {wanted}, interrupted
    assert not toy.end.error and not toy.channel.is_lost
    assert not toy.channel._active and not toy.channel._leads()
    print("held after", interrupted)
"""


@pytest.mark.parametrize("threads", [0, 3])
def test_wherever_a_signals_handler_raises_nobody_hangs(threads: int) -> None:
    wanted = 300 if threads else 800
    script = SWEPT.format(unit=str(UNIT), threads=threads, wanted=wanted, seed=threads)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.startswith("held after")


REENTERED = """
import faulthandler, signal, sys
sys.path.insert(0, {unit!r})
import toy as toys

faulthandler.dump_traceback_later(60, exit=True)  # hung: show where
got = []

def call(*_):
    got.append(toy.call("echo", len(got)) == len(got))
    signal.setitimer(signal.ITIMER_REAL, 0.0003)  # not before, or they pile up

with toys.running() as toy:
    signal.signal(signal.SIGALRM, call)
    signal.setitimer(signal.ITIMER_REAL, 0.0003)
    for n in range(1500):
        assert toy.call("echo", n) == n
        assert toy.call("echo", n, timeout=30) == n
    assert list(toy.caller.map("echo", [range(3000)])) == list(range(3000))
    assert list(toy.stream("count", (3000,), {{}})) == list(range(3000))
    assert toy.call("echo", "x" * 1_000_000) == "x" * 1_000_000
    signal.signal(signal.SIGALRM, signal.SIG_IGN)  # the handler would set the timer again
    assert got and all(got)
    assert not toy.end.error
print("held after", len(got))
"""


def test_a_signals_handler_may_call_in_the_midst_of_a_call() -> None:
    done = subprocess.run(
        [sys.executable, "-c", REENTERED.format(unit=str(UNIT))],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.startswith("held after")


def test_a_leader_that_times_out_hands_over(running: Any) -> None:
    with running() as toy, ThreadPoolExecutor(4) as pool:
        for _ in range(30):
            short = [pool.submit(toy.call, "hold", timeout=0.005) for _ in range(3)]
            kept = pool.submit(toy.call, "sleep", 0.02)
            assert kept.result(30) == 0.02
            assert {type(each.exception(30)) for each in short} == {CallTimeoutError}


def test_an_idle_channel_starts_no_thread_and_uses_no_time(running: Any) -> None:
    with running() as toy:
        toy.call("echo", 1)
        threads = threading.active_count()
        before = time.process_time()
        assert toy.call("sleep", 0.3) == 0.3
        assert threading.active_count() <= threads + 1
        assert time.process_time() - before < 0.1
