from __future__ import annotations

import threading
from typing import Any

import pytest

from plugkeep import (
    AlreadyRegisteredError,
    InvalidNameError,
    InvalidPluginError,
    LifecycleError,
    PluginNotFoundError,
    Registry,
    RequiredError,
    State,
    StopError,
)


class Named:
    def __init__(self, name: Any = "plain") -> None:
        self.name = name

    def start(self) -> None: ...
    def stop(self) -> None: ...


def test_looks_up_what_was_registered_in_order_of_registration() -> None:
    registry = Registry()
    b, a = Named("b"), Named("a")
    registry.register(b)
    registry.register(a)

    assert registry.names() == ["b", "a"] == list(registry)
    assert registry.get("a") is a is registry["a"]
    assert registry.get("c") is None
    assert "b" in registry
    assert "c" not in registry
    assert len(registry) == 2
    assert registry.state("a") is State.REGISTERED


def test_an_empty_registry_is_no_less_a_registry() -> None:
    registry = Registry()
    assert registry.names() == []
    assert registry.start_all() == []
    assert registry.stop_all() == []
    with registry as entered:
        assert entered is registry


def test_a_taken_name_is_refused_and_named() -> None:
    registry = Registry()
    first = Named("cache")
    registry.register(first)
    with pytest.raises(AlreadyRegisteredError, match="'cache'") as caught:
        registry.register(Named("cache"))
    assert caught.value.plugin == "cache"
    assert registry["cache"] is first


def test_name_given_when_registering_goes_before_the_plugins_own() -> None:
    registry = Registry()
    registry.register(Named("cache"))
    registry.register(Named("cache"), name="cache2")
    assert registry.names() == ["cache", "cache2"]


@pytest.mark.parametrize("name", ["", "a b", "a/b", "-a", ".a", "a\n", "_a"])
def test_a_name_that_cannot_be_one_is_refused(name: str) -> None:
    registry = Registry()
    with pytest.raises(InvalidNameError, match="a name begins with a letter or digit"):
        registry.register(Named(name))
    with pytest.raises(InvalidNameError):
        registry.register(Named("fine"), name=name)
    assert len(registry) == 0


@pytest.mark.parametrize("name", ["a", "0", "a.b-c_d", "A1", "x" * 500])
def test_a_name_that_can_be_one_is_taken(name: str) -> None:
    registry = Registry()
    registry.register(Named(name))
    assert name in registry


class NoStart:
    name = "no-start"

    def stop(self) -> None: ...


class StopIsNoMethod:
    name = "no-stop"
    stop = 3

    def start(self) -> None: ...


class NameRaises:
    @property
    def name(self) -> str:
        raise ZeroDivisionError("no name today")

    def start(self) -> None: ...
    def stop(self) -> None: ...


class StopRaises(Named):
    @property
    def stop(self) -> Any:  # type: ignore[override]
        raise OSError("gone")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (StopRaises(), r"reading its method stop\(\) raised OSError"),
        (None, "it has no name"),
        (3, "it has no name"),
        (Named, r"it is a class; pass an instance: Named\(\)"),
        (Named(7), "its name is 7, not a string"),
        (Named(None), "its name is None, not a string"),
        (NoStart(), r"its method start\(\) is missing"),
        (StopIsNoMethod(), r"its method stop\(\) is not callable"),
        (NameRaises(), "reading its name raised ZeroDivisionError"),
    ],
)
def test_what_is_no_plugin_is_refused_saying_what_it_lacks(value: Any, said: str) -> None:
    registry = Registry()
    with pytest.raises(InvalidPluginError, match=said):
        registry.register(value)
    assert len(registry) == 0


def test_the_name_is_read_once_and_stays_the_key() -> None:
    reads: list[str] = []

    class Fickle:
        @property
        def name(self) -> str:
            reads.append("read")
            return f"name{len(reads)}"

        def start(self) -> None: ...
        def stop(self) -> None: ...

    registry = Registry()
    registry.register(Fickle())
    assert registry.names() == ["name1"]
    assert registry.start_all() == registry.stop_all() == []
    registry.unregister("name1")
    assert reads == ["read"]


@pytest.mark.parametrize("requires", ["database", 3, ["ok", 4], ["not ok"]])
def test_requires_has_to_be_a_collection_of_names(requires: Any) -> None:
    registry = Registry()
    with pytest.raises((InvalidPluginError, InvalidNameError), match="requires of plugin 'plain'"):
        registry.register(Named(), requires=requires)
    assert len(registry) == 0


def test_requires_given_here_and_by_the_plugin_are_united() -> None:
    registry = Registry()
    plugin = Named()
    plugin.requires = ["a", "b"]  # type: ignore[attr-defined]
    registry.register(plugin, requires={"b": 1, "c": 2})
    assert registry.requirements() == {"plain": ("a", "b", "c")}


def test_unknown_names_have_near_misses() -> None:
    registry = Registry()
    registry.register(Named("database"))
    for ask in (registry.__getitem__, registry.state, registry.start, registry.stop):
        with pytest.raises(PluginNotFoundError, match="did you mean 'database'") as caught:
            ask("databse")
        assert isinstance(caught.value, KeyError)
        assert str(caught.value).startswith("no plugin named 'databse'")


def test_unregister_forgets_and_an_unknown_name_does_nothing() -> None:
    registry = Registry()
    registry.register(Named("a"))
    registry.unregister("a")
    registry.unregister("a")
    registry.unregister("never-there")
    assert registry.names() == []
    registry.register(Named("a"))
    assert registry.names() == ["a"]


def test_unregister_stops_what_runs(record: Any) -> None:
    registry = Registry()
    registry.register(record.plugin("a"))
    registry.start_all()
    registry.unregister("a")
    assert record.lines == ["+a", "-a"]
    assert "a" not in registry


def test_unregister_removes_even_what_fails_to_stop(record: Any) -> None:
    def fail() -> None:
        raise OSError("stuck")

    registry = Registry()
    registry.register(record.plugin("a", on_stop=fail))
    registry.start_all()
    with pytest.raises(StopError, match="'a' failed to stop: OSError: stuck"):
        registry.unregister("a")
    assert "a" not in registry
    assert registry.stop_all() == []


def test_unregister_refuses_while_running_plugins_require_it(record: Any) -> None:
    registry = Registry()
    registry.register(record.plugin("db"))
    registry.register(record.plugin("api", ["db"]))
    registry.register(record.plugin("idle", ["api"]))
    registry.start("api")
    with pytest.raises(RequiredError, match="api; stop them first") as caught:
        registry.unregister("db")
    assert caught.value.dependents == ("api",)
    assert registry.state("db") is registry.state("api") is State.RUNNING

    registry.stop("api")
    registry.unregister("db")
    assert registry.names() == ["api", "idle"]


def test_replace_keeps_name_and_place(record: Any) -> None:
    registry = Registry()
    for name in ("a", "b", "c"):
        registry.register(record.plugin(name))
    old = registry["b"]
    new = record.plugin("other", ["a"])
    assert registry.replace("b", new) is old
    assert registry.names() == ["a", "b", "c"]
    assert registry["b"] is new
    assert registry.requirements()["b"] == ("a",)
    registry.start_all()
    with pytest.raises(LifecycleError, match="'b' cannot be replaced while it is running"):
        registry.replace("b", old)
    assert registry["b"] is new


def test_replace_needs_something_to_replace() -> None:
    with pytest.raises(PluginNotFoundError):
        Registry().replace("nobody", Named())


def test_discover_from_values_registers_plugins_and_passes_over_the_rest() -> None:
    registry = Registry()
    registry.register(Named("taken"))
    values = [
        None,
        Named,
        3,
        "text",
        Named("a"),
        Named("taken"),
        NoStart(),
        Named("a"),
        Named(""),
        StopRaises(),
    ]
    assert registry.discover_from_values(*values) == 1
    assert registry.names() == ["taken", "a"]
    assert registry.discover_from_values() == 0


def test_of_many_threads_that_register_one_name_one_wins() -> None:
    registry = Registry()
    outcomes: list[str] = []
    barrier = threading.Barrier(8)

    def work() -> None:
        barrier.wait(30)
        for i in range(200):
            try:
                registry.register(Named(f"p{i}"))
                outcomes.append(f"p{i}")
            except AlreadyRegisteredError:
                pass

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(outcomes) == sorted(f"p{i}" for i in range(200))
    assert len(registry) == 200


@pytest.mark.parametrize("limit", [0, -1, "5s", True, float("nan")])
def test_a_limit_that_is_none_is_refused(limit: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="start_timeout of the registry is"):
        Registry(start_timeout=limit)
