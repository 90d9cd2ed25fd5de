"""Large data between a host and a plugin in a process of its own, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from plugkeep import CallTimeoutError, InvalidArgumentsError, ProcessExitedError, isolate
from plugkeep.wire.sending import INLINE, MEMORY
from plugkeep.wire.values import APART

MIB = 1024 * 1024
#: Seconds that nothing here comes near, unless it hangs.
PATIENCE = 60.0
#: Around each size from which on buffers travel in another way.
SIZES = [0, 1, APART - 1, APART, INLINE - 1, INLINE, MIB, MEMORY - 1, MEMORY, MEMORY + 7]

PLUGIN = """
import os, threading, time
import plugkeep

class PluginFactory:
    name = "big"
    def start(self): self.kept = []
    def stop(self): ...

    @plugkeep.expose
    def echo(self, data):
        return data

    @plugkeep.expose
    def echo_view(self, data: memoryview) -> memoryview:
        return data

    @plugkeep.expose(threaded=True)
    def echo_threaded(self, data: memoryview) -> memoryview:
        return data

    @plugkeep.expose
    async def echo_async(self, data: memoryview) -> memoryview:
        return data

    @plugkeep.expose
    def total(self, parts: list) -> int:
        return sum(map(len, parts))

    @plugkeep.expose
    def made(self, size: int, count: int) -> list:
        return [bytes([i % 256]) * size for i in range(count)]

    @plugkeep.expose
    def chunks(self, size: int, count: int):
        buffer = bytearray(size)          # used again for every chunk
        for i in range(count):
            buffer[0] = buffer[-1] = i % 256
            yield buffer

    @plugkeep.expose
    def views(self, size: int, count: int):
        for i in range(count):
            yield memoryview(bytes(size))

    @plugkeep.expose
    def resident(self) -> int:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096

    @plugkeep.expose
    def open_descriptors(self) -> int:
        return len(os.listdir("/proc/self/fd"))

    @plugkeep.expose
    def limit_descriptors(self, more: int) -> None:
        import resource
        lowest = os.dup(0)
        os.close(lowest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + more, resource.getrlimit(7)[1]))

    @plugkeep.expose
    def limit_file_size(self, size: int) -> None:
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    @plugkeep.expose
    def ping(self) -> str:
        return "pong"
"""


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[Any]:
    path = tmp_path / "big.py"
    path.write_text(PLUGIN)
    with isolate(f"file:{path}", isolation="process", stop_timeout=PATIENCE) as sandbox:
        yield sandbox


def all_in_threads(*functions: Callable[[], object]) -> list[Any]:
    """Call all at the same time; return what they return."""
    with ThreadPoolExecutor(len(functions)) as pool:
        return [future.result(PATIENCE) for future in [pool.submit(each) for each in functions]]


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for something that no descriptor tells of."""
    done, limit = threading.Event(), time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < limit, "it did not come to that"
        done.wait(0.005)


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_every_size_arrives_in_the_form_that_is_asked_for(plugin: Any, kind: type) -> None:
    views = plugin.using(buffers="memoryview")
    for size in SIZES:
        data = os.urandom(size)
        found = plugin.call("echo", kind(data))
        assert type(found) is bytes, size
        assert found == data, size
        view = views.call("echo_view", kind(data))
        assert type(view) is memoryview, size
        assert view.readonly, size
        assert view == data, size


@pytest.mark.parametrize("method", ["echo_threaded", "echo_async"])
def test_methods_of_all_kinds_take_and_give_large_data(plugin: Any, method: str) -> None:
    for size in (MIB, 40 * MIB):
        data = os.urandom(size)
        assert plugin.call(method, data) == data


def test_as_many_buffers_as_a_message_may_have(plugin: Any) -> None:
    assert plugin.call("total", [bytes(40_000)] * 1024) == 1024 * 40_000
    parts = plugin.call("made", 40_000, 1024)
    assert [part[0] for part in parts] == [i % 256 for i in range(1024)]
    assert {len(part) for part in parts} == {40_000}


def test_both_ends_send_at_the_same_time(plugin: Any) -> None:
    data = os.urandom(64 * MIB)
    found = all_in_threads(*[lambda: plugin.call("echo_threaded", data)] * 4)
    assert all(each == data for each in found)


def test_threads_and_tasks_send_at_the_same_time(plugin: Any) -> None:
    large, small = os.urandom(10 * MIB), os.urandom(40_000)

    async def tasks() -> list[Any]:
        calls = [plugin.acall("echo_async", large), plugin.acall("echo_threaded", small)] * 3
        return await asyncio.gather(*calls)

    found = all_in_threads(
        lambda: asyncio.run(tasks()),
        *[lambda: plugin.call("echo", large)] * 3,
        *[lambda: plugin.call("echo", small)] * 3,
    )
    assert found[0] == [large, small] * 3
    assert found[1:] == [large] * 3 + [small] * 3


def test_the_event_loop_goes_on_while_large_data_passes(plugin: Any) -> None:
    data = os.urandom(64 * MIB)
    views = plugin.using(buffers="memoryview")

    async def turns_during_a_call() -> int:
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        counting = asyncio.create_task(count())
        assert (await views.acall("echo_view", data)) == data
        counting.cancel()
        return turns

    # Had it waited anywhere for the whole of it, there would have been two or three.
    assert asyncio.run(turns_during_a_call()) > 20


# --- ends of all kinds ------------------------------------------------------------------------


@pytest.mark.parametrize("size", [20 * MIB, 64 * MIB])
def test_a_plugin_killed_in_the_middle_of_a_transfer_fails_the_call(plugin: Any, size: int) -> None:
    pid = plugin.pid
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: state_of(pid) == "T")
    data = os.urandom(size)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(plugin.call, "echo", data)
        with pytest.raises(TimeoutError):
            call.result(0.05)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(ProcessExitedError, match="SIGKILL"):
            call.result(PATIENCE)
    with pytest.raises(ProcessExitedError):
        plugin.stop()
    plugin.start()
    assert plugin.call("echo", data) == data


def test_a_deadline_in_the_middle_of_a_buffer_leaves_the_wire_in_step(plugin: Any) -> None:
    pid = plugin.pid
    data = os.urandom(20 * MIB)
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: state_of(pid) == "T")
    with pytest.raises(CallTimeoutError):
        plugin.call("echo", data, timeout=0.1)
    os.kill(pid, signal.SIGCONT)
    assert plugin.call("ping", timeout=PATIENCE) == "pong"
    assert plugin.call("echo", data) == data


def test_an_answer_that_is_not_waited_for_any_more_is_passed_over(plugin: Any) -> None:
    data = os.urandom(20 * MIB)
    for seconds in (0.001, 0.003, 0.005, 0.008, 0.012, 0.02, 0.03):
        with suppress(CallTimeoutError):
            assert plugin.call("echo", data, timeout=seconds) == data
        assert plugin.call("ping") == "pong"


def test_the_plugin_ends_while_nobody_takes_its_answer(plugin: Any) -> None:
    with pytest.raises(CallTimeoutError):
        plugin.call("made", 40 * MIB, 20, timeout=0.01)
    plugin.stop()
    assert plugin.pid is None
    plugin.start()


# --- memory -----------------------------------------------------------------------------------


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_slow_consumer_of_a_stream_makes_memory_grow_nowhere(plugin: Any) -> None:
    before = plugin.call("resident"), resident()
    with plugin.using(buffers="memoryview").stream("views", MIB, 500) as stream:
        for index, chunk in enumerate(stream):
            assert len(chunk) == MIB
            if index % 100 == 0:
                grown = plugin.call("resident") - before[0], resident() - before[1]
                assert max(grown) < 200 * MIB, f"after {index} chunks"


def test_a_generator_may_use_its_buffer_again(plugin: Any) -> None:
    for size in (20_000, 40_000, MIB, 33 * MIB):
        count = 100 if size <= MIB else 5
        chunks = list(plugin.stream("chunks", size, count))
        assert [(chunk[0], chunk[-1]) for chunk in chunks] == [(i, i) for i in range(count)], size


def test_what_is_mapped_is_not_copied(plugin: Any) -> None:
    views = plugin.using(buffers="memoryview")
    data = os.urandom(128 * MIB)
    views.call("echo_view", data)
    before = resident()
    found = views.call("echo_view", data)
    assert resident() - before < 32 * MIB
    assert found[-1] == data[-1]


def test_nothing_stays_open_and_no_memory_stays_taken(plugin: Any) -> None:
    views = plugin.using(buffers="memoryview")
    data = os.urandom(40 * MIB)
    kept = [views.call("echo_view", data) for _ in range(3)]
    ours, theirs, memory = open_descriptors(), plugin.call("open_descriptors"), resident()
    for _ in range(5):
        kept.append(views.call("echo_view", data))
        kept.pop(0)
    assert open_descriptors() == ours
    assert plugin.call("open_descriptors") == theirs
    assert resident() - memory < 20 * MIB


# --- limits -----------------------------------------------------------------------------------


def test_a_plugin_without_a_descriptor_to_spare_takes_large_data_all_the_same(plugin: Any) -> None:
    data = os.urandom(40 * MIB)
    plugin.call("limit_descriptors", 0)
    with pytest.raises(InvalidArgumentsError, match="no more descriptors"):
        plugin.call("echo", data)
    assert plugin.call("ping") == "pong"
    # It answers by the socket where it can have no memory file.
    assert len(plugin.call("made", 40 * MIB, 1)[0]) == 40 * MIB


def test_a_plugin_that_may_not_write_large_files_sends_large_data_all_the_same(plugin: Any) -> None:
    plugin.call("limit_file_size", MIB)
    data = os.urandom(40 * MIB)
    assert plugin.call("echo", data) == data
