"""Many calls of an isolated plugin at once: in batches, each with an answer of its own."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from plugkeep.errors import (
    CallTimeoutError,
    InvalidArgumentsError,
    MethodNotFoundError,
    PluginError,
    RemoteError,
    UnsendableValueError,
)

METHODS = """
@expose
def echo(self, value): return value
@expose
def double(self, number: int) -> int: return number * 2
@expose
def half(self, value): return "\\ud800" if value == 3 else "no surrogate"
@expose(threaded=True)
def thread(self, value): return [value, "thread"]
@expose
async def loop(self, value): return [value, "loop"]
@expose
def refuse(self, value):
    if value == 20: raise ValueError(f"not {value}")
    return value
@expose
def left(self): return __import__("plugkeep").current_call().remaining
@expose
def sleep(self, seconds): __import__("time").sleep(seconds)
@expose
def count(self):
    self.counted = getattr(self, "counted", 0) + 1
    return self.counted
@expose
async def out_of_turn(self, value):
    if value % 7 == 0: await __import__("asyncio").sleep(0.02)
    return str(value) * 1000
@expose
def current(self, value): return __import__("plugkeep").current_call().name
"""


@pytest.fixture(params=[2, 1])
def plugin(request: pytest.FixtureRequest, isolated: Any) -> Any:
    with isolated(METHODS, wire=request.param) as sandbox:
        yield sandbox


@pytest.mark.parametrize("method", ["thread", "loop"])
def test_methods_that_run_elsewhere(plugin: Any, method: str) -> None:
    assert list(plugin.map(method, range(200))) == [[n, method] for n in range(200)]


def test_answers_out_of_turn_take_theirs_in_order(plugin: Any) -> None:
    expected = [str(n) * 1000 for n in range(200)]
    assert list(plugin.using(timeout=30).map("out_of_turn", range(200))) == expected

    async def collect() -> list[str]:
        return [each async for each in plugin.using(timeout=30).amap("out_of_turn", range(200))]

    assert asyncio.run(collect()) == expected


@pytest.mark.parametrize("is_fed", [False, True])
def test_an_item_that_cannot_travel_ends_an_amap_at_its_place(plugin: Any, is_fed: bool) -> None:
    items: Any = [1, 2, object(), 4]

    async def fed() -> AsyncIterator[Any]:
        for each in items:
            yield each

    async def collect() -> list[Any]:
        got = []
        with pytest.raises(UnsendableValueError):
            async for each in plugin.amap("echo", fed() if is_fed else items):
                got.append(each)  # what came before the error counts
        return got

    assert asyncio.run(collect()) == [1, 2]


def test_results_that_cannot_travel_fail_alone(plugin: Any) -> None:
    halves = plugin.map("half", [0, 1, 2, 3, 4, 5, 6])
    assert [next(halves) for _ in range(3)] == ["no surrogate"] * 3
    with pytest.raises(PluginError, match="the result is a text with half a character"):
        next(halves)
    with pytest.raises(StopIteration):
        next(halves)
    assert plugin.call("echo", "still there") == "still there"


def test_arguments_that_cannot_travel_fail_alone(plugin: Any) -> None:
    taken = []
    with pytest.raises(PluginError, match=r"argument 1 of 'echo' is a text with half"):
        for value in plugin.map("echo", ["a", "b", "\ud800", "c"]):
            taken.append(value)
    assert taken == ["a", "b"]


def test_arguments_that_do_not_fit_fail_alone(plugin: Any) -> None:
    taken = []
    with pytest.raises(InvalidArgumentsError, match="number"):
        for value in plugin.map("double", [1, 2, "three", 4]):
            taken.append(value)
    assert taken == [2, 4]


def test_what_a_method_raises_ends_a_map_at_its_place(plugin: Any) -> None:
    taken = []
    with pytest.raises(RemoteError, match="not 20"):
        for value in plugin.map("refuse", range(100)):
            taken.append(value)
    assert taken == list(range(20))


def test_each_call_knows_itself(plugin: Any) -> None:
    assert set(plugin.map("current", range(100))) == {"current"}


def test_maps_calls_and_tasks_side_by_side(plugin: Any) -> None:
    async def tasks() -> list[Any]:
        return await asyncio.gather(*(plugin.acall("echo", n) for n in range(300)))

    with ThreadPoolExecutor(4) as pool:
        work = [
            pool.submit(lambda: list(plugin.map("echo", range(3000)))),
            pool.submit(lambda: list(plugin.map("double", range(3000)))),
            pool.submit(lambda: [plugin.call("echo", n) for n in range(300)]),
            pool.submit(lambda: asyncio.run(tasks())),
        ]
        results = [each.result(60) for each in work]
    assert results[0] == list(range(3000))
    assert results[1] == [2 * n for n in range(3000)]
    assert results[2] == results[3] == list(range(300))


def test_large_and_small_items_mixed(plugin: Any) -> None:
    items = ["x" * (70_000 if n % 7 == 0 else n) for n in range(200)]
    assert list(plugin.map("echo", items)) == items


@pytest.mark.parametrize("window", [1, 2, 3, 1000])
def test_any_window(plugin: Any, window: int) -> None:
    assert list(plugin.using(window=window).map("echo", range(2500))) == list(range(2500))


def test_one_task_that_calls_and_calls_leaves_others_their_turn(plugin: Any) -> None:
    async def main() -> int:
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        beside = asyncio.create_task(other())
        for n in range(1000):
            assert await plugin.acall("echo", n) == n
        beside.cancel()
        return turns

    assert asyncio.run(main()) >= 30


def test_time_limits_travel_with_every_kind_of_call(plugin: Any) -> None:
    async def tasks(count: int) -> list[float]:
        return await asyncio.gather(*(plugin.acall("left", timeout=50) for _ in range(count)))

    left = [
        plugin.call("left", timeout=50),
        plugin.using(timeout=50).call("left"),
        *asyncio.run(tasks(1)),
        *asyncio.run(tasks(100)),
    ]
    assert all(20 < each <= 50 for each in left), left
    assert plugin.call("left") is None
    assert asyncio.run(plugin.acall("left")) is None


def test_more_calls_under_way_than_a_message_may_hold(plugin: Any) -> None:
    assert list(plugin.using(window=100_000).map("echo", range(70_000))) == list(range(70_000))


def test_a_view_heeds_what_changes_in_what_it_is_a_view_of(plugin: Any) -> None:
    view = plugin.using(buffers="memoryview")
    assert view.call("left") is None
    plugin.call_timeout = 60
    assert 0 < view.call("left") <= 60


def test_what_is_no_time_limit(plugin: Any) -> None:
    assert plugin.call("left", timeout=math.inf) is None
    assert plugin.using(timeout=math.inf).call("left") is None
    assert plugin.using(timeout=50).call("left", timeout=math.inf) is None
    for wrong, error in (
        ("x", TypeError),
        (True, TypeError),
        (math.nan, ValueError),
    ):
        with pytest.raises(error, match="timeout is"):
            plugin.call("left", timeout=wrong)
    for nothing in (0, 0.0, -1, -math.inf):
        with pytest.raises(CallTimeoutError):
            plugin.call("left", timeout=nothing)


def test_a_limit_that_has_passed_while_others_were_served(plugin: Any) -> None:
    async def main() -> list[Any]:
        first = [asyncio.create_task(plugin.acall("sleep", 0.02)) for _ in range(4)]
        late = [asyncio.create_task(plugin.acall("count", timeout=0.01)) for _ in range(20)]
        results = await asyncio.gather(*late, return_exceptions=True)
        await asyncio.gather(*first)
        return results

    assert {type(each) for each in asyncio.run(main())} == {CallTimeoutError}
    assert plugin.call("count") == 1, "none of those whose time was up has run"


@pytest.mark.parametrize("name", ["$/stop", "$/start", "$/ping", "$/"])
def test_what_is_the_wires_own_is_not_to_be_called(plugin: Any, name: str) -> None:
    async def awaited() -> None:
        await plugin.acall(name)

    async def all_of(values: Any) -> list[Any]:
        return [each async for each in values()]

    for attempt in (
        lambda: plugin.call(name),
        lambda: plugin.call(name, timeout=5),
        lambda: list(plugin.stream(name)),
        lambda: list(plugin.map(name, [1])),
        lambda: asyncio.run(awaited()),
        lambda: asyncio.run(all_of(lambda: plugin.astream(name))),
        lambda: asyncio.run(all_of(lambda: plugin.amap(name, [1]))),
    ):
        with pytest.raises(MethodNotFoundError, match=r"\$/"):
            attempt()
    assert plugin.call("echo", 1) == 1
