"""Which methods callers may reach, as marked by `expose`."""

from __future__ import annotations

import functools

import pytest

from plugkeep import CurrentCall, current_call, expose
from plugkeep.plugin import exposed


class Base:
    @expose
    def plain(self, x): ...

    @expose(threaded=True)
    def slow(self): ...

    @expose(name="list")
    def everything(self): ...

    @staticmethod
    @expose
    def inner(): ...

    @expose
    @staticmethod
    def outer(): ...

    @expose
    @classmethod
    def of_class(cls): ...

    @expose
    @functools.lru_cache  # noqa: B019
    def cached(self): ...

    def hidden(self): ...

    @property
    def careful(self):
        raise AssertionError("properties are not to be asked")


def names(plugin: object) -> set[str]:
    return set(exposed(plugin))


def test_what_is_marked_is_found_and_nothing_else():
    assert names(Base()) == {"plain", "slow", "list", "inner", "outer", "of_class", "cached"}
    assert exposed(Base())["slow"][1].threaded
    assert exposed(Base())["list"][0] == "everything"


def test_methods_work_as_before():
    class Adder:
        @expose
        def add(self, a: int, b: int = 1) -> int:
            return a + b

    assert Adder().add(1) == 2
    assert Adder.add.__name__ == "add"


def test_overriding_keeps_the_mark_and_none_takes_it_back():
    class Other(Base):
        def plain(self, x): ...  # not marked again
        @expose
        def slow(self): ...  # marked anew: it is not threaded any more

        everything = None

        def hidden(self): ...

    assert names(Other()) == names(Base()) - {"list"}
    assert not exposed(Other())["slow"][1].threaded


def test_what_an_instance_has_of_its_own_counts():
    plugin = Base()
    plugin.extra = expose(lambda: 5)  # type: ignore[attr-defined]
    assert "extra" in names(plugin)
    assert "extra" not in names(Base())


@pytest.mark.parametrize(
    "function",
    [lambda self, timeout: ..., lambda *, timeout=None: ..., lambda timeout, /: ...],
    ids=["positional", "keyword", "positional only"],
)
def test_a_parameter_called_timeout_is_refused(function):
    with pytest.raises(TypeError, match=r"parameter 'timeout'.*current_call\(\)\.remaining"):
        expose(function)
    with pytest.raises(TypeError, match="timeout"):
        expose(functools.wraps(function)(lambda *args: ...))


@pytest.mark.parametrize(
    ("what", "told"),
    [
        (property(lambda self: 5), "property"),
        (Base, "a class"),
        (5, "int"),
        (len, "cannot be marked"),
    ],
)
def test_what_is_no_method_is_refused(what, told):
    with pytest.raises(TypeError, match=told):
        expose(what)


@pytest.mark.parametrize("name", ["", "$/stop", "host.x", 5])
def test_names_that_callers_could_not_use_are_refused(name):
    with pytest.raises(TypeError, match="name for callers"):
        expose(name=name)(lambda self: ...)


def test_outside_of_calls_there_are_no_limits():
    call = current_call()
    assert isinstance(call, CurrentCall)
    assert call.remaining is None
    assert call.cancelled is False
    call.check()
    call.progress(0.5)
