"""Calling from tasks, of asyncio and of trio, and from both worlds at once."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from itertools import count
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from plugkeep.errors import (
    CallTimeoutError,
    MethodNotFoundError,
    ProcessExitedError,
    ProtocolViolationError,
    RemoteError,
    UnsendableValueError,
)

Run = Callable[..., Any]


@pytest.fixture(params=["asyncio", "trio"])
def run(request: pytest.FixtureRequest) -> Run:
    def run(function: Callable[[], Any]) -> Any:
        return anyio.run(function, backend=request.param)

    return run


async def gathered(functions: list[Callable[[], Any]]) -> list[Any]:
    results: list[Any] = [None] * len(functions)

    async def one(place: int) -> None:
        results[place] = await functions[place]()

    async with anyio.create_task_group() as group:
        for place in range(len(functions)):
            group.start_soon(one, place)
    return results


def test_a_call_returns_what_is_answered_or_raises_it(run: Run, toy: Any) -> None:
    async def main() -> None:
        for value in (1, "x", [1, [2]], {"a": None}, "ü" * 100_000):
            assert await toy.acall("echo", value) == value
        with pytest.raises(RemoteError, match="plugin 'toy', method 'fail' raised ValueError"):
            await toy.acall("fail")
        with pytest.raises(MethodNotFoundError, match="did you mean 'echo'"):
            await toy.acall("ecko")
        with pytest.raises(UnsendableValueError, match="plugin 'toy': argument 1"):
            await toy.acall("echo", object())
        with pytest.raises(CallTimeoutError, match="plugin 'toy': 'hold'"):
            await toy.acall("hold", timeout=0.02)
        assert await toy.acall("cancelled") == 1
        assert await toy.acall("echo", 5, timeout=30) == 5

    run(main)
    assert not toy.channel.connection.calls
    assert toy.call("echo", 1) == 1


def test_without_a_loop_there_is_a_clear_error(toy: Any) -> None:
    coroutine = toy.acall("echo", 1)
    with pytest.raises(RuntimeError, match="no event loop"):
        coroutine.send(None)


@pytest.mark.parametrize("tasks", [3, 64, 1000])
def test_many_tasks_each_get_their_own_answers(tasks: int, run: Run, toy: Any) -> None:
    async def main() -> None:
        async def work(task: int) -> bool:
            return all([await toy.acall("echo", [task, n]) == [task, n] for n in range(10)])

        assert all(await gathered([lambda n=n: work(n) for n in range(tasks)]))

    run(main)
    assert not toy.channel.connection.calls


def test_progress_is_told_in_the_loop(run: Run, toy: Any) -> None:
    seen: list[Any] = []

    def stop(_: object) -> None:
        raise LookupError("enough")

    async def main() -> None:
        assert await toy.acall("progress", 5, on_progress=seen.append) == "done"
        with pytest.raises(LookupError, match="enough"):
            await toy.acall("progress", 3, on_progress=stop)
        assert await toy.acall("echo", 1) == 1

    run(main)
    assert seen == list(range(5))


def test_a_cancelled_task_cancels_the_call(run: Run, toy: Any) -> None:
    async def main() -> None:
        with anyio.move_on_after(0.02) as scope:
            await toy.acall("hold")
        assert scope.cancelled_caught
        assert await toy.acall("cancelled") == 1

    run(main)
    assert not toy.channel.connection.calls


def test_large_messages_both_ways_at_once(run: Run, toy: Any) -> None:
    large = "y" * 1_000_000

    async def main() -> None:
        calls = [lambda n=n: toy.acall("echo", large + str(n)) for n in range(16)]
        assert await gathered(calls) == [large + str(n) for n in range(16)]

    run(main)
    assert not toy.channel.outbox


def test_a_stream_gives_its_values_and_is_cancelled_when_left(run: Run, toy: Any) -> None:
    async def main() -> None:
        counted = toy.astream("count", (1000,), {}, toy.options(window=7))
        assert [value async for value in counted] == list(range(1000))
        assert counted.result == "counted"
        async with toy.astream("count", (10**9,), {}, toy.options(window=8)) as endless:
            assert [await anext(endless) for _ in range(3)] == [0, 1, 2]
            assert await toy.acall("chunks") == 1008
        assert await toy.acall("cancelled") == 1
        assert [value async for value in endless] == []
        with pytest.raises(RemoteError, match="went wrong"):
            await anext(toy.astream("fail", (), {}))

    run(main)
    assert not toy.channel.connection.calls
    assert not toy.channel.loops or run


def test_a_forgotten_stream_is_cancelled(run: Run, toy: Any) -> None:
    async def main() -> None:
        counted = toy.astream("count", (10**9,), {})
        assert await anext(counted) == 0
        del counted
        gc.collect()
        with anyio.fail_after(30):
            while await toy.acall("cancelled") == 0:
                await anyio.lowlevel.checkpoint()

    run(main)


def test_map_gives_results_in_order(run: Run, toy: Any) -> None:
    async def items() -> Any:
        for n in range(100):
            yield n

    async def slow() -> Any:
        yield "first"
        await anyio.sleep_forever()

    async def broken() -> Any:
        yield 1
        raise LookupError("no more")

    async def collect(*iterables: Any, **options: Any) -> list[Any]:
        return [v async for v in toy.caller.amap("echo", iterables, toy.options(**options))]

    async def main() -> None:
        for window in (1, 2, 64):
            assert await collect(range(300), window=window) == list(range(300))
            assert await collect(items(), window=window) == list(range(100))
        async with aclosing(items()) as numbers:
            assert await collect(numbers, "abc") == [[0, "a"], [1, "b"], [2, "c"]]
        assert await collect([]) == []
        with pytest.raises(LookupError, match="no more"):
            await collect(broken())
        with pytest.raises(UnsendableValueError, match="plugin 'toy'"):
            await collect([1, object()])
        async with aclosing(slow()) as endless:
            results = toy.caller.amap("echo", [endless])
            assert await anext(results) == "first"  # though the next item never comes
            await results.aclose()
            await anyio.sleep(0.001)  # until nobody is inside of it any more
        taken = count()
        results = toy.caller.amap("echo", [taken], toy.options(window=10))
        assert [await anext(results) for _ in range(20)] == list(range(20))
        await results.aclose()
        assert next(taken) <= 40

    run(main)
    assert not toy.channel.connection.calls


def test_amap_is_no_more_than_two_windows_ahead_of_one_who_lags(run: Run, toy: Any) -> None:
    async def main() -> None:
        taken = count()
        results = toy.caller.amap("echo", [taken], toy.options(window=10))
        for n in range(40):
            assert await anext(results) == n
            while toy.channel.connection.calls:
                await anyio.lowlevel.checkpoint()
        await results.aclose()
        assert next(taken) <= 40 + 2 * 10

    run(main)


def test_a_plain_call_inside_of_the_loop_reads_by_itself(run: Run, toy: Any) -> None:
    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(toy.acall, "hold")
            await anyio.lowlevel.checkpoint()
            while len(toy.channel.connection.calls) < 1:
                await anyio.lowlevel.checkpoint()
            assert [toy.call("echo", n) for n in range(20)] == list(range(20))
            assert toy.call("release") == 1

    run(main)


def test_threads_and_loops_of_both_kinds_call_at_once(toy: Any) -> None:
    def threads(n: int) -> bool:
        return all(toy.call("echo", [n, i]) == [n, i] for i in range(200))

    def loop(n: int) -> bool:
        async def main() -> bool:
            async def work(task: int) -> bool:
                return all(
                    [await toy.acall("echo", [n, task, i]) == [n, task, i] for i in range(20)]
                )

            return all(await gathered([lambda t=t: work(t) for t in range(20)]))

        return bool(anyio.run(main, backend="trio" if n % 2 else "asyncio"))

    with ThreadPoolExecutor(10) as pool:
        results = [*pool.map(threads, range(5)), *pool.map(loop, range(4))]
        mixed = [pool.submit(loop if n % 2 else threads, n) for n in range(10)]
        assert all(results)
        assert all(each.result(60) for each in mixed)
    assert not toy.channel.connection.calls


def test_a_loop_that_is_stuck_holds_up_nobody_else(toy: Any) -> None:
    is_stuck, may_go = threading.Event(), threading.Event()

    async def main() -> Any:
        held = asyncio.create_task(toy.acall("hold"))
        await toy.acall("echo", 0)  # now it is the loop that reads
        is_stuck.set()
        may_go.wait(60)
        return await held

    with ThreadPoolExecutor(1) as pool:
        loop = pool.submit(asyncio.run, main())
        assert is_stuck.wait(30)
        came = threading.Event()
        toy.end.on_log = lambda log: came.set()
        assert [toy.call("echo", n) for n in range(50)] == list(range(50))
        assert toy.call("log", 1) == 1
        assert came.wait(30)
        assert toy.call("release") == 1
        may_go.set()
        assert loop.result(30) == "released"


def test_logs_come_while_a_loop_is_stuck(toy: Any) -> None:
    came = threading.Event()
    toy.end.on_log = lambda log: came.set()

    async def main() -> bool:
        logging = asyncio.create_task(toy.acall("log", 1))
        await asyncio.sleep(0)
        seen = came.wait(30)
        await logging
        return seen

    assert asyncio.run(main())


def test_a_closed_loop_leaves_the_channel_to_others(toy: Any) -> None:
    def begin() -> None:
        loop = asyncio.new_event_loop()
        task = loop.create_task(toy.acall("hold"))
        loop.run_until_complete(toy.acall("echo", 0))
        loop.run_until_complete(asyncio.sleep(0))
        task.cancel()  # and never runs again
        loop.close()
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        task.get_coro().close()  # type: ignore[union-attr]

    thread = threading.Thread(target=begin)
    thread.start()
    thread.join()
    assert [toy.call("echo", n) for n in range(20)] == list(range(20))
    came = threading.Event()
    toy.end.on_log = lambda log: came.set()
    toy.channel.post(toy.channel.connection.request("log", (1,), {}, toys_nobody())[1])
    assert came.wait(30), "nobody reads any more"
    assert asyncio.run(toy.acall("echo", 1)) == 1


class toys_nobody:
    def answered(self, _: Any) -> None: ...
    def failed(self) -> None: ...


def test_when_the_child_dies_every_task_learns_it(run: Run, toy: Any) -> None:
    async def main() -> None:
        errors: list[BaseException] = []

        async def one() -> None:
            try:
                await toy.acall("hold")
            except ProcessExitedError as error:
                errors.append(error)

        async def streams() -> None:
            try:
                await anext(toy.astream("hold", (), {}))
            except ProcessExitedError as error:
                errors.append(error)

        async with anyio.create_task_group() as group:
            for _ in range(50):
                group.start_soon(one)
            group.start_soon(streams)
            with anyio.fail_after(30):
                while len(toy.channel.connection.calls) < 51:
                    await anyio.lowlevel.checkpoint()
            toy.process.kill()
        assert len(errors) == 51
        with pytest.raises(ProcessExitedError):
            await toy.acall("echo", 1)

    run(main)


def test_a_violation_is_told_to_tasks(run: Run, toy: Any) -> None:
    if toy.channel.connection.codec.level == 1:
        return  # there it is a line that is no message, and passed over

    async def main() -> None:
        with pytest.raises(ProtocolViolationError):
            await toy.acall("garbage")

    run(main)
    assert toy.process.wait(30) == -9


def test_a_reading_loop_is_let_go_of_after_a_pause(toy: Any) -> None:
    async def main() -> None:
        await toy.acall("echo", 1)
        deadline = time.monotonic() + 30
        while toy.channel.loops:
            assert time.monotonic() < deadline, "it holds on"
            await asyncio.sleep(0.001)

    asyncio.run(main())
    assert toy.channel.loop is None
