"""Calling from threads."""

from __future__ import annotations

import gc
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count, islice
from typing import Any

import pytest

from plugkeep.errors import (
    CallCancelledError,
    CallTimeoutError,
    InvalidArgumentsError,
    MethodNotFoundError,
    NotGrantedError,
    NotStartedError,
    PluginBusyError,
    ProtocolViolationError,
    ReentryLimitError,
    RemoteError,
    UnsendableValueError,
)


def test_a_call_returns_what_is_answered(toy: Any) -> None:
    for value in (1, "x", [1, [2]], {"a": None}, None, 1.5, "ü" * 10_000):
        assert toy.call("echo", value) == value
    assert toy.call("echo", 1, 2) == [1, 2]
    assert not toy.channel.connection.calls


def test_an_error_names_plugin_and_method_and_has_what_the_plugin_said(toy: Any) -> None:
    with pytest.raises(
        RemoteError, match="plugin 'toy', method 'fail' raised ValueError"
    ) as caught:
        toy.call("fail")
    error = caught.value
    assert (error.type, error.remote_message, error.plugin) == ("ValueError", "went wrong", "toy")
    assert error.traceback == "Traceback: here"
    assert toy.call("echo", 1) == 1


CODES = {
    -32602: InvalidArgumentsError,
    -32800: CallCancelledError,
    -32001: CallTimeoutError,
    -32002: UnsendableValueError,
    -32003: NotGrantedError,
    -32004: ReentryLimitError,
    -32005: PluginBusyError,
    -32006: NotStartedError,
    -32603: RemoteError,
    12345: RemoteError,
}


@pytest.mark.parametrize("code", CODES)
def test_each_code_is_an_error_of_its_own(code: int, toy: Any) -> None:
    with pytest.raises(CODES[code], match=r"'toy'.*'fail'.*went wrong") as caught:
        toy.call("fail", code)
    assert type(caught.value) is CODES[code]


def test_an_unknown_method_names_near_misses(toy: Any) -> None:
    with pytest.raises(MethodNotFoundError, match="no method 'ecko'; did you mean 'echo'"):
        toy.call("ecko")


def test_what_cannot_travel_names_plugin_and_argument_and_sends_nothing(toy: Any) -> None:
    with pytest.raises(UnsendableValueError, match="plugin 'toy': argument 2 of 'echo'"):
        toy.call("echo", 1, object())
    assert not toy.channel.connection.calls
    assert toy.call("echo", 1) == 1


def test_a_call_that_takes_too_long_is_cancelled(toy: Any) -> None:
    with pytest.raises(CallTimeoutError, match=r"plugin 'toy': 'hold' was not.*0.02 s") as caught:
        toy.call("hold", timeout=0.02)
    assert caught.value.timeout == 0.02
    assert toy.call("cancelled") == 1
    assert not toy.channel.connection.calls


@pytest.mark.parametrize("timeout", [0, 0.0001, 30, float("inf"), 1e300])
def test_any_timeout_will_do(timeout: float, toy: Any) -> None:
    try:
        assert toy.call("echo", 1, timeout=timeout) == 1
    except CallTimeoutError:
        assert timeout < 1
    assert toy.call("echo", 2) == 2


def test_progress_is_told_on_the_callers_thread_and_an_error_there_ends_the_call(toy: Any) -> None:
    seen: list[tuple[int, int]] = []
    done = toy.call(
        "progress", 5, on_progress=lambda step: seen.append((step, threading.get_ident()))
    )
    assert done == "done"
    assert seen == [(step, threading.get_ident()) for step in range(5)]

    def stop(_: object) -> None:
        raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        toy.call("progress", 3, on_progress=stop)
    assert toy.call("echo", 1) == 1


def test_many_threads_each_get_their_own_answers(toy: Any) -> None:
    def work(thread: int) -> bool:
        return all(toy.call("echo", [thread, n]) == [thread, n] for n in range(300))

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(work, range(16)))
    assert not toy.channel.connection.calls
    assert not toy.channel._followers


def test_a_thread_that_waits_long_does_not_keep_others_waiting(toy: Any) -> None:
    with ThreadPoolExecutor(3) as pool:
        held = [pool.submit(toy.call, "hold") for _ in range(3)]
        while toy.call("echo", 1) and len(toy.channel.connection.calls) < 3:
            pass
        assert [toy.call("echo", n) for n in range(100)] == list(range(100))
        assert toy.call("release") == 3
        assert [each.result(30) for each in held] == ["released"] * 3


def test_large_messages_both_ways_at_once_from_several_threads(toy: Any) -> None:
    large = "y" * 3_000_000
    with ThreadPoolExecutor(4) as pool:
        echoes = [pool.submit(toy.call, "echo", large + str(n)) for n in range(8)]
        assert [each.result(60) for each in echoes] == [large + str(n) for n in range(8)]
    assert toy.call("large", 5_000_000) == "x" * 5_000_000


def test_what_is_answered_twice_or_to_nobody_is_dropped_and_noted(toy: Any) -> None:
    assert toy.call("twice") == "once"
    assert toy.call("stray") == "sent"
    assert toy.call("echo", 1) == 1
    assert [what for what, _ in toy.end.told] == ["dropped"] * 2
    assert "999999" in toy.end.told[1][1]


def test_logs_come_while_nobody_calls(toy: Any) -> None:
    come = threading.Event()
    toy.end.on_log = lambda log: come.set() if log.message == "4" else None
    sender = threading.Thread(target=toy.call, args=("log", 5))
    sender.start()
    assert come.wait(30), "no log has come"
    sender.join()


def test_who_logs_may_call_from_inside(toy: Any) -> None:
    got: list[Any] = []
    toy.end.on_log = lambda log: got.append(toy.call("echo", log.message))
    assert toy.call("log", 3) == 3
    assert sorted(got) == ["0", "1", "2"]


# --- streams ----------------------------------------------------------------------------------


def stream(toy: Any, method: str, *args: Any, **options: Any) -> Any:
    return toy.stream(method, args, {}, toy.options(**options))


@pytest.mark.parametrize("window", [1, 2, 3, 64, 5000])
def test_a_stream_gives_all_values_in_order_and_then_what_was_returned(
    window: int, toy: Any
) -> None:
    counted = stream(toy, "count", 1000, window=window)
    assert list(counted) == list(range(1000))
    assert counted.result == "counted"
    assert list(counted) == []
    assert not toy.channel.connection.calls


def test_a_slow_consumer_holds_the_other_end_back(toy: Any) -> None:
    counted = stream(toy, "count", 10**9, window=8)
    assert [next(counted) for _ in range(3)] == [0, 1, 2]
    assert toy.call("chunks") == 8
    assert next(counted) == 3  # half a window is taken: as many more are allowed
    assert toy.call("chunks") == 12
    assert len(counted._waiter.chunks) <= 8
    counted.close()
    assert toy.call("cancelled") == 1


def test_leaving_a_stream_cancels_it(toy: Any) -> None:
    with stream(toy, "count", 10**9) as counted:
        assert next(counted) == 0
    assert list(counted) == []
    assert toy.call("cancelled") == 1
    assert not toy.channel.connection.calls


def test_a_forgotten_stream_is_cancelled(toy: Any) -> None:
    counted = stream(toy, "count", 10**9)
    assert next(counted) == 0
    del counted
    gc.collect()
    deadline = time.monotonic() + 30
    while toy.call("cancelled") == 0:
        assert time.monotonic() < deadline, "it was never cancelled"
    assert not toy.channel.connection.calls


def test_a_stream_that_fails_raises_at_its_place(toy: Any) -> None:
    failing = stream(toy, "fail")
    with pytest.raises(RemoteError, match="went wrong"):
        next(failing)
    assert list(failing) == []
    waiting = stream(toy, "hold", timeout=0.02)
    with pytest.raises(CallTimeoutError, match="plugin 'toy'"):
        next(waiting)
    assert toy.call("cancelled") == 1


def test_more_values_than_were_asked_for_cut_the_other_end_off(toy: Any) -> None:
    with pytest.raises(ProtocolViolationError, match="without credit"):
        list(stream(toy, "greedy", 100, window=3))
    assert toy.process.wait(30) == -9
    with pytest.raises(ProtocolViolationError):
        toy.call("echo", 1)


def test_several_streams_and_calls_at_once(toy: Any) -> None:
    def work(n: int) -> bool:
        return list(stream(toy, "count", 300 + n, window=7)) == list(range(300 + n))

    with ThreadPoolExecutor(6) as pool:
        results = [pool.submit(work, n) for n in range(12)]
        assert [toy.call("echo", n) for n in range(200)] == list(range(200))
        assert all(each.result(60) for each in results)


def test_a_window_is_at_least_one(toy: Any) -> None:
    with pytest.raises(ValueError, match="window is 0"):
        stream(toy, "count", 1, window=0)
    with pytest.raises(ValueError, match="window is 0"):
        toy.caller.map("echo", [[1]], toy.options(window=0))


# --- map --------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [1, 2, 5, 64])
def test_map_gives_results_in_order(window: int, toy: Any) -> None:
    options = toy.options(window=window)
    assert list(toy.caller.map("echo", [range(500)], options)) == list(range(500))
    assert list(toy.caller.map("echo", ["ab", (1, 2, 3)])) == [["a", 1], ["b", 2]]
    assert list(toy.caller.map("echo", [[]])) == []
    assert not toy.channel.connection.calls


def test_map_takes_no_more_than_two_windows_ahead(toy: Any) -> None:
    taken = count()
    results = toy.caller.map("echo", [taken], toy.options(window=10))
    assert list(islice(results, 25)) == list(range(25))
    assert next(taken) <= 45
    del results  # and with them goes what is under way
    assert toy.call("echo", 1) == 1


def test_an_error_comes_at_its_place_and_cancels_the_rest(toy: Any) -> None:
    got = []
    with pytest.raises(RemoteError, match="'fail_at'"):
        for value in toy.caller.map("fail_at", [range(50), [7] * 50]):
            got.append(value)
    assert got == list(range(7))
    assert toy.call("echo", 1) == 1


def test_what_the_items_raise_comes_after_the_results_before_it(toy: Any) -> None:
    def items() -> Any:
        yield from range(5)
        raise LookupError("no more")

    got = []
    with pytest.raises(LookupError, match="no more"):
        for value in toy.caller.map("echo", [items()]):
            got.append(value)
    assert got == list(range(5))
    got.clear()
    with pytest.raises(UnsendableValueError, match="plugin 'toy': argument 1"):
        for value in toy.caller.map("echo", [[1, 2, object(), 3]]):
            got.append(value)
    assert got == [1, 2]


def test_maps_of_several_threads_and_large_items(toy: Any) -> None:
    def work(n: int) -> bool:
        items = [f"{n}-{i}" + "x" * 5000 for i in range(200)]
        return list(toy.caller.map("echo", [items])) == items

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(8)))


def test_map_waits_for_each_result_as_long_as_it_may(toy: Any) -> None:
    with pytest.raises(CallTimeoutError, match="plugin 'toy': 'hold'"):
        list(toy.caller.map("hold", [range(3)], toy.options(timeout=0.02)))
    deadline = time.monotonic() + 30
    while toy.call("cancelled") < 3:
        assert time.monotonic() < deadline, "not all were cancelled"
