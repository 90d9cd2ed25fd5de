"""What a plugin in a child may call of its host: by name, and nothing else."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
import trio
import trio.lowlevel

from plugkeep import current_call, expose
from plugkeep.errors import (
    CallTimeoutError,
    ConfigError,
    ProcessExitedError,
    RemoteError,
)

#: A plugin that calls whatever it is told to.
CALLING = """
@expose
def ask(self, what, *args, **kwargs):
    return self.host.call(what, *args, **kwargs)

@expose
def ask_within(self, seconds, what, *args):
    return self.host.call(what, *args, timeout=seconds)

@expose
def sum_of(self, what, *args, first=None):
    values = self.host.stream(what, *args)
    if first is None:
        return sum(values)
    with values:
        return sum(next(values) for _ in range(first))

@expose
async def ask_all(self, what, items):
    return await asyncio.gather(*(self.host.acall(what, each) for each in items))

@expose
def ask_by_map(self, what, item): return next(self.host.map(what, [item]))

@expose
async def ask_by_amap(self, what, item):
    return [each async for each in self.host.amap(what, [item])][0]

@expose
def take_one(self, what):
    results = self.host.map(what, [0, 1])
    first = next(results)
    __import__("time").sleep(0.2)  # busy, while the host calls on behalf of the other
    return first

@expose
def echo(self, value): return value

@expose
def granted(self): return list(self.host)
"""


@dataclass
class Book:
    title: str
    pages: int


class Library:
    """Something in the host."""

    def __init__(self) -> None:
        self.closed = threading.Event()
        self.begun, self.cancelled = threading.Event(), threading.Event()

    @expose
    def read(self, book: Book, *, times: int = 1) -> str:
        assert isinstance(book, Book)
        return book.title * times

    @expose
    def fail(self) -> None:
        raise LookupError("no such book")

    @expose
    def pages(self, count: int) -> Iterator[int]:
        try:
            yield from range(count)
        finally:
            self.closed.set()

    @expose
    def remaining(self) -> float | None:
        return current_call().remaining

    @expose
    def wait(self, *_: int) -> None:
        self.begun.set()
        while not current_call().cancelled:
            self.cancelled.wait(0.01)
        self.cancelled.set()
        current_call().check()

    def secret(self) -> None:
        raise AssertionError("this is not exposed")


def test_objects_functions_and_sandboxes_are_granted(isolated: Any) -> None:
    with isolated(CALLING, name="other") as other:
        grants = {"library": Library(), "double": lambda x: 2 * x, "other": other, "a.b": abs}
        with isolated(CALLING, grants=grants) as sandbox:
            assert sandbox.call("granted") == ["library", "double", "other", "a.b"]
            assert sandbox.call("ask", "double", 21) == 42
            assert sandbox.call("ask", "a.b", -3) == 3
            book = {"title": "tea", "pages": 3}
            assert sandbox.call("ask", "library.read", book, times=2) == "teatea"
            assert sandbox.call("ask", "other.echo", [1, {"b": None}]) == [1, {"b": None}]
            assert sandbox.call("sum_of", "library.pages", 1000) == 499_500


@pytest.mark.parametrize(
    ("what", "args", "kind", "told"),
    [
        ("gone", [], "NotGrantedError", "'gone' is not granted to this plugin; granted are 'lib"),
        ("librar.read", [], "NotGrantedError", "'librar.read' is not granted"),
        ("library.raed", [], "MethodNotFoundError", "read"),
        ("library.secret", [], "MethodNotFoundError", "secret"),
        ("library.__init__", [], "MethodNotFoundError", "__init__"),
        ("librar.read", [], "NotGrantedError", "did you mean 'library'"),
        ("doubel", [1], "NotGrantedError", "did you mean 'double'"),
        ("nothing", [], "NotGrantedError", "granted are 'library', 'double'"),
        ("library", [], "MethodNotFoundError", "only its methods can be called; there are: read"),
        ("double.y", [1], "MethodNotFoundError", "'y'; it is a function, to be called itself"),
        ("double.x", [1], "MethodNotFoundError", "'x'"),
        ("double", [], "InvalidArgumentsError", "x"),
        ("library.read", [{"title": 5, "pages": 1}], "InvalidArgumentsError", "book"),
        ("library.fail", [], "RemoteError", "no such book"),
        ("library.pages", [3], "InvalidArgumentsError", "a stream"),
    ],
)
def test_what_does_not_go_is_told(
    isolated: Any, what: str, args: list[Any], kind: str, told: str
) -> None:
    grants = {"library": Library(), "double": lambda x: 2 * x}
    with isolated(CALLING, grants=grants) as sandbox:
        with pytest.raises(RemoteError, match=told) as caught:
            sandbox.call("ask", what, *args)
        assert caught.value.type == f"plugkeep.errors.{kind}"
        assert sandbox.call("echo", 1) == 1


ASKING = """
@expose
def ask(self, way, what):
    return list(getattr(self.host, way)(what, *[[1]] * (way == "map")))

@expose
async def aask(self, way, what):
    return [each async for each in getattr(self.host, way)(what, *[[1]] * (way == "amap"))]
"""


@pytest.mark.parametrize("way", ["stream", "map", "astream", "amap"])
def test_it_is_told_of_the_host_and_not_of_a_plugin(isolated: Any, way: str) -> None:
    ask = "aask" if way.startswith("a") else "ask"
    with isolated(ASKING, grants={"library": Library()}) as sandbox:
        for what, told in (
            ("librar", "'host.librar': 'librar' is not granted .* mean 'library'"),
            ("library.paegs", "'host.library.paegs': there is no method 'paegs'.* mean 'pages'"),
        ):
            with pytest.raises(RemoteError, match=told) as caught:
                sandbox.call(ask, way, what)
            assert "plugin 'host'" not in str(caught.value)


TYPED = """
@expose
def typed(self):
    from typing import Protocol
    global Iterator  # where an annotation finds it
    from collections.abc import Iterator
    class Library(Protocol):
        def read(self, book: dict, *, times: int = 1) -> str: ...
        def pages(self, to: int) -> Iterator[int]: ...
    library = self.host.library.proxy(Library)
    return [library.read({"title": "tea", "pages": 1}, times=2), list(library.pages(3))]

@expose
def untyped(self):
    from typing import Protocol
    class Library(Protocol):
        def read(self, book: dict) -> int: ...
    return self.host.library.proxy(Library).read({"title": "tea", "pages": 1})
"""


def test_a_plugin_has_typed_views_of_what_it_is_granted(isolated: Any) -> None:
    with isolated(TYPED, grants={"library": Library()}) as sandbox:
        assert sandbox.call("typed") == ["teatea", [0, 1, 2]]
        with pytest.raises(RemoteError, match=r"method 'read'.* does not fit int"):
            sandbox.call("untyped")


def test_nothing_is_granted_unless_it_is(isolated: Any) -> None:
    with isolated(CALLING) as sandbox:
        assert sandbox.call("granted") == []
        with pytest.raises(RemoteError, match="'x' is not granted to this plugin; nothing is"):
            sandbox.call("ask", "x")


def test_a_class_is_no_grant_but_a_mistake(isolated: Any) -> None:
    with pytest.raises(ConfigError, match=r"'shop' is granted as 'library' .*Library.*instance"):
        isolated(CALLING, grants={"library": Library})


def test_deadlines_reach_the_method(isolated: Any) -> None:
    library = Library()
    with isolated(CALLING, grants={"library": library}) as sandbox:
        assert sandbox.call("ask", "library.remaining") is None
        assert 0 < sandbox.call("ask_within", 60, "library.remaining") <= 60
        with pytest.raises((RemoteError, CallTimeoutError)):
            sandbox.call("ask_within", 0.05, "library.wait")
        assert library.cancelled.wait(30)
        for way in ("ask", "ask_by_map", "ask_by_amap"):
            library.cancelled.clear()
            with pytest.raises(CallTimeoutError):
                sandbox.call(way, "library.wait", 0, timeout=0.5)  # on a busy machine, too
            assert library.cancelled.wait(30), way


def test_a_stream_that_is_left_is_closed(isolated: Any) -> None:
    library = Library()
    with isolated(CALLING, grants={"library": library}) as sandbox:
        assert sandbox.call("sum_of", "library.pages", 10**9, first=3) == 3
        assert library.closed.wait(30)


def test_a_method_is_told_when_the_plugin_dies(isolated: Any) -> None:
    library = Library()
    sandbox = isolated(CALLING, grants={"library": library})
    sandbox.start()
    with ThreadPoolExecutor() as pool:
        call = pool.submit(sandbox.call, "ask", "library.wait")
        assert library.begun.wait(30)
        os.kill(sandbox.pid, 9)
        assert library.cancelled.wait(30)
        assert isinstance(call.exception(30), ProcessExitedError)
    with pytest.raises(ProcessExitedError, match="SIGKILL"):
        sandbox.stop()


# --- calls within calls -----------------------------------------------------------------------


class Mirror:
    """Calls back, until it is deep enough."""

    sandbox: Any

    @expose
    def reflect(self, depth: int) -> int:
        if depth == 0:
            return 0
        return 1 + int(self.sandbox.call(self.way, "mirror.reflect", depth - 1))

    def __init__(self, way: str) -> None:
        self.way = way


@pytest.mark.parametrize("way", ["ask", "ask_by_map", "ask_by_amap"])
def test_host_and_plugin_call_one_another_deeply(isolated: Any, way: str) -> None:
    mirror = Mirror(way)
    with isolated(CALLING, grants={"mirror": mirror}, call_timeout=60) as sandbox:
        mirror.sandbox = sandbox
        assert sandbox.call(way, "mirror.reflect", 20) == 20
        with pytest.raises(RemoteError, match="deep"):
            sandbox.call(way, "mirror.reflect", 200)
        assert sandbox.call(way, "mirror.reflect", 3) == 3


def test_what_the_host_calls_on_behalf_of_a_map_that_was_left_is_served(isolated: Any) -> None:
    class Back:
        sandbox: Any
        served = threading.Event()

        @expose
        def call(self, number: int) -> int:
            if number:
                self.sandbox.call("echo", number)
                self.served.set()
            return number

    back = Back()
    with isolated(CALLING, grants={"back": back}) as sandbox:
        back.sandbox = sandbox
        assert sandbox.call("take_one", "back.call") == 0
        assert back.served.wait(30), "it lies in a queue that nobody looks into"


def test_more_calls_than_are_served_at_once(isolated: Any) -> None:
    most, running, lock = 0, 0, threading.Lock()

    def work(value: int) -> int:
        nonlocal most, running
        with lock:
            running += 1
            most = max(most, running)
        threading.Event().wait(0.005)
        with lock:
            running -= 1
        return value

    with isolated(CALLING, grants={"work": work}) as sandbox:
        items = list(range(500))
        assert sandbox.call("ask_all", "work", items) == items
    assert 1 < most <= 64


# --- asynchronous methods ---------------------------------------------------------------------


class Async:
    @expose
    async def here(self) -> bool:
        await asyncio.sleep(0)
        return threading.current_thread() is threading.main_thread()

    @expose
    async def count(self, to: int) -> AsyncIterator[int]:
        for i in range(to):
            await asyncio.sleep(0)
            yield i


class Passing:
    """Returns the streams of others."""

    @expose
    def plain(self, to: int) -> Iterator[int]:
        return iter(range(to))

    @expose
    def later(self, to: int) -> AsyncIterator[int]:
        return Async().count(to)

    @expose
    async def found(self, to: int) -> AsyncIterator[int]:
        return Async().count(to)


def test_a_granted_method_that_says_it_returns_an_iterator_is_a_stream(isolated: Any) -> None:
    async def main() -> None:
        sandbox = isolated(CALLING, grants={"it": Passing()})
        await asyncio.to_thread(sandbox.start)
        for method in ("plain", "later", "found"):
            assert await sandbox.acall("sum_of", f"it.{method}", 10) == 45
            assert await sandbox.acall("sum_of", f"it.{method}", 10, first=3) == 3
        await asyncio.to_thread(sandbox.stop)

    asyncio.run(main())


def test_asynchronous_methods_run_on_the_loop_where_they_were_granted(isolated: Any) -> None:
    async def main() -> None:
        sandbox = isolated(CALLING, grants={"a": Async()})
        await asyncio.to_thread(sandbox.start)
        assert await sandbox.acall("ask", "a.here") is True
        assert await sandbox.acall("sum_of", "a.count", 10) == 45
        await asyncio.to_thread(sandbox.stop)

    asyncio.run(main())


@pytest.mark.keeps("trio keeps its threads for a while")
def test_asynchronous_methods_run_on_trio(isolated: Any) -> None:
    class Trio:
        @expose
        async def here(self) -> bool:
            await trio.lowlevel.checkpoint()
            return threading.current_thread() is threading.main_thread()

    async def main() -> None:
        sandbox = isolated(CALLING, grants={"a": Trio()})
        await trio.to_thread.run_sync(sandbox.start)
        assert await sandbox.acall("ask", "a.here") is True
        await trio.to_thread.run_sync(sandbox.stop)

    trio.run(main)


def test_without_a_loop_they_are_refused_at_once(isolated: Any) -> None:
    with pytest.raises(TypeError, match=r"'a' has the asynchronous method 'here'.*no event loop"):
        isolated(CALLING, grants={"a": Async()})


def test_without_a_loop_an_asynchronous_function_is_refused_as_well(isolated: Any) -> None:
    async def later() -> None: ...

    with pytest.raises(TypeError, match=r"granted as 'later' is asynchronous.*no event loop"):
        isolated(CALLING, grants={"later": later})


def test_an_asynchronous_function_runs_on_the_loop_where_it_was_granted(isolated: Any) -> None:
    async def later(value: int) -> int:
        await asyncio.sleep(0)
        return value + (threading.current_thread() is threading.main_thread())

    async def main() -> None:
        sandbox = isolated(CALLING, grants={"later": later})
        await asyncio.to_thread(sandbox.start)
        assert await sandbox.acall("ask", "later", 1) == 2
        await asyncio.to_thread(sandbox.stop)

    asyncio.run(main())


def test_a_loop_that_has_ended_is_told(isolated: Any) -> None:
    async def make() -> Any:
        return isolated(CALLING, grants={"a": Async()})

    with asyncio.run(make()) as sandbox, pytest.raises(RemoteError, match="closed"):
        sandbox.call("ask", "a.here")


# --- what a plugin logs -----------------------------------------------------------------------


def test_a_flood_of_log_records_is_bounded(isolated: Any, caplog: pytest.LogCaptureFixture) -> None:
    flood = """
    @expose
    def flood(self, n):
        import logging
        logging.getLogger().setLevel(0)
        for i in range(n): logging.getLogger("a").info("record %d", i)
    """
    caplog.set_level(1, "plugkeep.plugin.shop")
    with isolated(flood) as sandbox:
        sandbox.call("flood", 2000)
    lines = [record.getMessage() for record in caplog.records if record.name.endswith("shop")]
    records = [line for line in lines if line.startswith("record")]
    assert records == [f"record {i}" for i in range(len(records))]
    assert len(records) == 2000 or any("were dropped" in line for line in lines)
