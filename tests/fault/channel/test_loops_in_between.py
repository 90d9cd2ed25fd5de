"""Event loops, threads and the garbage collector getting in one another's way on a channel."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from itertools import count
from typing import Any

import pytest

from plugkeep.errors import ProcessExitedError


def test_the_outbox_is_filled_while_a_task_makes_its_call(running: Any) -> None:
    with running() as toy:
        channel = toy.channel

        async def main() -> Any:
            assert await toy.acall("echo", 1) == 1
            (side,) = channel.loops.values()
            plain = side._quick_request

            def filled_meanwhile(*call: Any) -> Any:
                """What another thread's call does where it finds the pen taken."""
                request = plain(*call)
                channel.outbox.put((plain(next(channel.connection.numbers), "echo", (3,)), ()))
                return request

            side._quick_request = filled_meanwhile
            async with asyncio.timeout(30):
                return await toy.acall("echo", 2)

        assert asyncio.run(main()) == 2
        assert toy.end.error is None
        assert toy.call("echo", 4) == 4


@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_tasks_of_a_closed_loop_are_collected_by_a_thread_that_leads(
    running: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with running() as toy:
        loop = asyncio.new_event_loop()
        gc.disable()
        try:
            tasks = [loop.create_task(toy.acall("sleep", 0.01)) for _ in range(2)]
            loop.call_soon(loop.call_soon, loop.call_soon, loop.stop)
            loop.run_forever()
            loop.close()
            assert toy.call("echo", 1) == 1  # what they wait for has been answered
            del tasks, loop
            toy.channel.lead()
            gc.collect()
            assert toy.channel._leads(), "the lead was taken from the thread that had it"
            toy.channel.go()
        finally:
            gc.enable()
        assert toy.call("echo", 2) == 2
        assert not toy.channel.connection.calls


@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("is_fed", [False, True])
def test_the_amap_of_a_closed_loop_is_collected_by_a_thread_that_leads(
    running: Any, is_fed: bool
) -> None:
    async def fed() -> Any:
        for n in range(1000):
            yield n

    async def some(results: Any) -> None:
        async for n in results:
            if n == 10:
                asyncio.get_running_loop().stop()
                await asyncio.sleep(0.01)

    with running() as toy:
        loop = asyncio.new_event_loop()
        gc.disable()
        try:
            results = toy.caller.amap("echo", [fed() if is_fed else range(1000)])
            task = loop.create_task(some(results))
            loop.run_forever()
            loop.close()
            assert toy.call("echo", 1) == 1
            toy.channel.lead()
            del task, results, loop
            gc.collect()
            assert toy.channel._leads(), "the lead was taken from the thread that had it"
            toy.channel.go()
        finally:
            gc.enable()
        assert toy.call("echo", 2) == 2


@pytest.mark.parametrize("is_fed", [False, True])
def test_amap_ends_where_the_child_dies_between_two_of_its_calls(
    running: Any, is_fed: bool
) -> None:
    async def fed() -> Any:
        for n in range(1000):
            yield n

    with running() as toy:

        async def main() -> None:
            items = fed() if is_fed else range(1000)
            async with asyncio.timeout(30):
                async for n in toy.caller.amap("echo", [items]):
                    if n == 10:
                        while toy.channel.connection.calls:  # noqa: ASYNC110
                            await asyncio.sleep(0)
                        os.kill(toy.process.pid, signal.SIGKILL)
                        while not toy.channel.is_lost:  # noqa: ASYNC110
                            await asyncio.sleep(0)

        with pytest.raises(ProcessExitedError):
            asyncio.run(main())

        async def first_step_after_that() -> None:
            async with asyncio.timeout(30):
                async for _ in toy.caller.amap("echo", [range(10)]):
                    pass

        with pytest.raises(ProcessExitedError):
            asyncio.run(first_step_after_that())


def test_amap_ends_though_its_items_pass_over_that_they_are_cancelled(running: Any) -> None:
    async def stubborn() -> Any:
        passed_over = False
        for n in count():
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError:
                if passed_over:
                    raise
                passed_over = True
            yield n

    with running() as toy:

        async def main() -> None:
            results = toy.caller.amap("echo", [stubborn()], toy.options(window=10**6))
            assert await anext(results) == 0
            await results.aclose()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            _, left = await asyncio.wait(others, timeout=5) if others else (None, None)
            assert not left
            assert not toy.channel.connection.calls

        asyncio.run(main())
