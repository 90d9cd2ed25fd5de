"""Protocols as typed views of plugins: checked once, called with real signatures."""

from __future__ import annotations

import asyncio
import gc
import inspect
import weakref
from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import pytest

from plugkeep import Registry
from plugkeep.channel import proxies
from plugkeep.errors import InvalidArgumentsError, InvalidPluginError, InvalidResponseError
from plugkeep.loaders.isolation import isolate
from plugkeep.plugin import Plugin
from plugkeep.sandbox import Sandbox

METHODS = """
@expose
def suggest(self, user: int, limit: int = 3, *, flag: bool = False):
    return [{"title": f"book {i} for {user}", "pages": i} for i in range(limit)] + [None] * flag

@expose
def shelve(self, *books, **options): return [list(books), options]

@expose
def export(self, to: int):
    for i in range(to): yield {"title": "x", "pages": i}
    return "end"

@expose
def when(self): return "2026-11-22T10:00:00+00:00"

@expose
def data(self, n: int): return bytes(n)
"""


@dataclass
class Book:
    title: str
    pages: int


class Recommender(Protocol):
    """What recommends."""

    def suggest(self, user: int, limit: int = ..., *, flag: bool = ...) -> list[Book]:
        """Return books."""
        ...

    def when(self) -> datetime: ...
    def export(self, to: int) -> Iterator[Book]: ...


@pytest.fixture
def shop(isolated: Any) -> Iterator[Sandbox]:
    with isolated(METHODS) as sandbox:
        yield sandbox


def test_results_are_what_the_annotations_say(shop: Sandbox) -> None:
    typed = shop.proxy(Recommender)
    assert typed.suggest(7, 2) == [Book("book 0 for 7", 0), Book("book 1 for 7", 1)]
    assert typed.suggest(limit=1, user=8) == [Book("book 0 for 8", 0)]
    assert len(typed.suggest(7)) == 3
    assert typed.when().year == 2026
    assert list(typed.export(2)) == [Book("x", 0), Book("x", 1)]
    assert repr(typed) == "<Recommender of plugin 'shop'>"
    assert str(inspect.signature(typed.suggest)) == (
        "(user: 'int', limit: 'int' = Ellipsis, *, flag: 'bool' = Ellipsis) -> 'list[Book]'"
    )
    assert inspect.getdoc(typed.suggest) == "Return books."


@pytest.mark.parametrize(
    ("args", "kwargs", "told"),
    [
        ((), {}, "missing a required argument: 'user'"),
        ((1, 2, 3), {}, "too many positional arguments"),
        ((1,), {"user": 2}, "multiple values for argument 'user'"),
        ((1,), {"what": 2}, "got an unexpected keyword argument 'what'"),
    ],
)
def test_arguments_are_checked_here(
    shop: Sandbox, args: tuple[Any, ...], kwargs: dict[str, Any], told: str
) -> None:
    suggest: Any = shop.proxy(Recommender).suggest
    with pytest.raises(InvalidArgumentsError, match=f"plugin 'shop', method 'suggest': {told}"):
        suggest(*args, **kwargs)


def test_a_result_that_does_not_fit(shop: Sandbox) -> None:
    with pytest.raises(InvalidResponseError, match=r"method 'suggest'.*fit list\[.*Book\]"):
        shop.proxy(Recommender).suggest(7, flag=True)

    class Wrong(Protocol):
        def export(self, to: int) -> Iterator[str]: ...

    with pytest.raises(InvalidResponseError, match=r"method 'export'.*does not fit str"):
        list(shop.proxy(Wrong).export(3))


class Async(Protocol):
    async def suggest(self, user: int, limit: int) -> list[Book]: ...
    def when(self) -> Awaitable[datetime]: ...
    def export(self, to: int) -> AsyncIterator[Book]: ...


def test_asynchronous_methods_are_awaited(shop: Sandbox) -> None:
    async def main() -> tuple[Any, ...]:
        typed = shop.proxy(Async)
        exported = [book async for book in typed.export(2)]
        return await typed.suggest(7, 1), (await typed.when()).year, exported

    assert asyncio.run(main()) == ([Book("book 0 for 7", 0)], 2026, [Book("x", 0), Book("x", 1)])


def test_variadic_methods_and_options_of_all_calls(shop: Sandbox) -> None:
    class Shelves(Protocol):
        def shelve(self, *books: str, **options: int) -> tuple[list[str], dict[str, int]]: ...

    typed = shop.using(timeout=30).proxy(Shelves)
    assert typed.shelve("a", "b", c=1) == (["a", "b"], {"c": 1})


def test_bytes_come_as_the_annotation_has_them(shop: Sandbox) -> None:
    class Views(Protocol):
        def data(self, n: int) -> memoryview: ...

    class Bytes(Protocol):
        def data(self, n: int) -> bytes: ...

    for size in (3, 100_000):
        assert type(shop.proxy(Views).data(size)) is memoryview
        assert shop.proxy(Bytes).data(size) == bytes(size)


def test_all_that_does_not_fit_is_listed(shop: Sandbox) -> None:
    class Unfit(Protocol):
        def sugest(self) -> Any: ...
        def suggest(self, client: int, limit: int, more: int) -> Any: ...
        def when(self, zone: str) -> Iterable[int]: ...
        def export(self, to: int = ...) -> list[Book]: ...
        def data(self, *sizes: int, **options: int) -> bytes: ...

    with pytest.raises(InvalidPluginError) as caught:
        shop.proxy(Unfit)
    assert str(caught.value).splitlines() == [
        "plugin 'shop' does not fit Unfit:",
        "  it has no method 'sugest'; did you mean 'suggest'?",
        "  'suggest' takes no 'client' by name",
        "  'suggest' takes no 'more' by position",
        "  'suggest' requires 'user', which is missing here",
        "  'when' is no stream, and cannot return an Iterator",
        "  'when' takes no 'zone' by position",
        "  'export' is a stream: it has to return an Iterator or AsyncIterator",
        "  'export' requires 'to', which is optional here",
        "  'data' takes no *sizes",
        "  'data' takes no **options",
        "  'data' requires 'n', which is missing here",
    ]


class WithProperty(Protocol):
    @property
    def size(self) -> int: ...


class WithAttribute(Protocol):
    size: int


class Empty(Protocol): ...


class WithTimeout(Protocol):
    def suggest(self, timeout: float) -> None: ...


class Unknown(Protocol):
    def when(self) -> NoSuchType: ...  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize(
    ("protocol", "told"),
    [
        (WithProperty, "WithProperty.size is a property"),
        (WithAttribute, "WithAttribute.size is no plain method"),
        (Empty, "Empty has no methods"),
        (Book, "is no protocol"),
        (WithTimeout, "has a parameter 'timeout'"),
        (Unknown, "return annotation 'NoSuchType' cannot be evaluated"),
    ],
)
def test_what_is_no_protocol_of_methods(shop: Sandbox, protocol: Any, told: str) -> None:
    with pytest.raises(TypeError, match=told):
        shop.proxy(protocol)


def test_a_derived_protocol_has_the_methods_of_its_bases(shop: Sandbox) -> None:
    class More(Recommender, Protocol):
        def data(self, n: int) -> bytes: ...

    typed = shop.proxy(More)
    assert typed.data(2) == b"\0\0"
    assert typed.when().year == 2026


# --- asked for by the registry ----------------------------------------------------------------


@runtime_checkable
class Clock(Protocol):
    def when(self) -> datetime: ...


class Here:
    name = "here"

    def start(self) -> None: ...
    def stop(self) -> None: ...
    def when(self) -> datetime:
        return datetime(2000, 1, 1)


def test_registries_find_capabilities_in_sandboxes(isolated: Any) -> None:
    registry = Registry()
    registry.register(isolated(METHODS))
    registry.register(Here())
    assert registry.capability("shop", Clock) is None
    with registry:
        clock = registry.capability("shop", Clock)
        assert clock is not None
        assert clock.when().year == 2026
        assert [each.when().year for each in registry.providing(Clock)] == [2026, 2000]
        assert registry.capability("shop", Plugin) is registry["shop"]  # type: ignore[type-abstract]
        assert registry.capability("shop", Sandbox) is registry["shop"]

    @runtime_checkable
    class Other(Protocol):
        def elsewhere(self) -> None: ...

    with registry:
        assert list(registry.providing(Other)) == []


def test_what_fits_is_found_out_once_for_each_life(
    isolated: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[Any] = []
    members_of = proxies.members_of

    def noting(protocol: Any) -> Any:
        looked.append(protocol)
        return members_of(protocol)

    monkeypatch.setattr(proxies, "members_of", noting)
    registry = Registry()
    registry.register(isolated(METHODS))
    with registry:
        first, second = registry.capability("shop", Clock), registry.capability("shop", Clock)
        assert first is not None
        assert second is not None
        assert looked == [Clock]
    isolated("@expose\ndef when(self, zone): return None")  # the same file, written anew
    with registry:
        assert registry.capability("shop", Clock) is None
        assert registry.capability("shop", Clock) is None
    assert looked == [Clock, Clock]


def test_a_protocol_is_not_kept_by_what_was_asked_for_it(shop: Sandbox) -> None:
    @runtime_checkable
    class Passing(Protocol):
        def when(self) -> datetime: ...

    assert shop.implementing(Passing) is not None
    gone = weakref.ref(Passing)
    del Passing
    gc.collect()
    assert gone() is None


def test_a_sandbox_that_was_asked_for_a_protocol_ends_with_its_last_user(isolated: Any) -> None:
    sandbox = isolated(METHODS)
    sandbox.start()
    clock = sandbox.implementing(Clock)
    gone = weakref.ref(sandbox)
    del sandbox
    assert clock.when().year == 2026  # it is a user, too
    gc.disable()
    try:
        del clock
        assert gone() is None
    finally:
        gc.enable()


# --- methods that return what others give ----------------------------------------------------

GIVING = """
from collections.abc import AsyncIterator, Generator, Iterator

class Countdown:
    def __init__(self, start): self.left = start
    def __iter__(self): return self
    def __next__(self):
        if not self.left: raise StopIteration
        self.left -= 1
        return self.left

def numbers(to):
    yield from range(to)
    return "end"

async def anumbers(to):
    for i in range(to): yield i

class PluginFactory:
    name = "giving"
    def start(self): ...
    def stop(self): ...
    @expose
    def down(self, to: int) -> Iterator[int]: return Countdown(to)
    @expose
    def up(self, to: int) -> Generator[int, None, str]: return numbers(to)
    @expose(threaded=True)
    def beside(self, to: int) -> Iterator: return iter(range(to))
    @expose
    def later(self, to: int) -> AsyncIterator[int]: return anumbers(to)
    @expose
    async def found(self, to: int) -> AsyncIterator[int]: return anumbers(to)
    @expose
    def listed(self, to: int) -> Iterable[int]: return list(range(to))
"""
_STREAMS = {
    "down": [2, 1, 0],
    "up": [0, 1, 2],
    "beside": [0, 1, 2],
    "later": [0, 1, 2],
    "found": [0, 1, 2],
}


@pytest.mark.parametrize("future", ["", "from __future__ import annotations\n"])
def test_a_method_that_says_it_returns_an_iterator_is_a_stream(tmp_path: Path, future: str) -> None:
    class Giving(Protocol):
        def down(self, to: int) -> Iterator[int]: ...
        def up(self, to: int) -> Iterator[int]: ...
        def later(self, to: int) -> AsyncIterator[int]: ...
        def listed(self, to: int) -> list[int]: ...

    imports = "from collections.abc import Iterable\nfrom plugkeep import expose\n"
    (tmp_path / "giving.py").write_text(future + imports + GIVING)
    with isolate(tmp_path / "giving.py") as sandbox:
        assert sandbox.methods is not None
        assert {name for name, each in sandbox.methods.items() if each.stream} == set(_STREAMS)
        for name, values in _STREAMS.items():
            assert list(sandbox.stream(name, 3)) == values
            with pytest.raises(InvalidArgumentsError, match="is a stream"):
                sandbox.call(name, 3)
        typed = sandbox.proxy(Giving)
        assert list(typed.down(2)) == [1, 0]
        assert list(typed.up(2)) == [0, 1]
        assert typed.listed(2) == [0, 1]
