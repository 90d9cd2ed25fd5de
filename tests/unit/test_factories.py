from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from plugkeep.errors import (
    FactoryExistsError,
    FactoryFailedError,
    FactoryNotFoundError,
    InvalidFactoryError,
    InvalidNameError,
    LoadError,
    NoPluginError,
    PluginError,
    SourceNotFoundError,
)
from plugkeep.factories import FactoryRegistry


class Cache:
    name = "cache"

    def start(self) -> None: ...
    def stop(self) -> None: ...


@pytest.fixture
def factories() -> FactoryRegistry:
    return FactoryRegistry()


def test_a_factory_makes_a_new_plugin_each_time(factories: FactoryRegistry) -> None:
    factories.register("cache", Cache)
    first, second = factories.create("cache"), factories.create("cache")
    assert isinstance(first, Cache)
    assert first is not second


def test_a_decorator_registers_and_leaves_the_function_as_it_is(
    factories: FactoryRegistry,
) -> None:
    @factories.register("cache")
    def make() -> Cache:
        return Cache()

    assert factories.get("cache") is make
    assert isinstance(make(), Cache)


def test_names_come_in_the_order_of_registration(factories: FactoryRegistry) -> None:
    for name in ("b", "a", "c"):
        factories.register(name, Cache)
    factories.unregister("a")
    factories.register("a", Cache)
    assert factories.names() == list(factories) == ["b", "c", "a"]
    assert len(factories) == 3
    assert "a" in factories
    assert "d" not in factories
    assert factories.get("d") is None
    assert "b, c, a" in repr(factories)


def test_unregistering_leaves_the_plugins_and_forgives_repetition(
    factories: FactoryRegistry,
) -> None:
    factories.register("cache", Cache)
    plugin = factories.create("cache")
    factories.unregister("cache")
    factories.unregister("cache")
    assert plugin.name == "cache"
    assert len(factories) == 0


def test_while_iterating_the_registry_may_change(factories: FactoryRegistry) -> None:
    factories.register("a", Cache)
    factories.register("b", Cache)
    for name in factories:
        factories.unregister(name)
    assert list(factories) == []


def test_a_name_is_taken_once(factories: FactoryRegistry) -> None:
    factories.register("cache", Cache)
    with pytest.raises(FactoryExistsError, match="'cache' is registered already") as caught:
        factories.register("cache", Cache)
    assert caught.value.plugin == "cache"


@pytest.mark.parametrize("name", ["", "a b", "a/b", None, 3])
def test_names_that_are_none(factories: FactoryRegistry, name: object) -> None:
    with pytest.raises(InvalidNameError, match="factory name"):
        factories.register(name, Cache)  # type: ignore[call-overload]
    with pytest.raises(InvalidNameError, match="factory name"):
        factories.register(name)  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("factory", "words"),
    [
        (None, "factory 'cache' is None, which cannot be called"),
        ("plugins.cache", "is str 'plugins.cache'"),
        (Cache(), "it is a plugin already: register a function that makes one"),
    ],
)
def test_what_cannot_be_called_is_no_factory(
    factories: FactoryRegistry, factory: object, words: str
) -> None:
    with pytest.raises(InvalidFactoryError, match=words) as caught:
        factories.register("cache", factory)  # type: ignore[call-overload]
    assert isinstance(caught.value, TypeError)
    assert "cache" not in factories


def test_an_unknown_name_tells_the_near_ones(factories: FactoryRegistry) -> None:
    with pytest.raises(FactoryNotFoundError, match="none is at all"):
        factories.create("cache")
    factories.register("cache", Cache)
    with pytest.raises(FactoryNotFoundError, match=r"'cahce'; did you mean 'cache'\?") as caught:
        factories.create("cahce")
    assert isinstance(caught.value, KeyError)
    assert str(caught.value).startswith("no factory"), "reads as a sentence, not as a quoted key"


def test_a_factory_that_raises(factories: FactoryRegistry) -> None:
    def make() -> Cache:
        raise ConnectionError("nobody answers")

    factories.register("cache", make)
    with pytest.raises(
        FactoryFailedError, match="factory 'cache' raised ConnectionError: nobody"
    ) as caught:
        factories.create("cache")
    assert isinstance(caught.value.__cause__, ConnectionError)
    assert caught.value.plugin == "cache"


def test_a_factory_cannot_end_the_host_but_the_user_can(factories: FactoryRegistry) -> None:
    def ends() -> Cache:
        raise SystemExit(3)

    def interrupted() -> Cache:
        raise KeyboardInterrupt

    factories.register("ends", ends)
    factories.register("interrupted", interrupted)
    with pytest.raises(FactoryFailedError, match="SystemExit: 3"):
        factories.create("ends")
    with pytest.raises(KeyboardInterrupt):
        factories.create("interrupted")


def test_a_load_error_of_the_factory_s_own_passes_with_the_plugin_s_name(
    factories: FactoryRegistry,
) -> None:
    original = SourceNotFoundError("there is no file 'x.py'", source="x.py")

    def make() -> Cache:
        raise original

    factories.register("cache", make)
    with pytest.raises(LoadError) as caught:
        factories.create("cache")
    assert caught.value is original
    assert original.plugin == "cache"


async def _coroutine() -> Cache:
    return Cache()


@pytest.mark.parametrize(
    ("factory", "words"),
    [
        (lambda: None, "returned None, which is no plugin: it has no name"),
        (lambda: Cache, "returned class Cache, which is no plugin: it is a class"),
        (lambda: 7, "returned int 7, which is no plugin"),
        (_coroutine, "returned coroutine .*, which is no plugin"),
    ],
)
def test_a_factory_that_returns_no_plugin(
    factories: FactoryRegistry, factory: object, words: str
) -> None:
    factories.register("cache", factory)  # type: ignore[call-overload]
    with pytest.raises(NoPluginError, match=words):
        factories.create("cache")


def test_what_a_value_lacks_is_said_and_a_long_value_is_cut(factories: FactoryRegistry) -> None:
    factories.register("text", lambda: "x" * 10_000)  # type: ignore[arg-type,return-value]
    with pytest.raises(NoPluginError) as caught:
        factories.create("text")
    assert len(str(caught.value)) < 300


def test_of_many_threads_that_register_one_name_exactly_one_wins(
    factories: FactoryRegistry,
) -> None:
    threads, rounds = 8, 50
    together = threading.Barrier(threads)

    def register(round_: int) -> bool:
        together.wait(30)
        try:
            factories.register(f"n{round_}", Cache)
        except PluginError:
            return False
        return True

    def all_rounds() -> list[bool]:
        return [register(round_) for round_ in range(rounds)]

    with ThreadPoolExecutor(threads) as pool:
        outcomes = [future.result() for future in [pool.submit(all_rounds) for _ in range(threads)]]
    assert [sum(won) for won in zip(*outcomes, strict=True)] == [1] * rounds
    assert len(factories) == rounds
