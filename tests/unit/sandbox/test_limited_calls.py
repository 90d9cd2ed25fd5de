"""So many calls of a plugin at once, so many that wait, and no more."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import anyio.lowlevel
import pytest
import trio

from plugkeep import (
    CallTimeoutError,
    ExecSandbox,
    NotStartedError,
    PluginBusyError,
    ProcessExitedError,
    RemoteError,
    isolate,
)
from plugkeep.channel.calling import Caller
from plugkeep.sandbox import Sandbox

METHODS = """
    @expose(threaded=True)
    def hold(self, path: str) -> str:
        current_call().progress("begun")
        with open(path) as file:          # a pipe: until somebody opens its other end
            file.read()
        return "held"

    @expose
    def echo(self, value: Any = None) -> Any:
        return value

    @expose
    async def count(self, number: int):
        for each in range(number):
            yield each

    @expose
    def fail(self) -> None:
        raise ValueError("no")

    @expose
    def crash(self) -> None:
        os._exit(3)

    @expose(threaded=True)
    def through(self, name: str, *args: Any) -> Any:
        return getattr(self.host, name)(*args)
"""

#: Seconds after which a test gives up. Nothing takes as long where nothing is wrong.
PATIENCE = 60.0


class Rig:
    """A plugin with limits, and calls of it that last as long as a test wants."""

    def __init__(self, sandbox: Sandbox, folder: Path) -> None:
        self.sandbox = sandbox
        self._folder = folder
        self._count = 0
        self.threads = ThreadPoolExecutor(16)

    @contextmanager
    def held(self) -> Iterator[Future[Any]]:
        """Have a call under way during the block, and take its end."""
        pipe = self._folder / f"pipe{self._count}"
        self._count += 1
        os.mkfifo(pipe)
        begun = threading.Event()
        view = self.sandbox.using(on_progress=lambda _: begun.set())
        future = self.threads.submit(view.call, "hold", str(pipe))
        assert begun.wait(PATIENCE)
        try:
            yield future
        finally:
            if self.sandbox.pid is not None:
                with pipe.open("w"):
                    pass
        assert future.result(PATIENCE) == "held"

    @property
    def turnstile(self) -> Any:
        return self.sandbox._entrance.turnstile

    def await_line(self, length: int) -> None:
        """Wait until so many calls are in line."""
        end = time.monotonic() + PATIENCE
        while len(self.turnstile.line) != length:
            assert time.monotonic() < end, f"there are {len(self.turnstile.line)} in line"
            time.sleep(0.001)

    def is_free(self) -> bool:
        """Whether no place is taken."""
        gate = self.turnstile
        return len(gate.inside) == gate.at_once and len(gate.seats) == gate.waiting


@pytest.fixture
def rig(isolated: Callable[..., Sandbox], tmp_path: Path) -> Iterator[Callable[..., Rig]]:
    """Return what makes and starts such a plugin with limits."""
    with ExitStack() as stack:

        def make(max_calls: int = 1, max_waiting: int | None = None, **options: Any) -> Rig:
            limits = {"max_calls": max_calls, "max_waiting": max_waiting}
            sandbox = isolated(METHODS, **limits, **options)
            made = Rig(sandbox, tmp_path)
            stack.enter_context(made.threads)
            stack.enter_context(sandbox)
            return made

        yield make


async def until_in_line(one: Rig, length: int) -> None:
    """Let the loop's other tasks have their turns until so many calls are in line."""
    while len(one.turnstile.line) != length:
        await anyio.lowlevel.checkpoint()


async def _all(values: Any) -> list[Any]:
    return [each async for each in values]


def _on_asyncio(function: Callable[[], Any]) -> Any:
    return asyncio.run(function())


def _on_trio(function: Callable[[], Any]) -> Any:
    return trio.run(function)


WAYS: dict[str, Callable[[Any], Any]] = {
    "call": lambda s: s.call("echo", 0),
    "acall, asyncio": lambda s: _on_asyncio(lambda: s.acall("echo", 0)),
    "acall, trio": lambda s: _on_trio(lambda: s.acall("echo", 0)),
    "stream": lambda s: list(s.stream("count", 1)),
    "astream, asyncio": lambda s: _on_asyncio(lambda: _all(s.astream("count", 1))),
    "astream, trio": lambda s: _on_trio(lambda: _all(s.astream("count", 1))),
    "map": lambda s: list(s.map("echo", [0])),
    "amap, asyncio": lambda s: _on_asyncio(lambda: _all(s.amap("echo", [0]))),
    "amap, trio": lambda s: _on_trio(lambda: _all(s.amap("echo", [0]))),
}


def test_without_limits_calls_go_where_they_always_went(isolated):
    with isolated(METHODS) as sandbox:
        assert type(sandbox._caller) is Caller
        assert sandbox._call == sandbox._caller.call


@pytest.mark.parametrize("way", WAYS)
def test_every_way_is_refused_at_once_when_it_is_full(rig, way):
    one = rig()
    call = WAYS[way]
    with one.held(), pytest.raises(PluginBusyError) as caught:
        call(one.sandbox)
    error = caught.value
    assert str(error) == (
        "plugin 'shop' is busy: 1 of its calls are under way (max_calls); call it again later, "
        "make fewer calls at once, or give it other limits"
    )
    assert (error.plugin, error.max_calls, error.max_waiting) == ("shop", 1, 0)
    assert call(one.sandbox) in (0, [0])
    assert one.is_free()


@pytest.mark.parametrize("way", WAYS)
def test_every_way_waits_for_its_turn(rig, way):
    one = rig(1, 1)
    with one.held():
        waiting = one.threads.submit(WAYS[way], one.sandbox)
        one.await_line(1)
        assert not waiting.done()
        with pytest.raises(PluginBusyError, match="and 1 wait"):
            one.sandbox.call("echo")
    assert waiting.result(PATIENCE) in (0, [0])
    assert one.is_free()


def test_an_error_makes_room_as_a_result_does(rig):
    one = rig()
    for _ in range(3):
        with pytest.raises(RemoteError, match="ValueError: no"):
            one.sandbox.call("fail")
        with pytest.raises(RemoteError, match="ValueError: no"):
            asyncio.run(one.sandbox.acall("fail"))
    assert one.is_free()


# --- what lasts -------------------------------------------------------------------------------


def test_a_stream_counts_until_it_is_over_closed_or_forgotten(rig):
    one = rig()
    sandbox = one.sandbox
    stream = sandbox.stream("count", 100)
    assert next(stream) == 0
    with pytest.raises(PluginBusyError):
        sandbox.call("echo")
    stream.close()
    assert sandbox.call("echo", 1) == 1

    stream = sandbox.stream("count", 100)
    with pytest.raises(PluginBusyError):
        sandbox.call("echo")
    del stream
    gc.collect()
    assert sandbox.call("echo", 1) == 1

    stream = sandbox.stream("count", 2)
    assert list(stream) == [0, 1]
    assert sandbox.call("echo", 1) == 1
    assert one.is_free()


def test_an_asynchronous_stream_counts_from_its_first_value_until_it_is_over(rig):
    one = rig()
    sandbox = one.sandbox

    async def main() -> None:
        stream = sandbox.astream("count", 100)
        assert await sandbox.acall("echo", 1) == 1
        assert await anext(stream) == 0
        with pytest.raises(PluginBusyError):
            await sandbox.acall("echo")
        await stream.aclose()
        assert await sandbox.acall("echo", 1) == 1
        stream = sandbox.astream("count", 100)
        assert await anext(stream) == 0
        del stream
        gc.collect()
        assert await sandbox.acall("echo", 1) == 1

    asyncio.run(main())
    assert one.is_free()
    trio.run(main)
    assert one.is_free()


def test_a_map_counts_as_one_call_from_its_first_result_to_its_end(rig):
    one = rig()
    sandbox = one.sandbox
    results = sandbox.map("echo", range(1000))
    assert sandbox.call("echo", 1) == 1
    assert next(results) == 0
    with pytest.raises(PluginBusyError):
        sandbox.call("echo")
    assert list(results) == list(range(1, 1000))
    assert sandbox.call("echo", 1) == 1
    results = sandbox.map("echo", range(1000))
    next(results)
    del results
    gc.collect()
    assert one.is_free()


# --- in line ----------------------------------------------------------------------------------


def test_threads_and_tasks_are_served_in_the_order_in_which_they_came(rig):
    one = rig(1, 20)
    sandbox, order = one.sandbox, []

    def call(number: int) -> None:
        order.append(sandbox.call("echo", number))

    async def acall(number: int) -> None:
        order.append(await sandbox.acall("echo", number))

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with one.held():
            waiting: list[Any] = []
            for number in range(0, 10, 2):
                waiting.append(loop.run_in_executor(one.threads, call, number))
                one.await_line(number + 1)
                waiting.append(asyncio.create_task(acall(number + 1)))
                await until_in_line(one, number + 2)
        await asyncio.gather(*waiting)

    asyncio.run(main())
    assert order == list(range(10))
    assert one.is_free()


@pytest.mark.parametrize("way", ["thread", "asyncio", "trio"])
def test_the_wait_for_its_turn_is_part_of_a_calls_time(rig, way):
    one = rig(1, 1)
    hasty = one.sandbox.using(timeout=0.05)
    ways: dict[str, Callable[[], Any]] = {
        "thread": lambda: hasty.call("echo"),
        "asyncio": lambda: asyncio.run(hasty.acall("echo")),
        "trio": lambda: trio.run(lambda: hasty.acall("echo")),
    }
    with one.held():
        with pytest.raises(CallTimeoutError, match="1 other calls of it were under way") as caught:
            ways[way]()
        assert caught.value.timeout == 0.05
        assert not one.turnstile.line
    assert one.sandbox.call("echo", 1) == 1
    assert one.is_free()


def test_what_is_left_of_its_time_is_what_the_call_gets(rig, tmp_path):
    one = rig(1, 1)
    pipe = tmp_path / "never"
    os.mkfifo(pipe)
    with one.held():
        late = one.threads.submit(one.sandbox.call, "hold", str(pipe), timeout=0.5)
        one.await_line(1)
    with pytest.raises(
        CallTimeoutError, match=r"within 0\.5 s: part of that it had to wait"
    ) as caught:
        late.result(PATIENCE)
    assert caught.value.timeout == 0.5
    with pipe.open("w"):  # or its thread there would wait for ever
        pass


@pytest.mark.parametrize("way", ["call", "stream"])
def test_a_task_that_is_cancelled_in_line_leaves_it(rig, way):
    one = rig(1, 1)

    async def run() -> Any:
        if way == "call":
            return await one.sandbox.acall("echo")
        return await _all(one.sandbox.astream("count", 1))

    async def with_asyncio() -> None:
        task = asyncio.create_task(run())
        await until_in_line(one, 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def with_trio() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await until_in_line(one, 1)
            nursery.cancel_scope.cancel()

    with one.held():
        asyncio.run(with_asyncio())
        assert not one.turnstile.line
        trio.run(with_trio)
        assert not one.turnstile.line
    assert one.is_free()


def test_a_loop_that_is_closed_with_calls_in_line_holds_nobody_up(rig):
    one = rig(1, 3)
    loop = asyncio.new_event_loop()
    with one.held():
        task = loop.create_task(one.sandbox.acall("echo"))
        loop.run_until_complete(until_in_line(one, 1))
        loop.close()
        waiting = one.threads.submit(one.sandbox.call, "echo", 5)
        one.await_line(2)
    assert waiting.result(PATIENCE) == 5
    task._log_destroy_pending = False
    del task
    gc.collect()
    assert one.is_free()


def test_ctrl_c_in_line_leaves_it(rig, until_asleep):
    one = rig(1, 1)

    def interrupt() -> None:
        one.await_line(1)
        until_asleep(os.getpid())
        os.kill(os.getpid(), signal.SIGINT)

    with one.held():
        interrupter = one.threads.submit(interrupt)
        with pytest.raises(KeyboardInterrupt):
            one.sandbox.call("echo")
        interrupter.result(PATIENCE)
        assert not one.turnstile.line
    assert one.is_free()


# --- calls within calls -----------------------------------------------------------------------


@pytest.mark.parametrize("way", ["call", "stream"])
def test_a_call_that_comes_back_to_the_plugin_does_not_wait_for_the_one_it_is_within(rig, way):
    boxes: list[Sandbox] = []
    ways: dict[str, Callable[[int], Any]] = {
        "call": lambda value: boxes[0].call("echo", value),
        "stream": lambda value: list(boxes[0].stream("count", value)),
    }
    one = rig(1, 0, grants={"again": lambda value: ways[way](value)})
    boxes.append(one.sandbox)
    assert one.sandbox.call("through", "again", 1) in (1, [1], [0])
    assert asyncio.run(one.sandbox.acall("through", "again", 1)) in (1, [1], [0])
    assert one.is_free()


@pytest.mark.parametrize("way", ["acall", "astream"])
def test_an_asynchronous_handler_calls_back_likewise(rig, way):
    boxes: list[Sandbox] = []
    ways: dict[str, Callable[[int], Any]] = {
        "acall": lambda value: boxes[0].acall("echo", value),
        "astream": lambda value: _all(boxes[0].astream("count", value)),
    }

    async def again(value: int) -> Any:
        return await ways[way](value)

    async def main() -> None:
        one = rig(1, 0, grants={"again": again})  # here, for it is to run on this loop
        boxes.append(one.sandbox)
        assert await one.sandbox.acall("through", "again", 1) in (1, [1], [0])
        assert one.is_free()

    asyncio.run(main())


@pytest.mark.parametrize("way", ["call", "acall", "map"])
def test_nor_does_one_that_comes_back_through_another_plugin(rig, tmp_path, way):
    (tmp_path / "other.py").write_text(
        "from plugkeep import expose\n"
        "class PluginFactory:\n"
        "    name = 'other'\n"
        "    host: object\n"
        "    def start(self): ...\n"
        "    def stop(self): ...\n"
        "    @expose(threaded=True)\n"
        "    def ask(self, value):\n"
        "        return self.host.shop(value)\n"
    )
    boxes: list[Sandbox] = []
    other = isolate(
        f"file:{tmp_path / 'other.py'}",
        grants={"shop": lambda value: boxes[0].call("echo", value)},
    )
    ways: dict[str, Callable[[int], Any]] = {
        "call": lambda value: other.call("ask", value),
        "acall": lambda value: asyncio.run(other.acall("ask", value)),
        "map": lambda value: next(other.map("ask", [value])),
    }
    with other:
        one = rig(1, 0, grants={"around": ways[way]})
        boxes.append(one.sandbox)
        assert one.sandbox.call("through", "around", 7) == 7
        # With others under way there no caller reads its own answers.
        with ThreadPoolExecutor(4) as threads:
            others = [threads.submit(other.call, "ask", 1) for _ in range(4)]
            for each in others:
                each.exception(PATIENCE)
        assert one.sandbox.call("through", "around", 7) == 7
        assert one.is_free()


# --- over its lives ---------------------------------------------------------------------------


def test_when_the_process_ends_those_in_line_fail_and_no_place_is_lost(rig):
    one = rig(1, 5)
    futures = []
    with pytest.raises(ProcessExitedError), one.held():
        for number in range(3):
            futures.append(one.threads.submit(one.sandbox.call, "echo", number))
            one.await_line(number + 1)
        os.kill(one.sandbox.pid or 0, signal.SIGKILL)
        for future in futures:
            assert isinstance(future.exception(PATIENCE), ProcessExitedError)
    with pytest.raises(ProcessExitedError):
        one.sandbox.stop()
    assert one.is_free()
    with pytest.raises(NotStartedError):
        one.sandbox.call("echo")
    one.sandbox.start()
    assert one.sandbox.call("echo", 1) == 1
    assert one.is_free()


def test_the_time_limit_may_be_changed_while_it_runs(rig):
    one = rig()
    one.sandbox.call_timeout = 30.0
    assert one.sandbox.call("echo", 1) == 1
    with one.held(), pytest.raises(PluginBusyError):
        one.sandbox.call("echo")


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"max_calls": 0}, "max_calls of plugin 'clock' is 0; it takes a whole number from 1 to"),
        ({"max_calls": True}, "max_calls of plugin 'clock' is True; it takes a whole number"),
        ({"max_calls": 1.5}, "is 1.5; it takes a whole number"),
        ({"max_calls": 1, "max_waiting": -1}, "max_waiting of plugin 'clock' is -1; it takes"),
        ({"max_waiting": 1}, "there is no max_calls: no call would wait"),
    ],
)
def test_what_is_no_limit_is_refused(limits, message):
    with pytest.raises((TypeError, ValueError), match=message):
        ExecSandbox("./clock", **limits)
    with pytest.raises((TypeError, ValueError), match=message):
        isolate(f"exec:{sys.executable}", name="clock", **limits)
