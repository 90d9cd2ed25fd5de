from __future__ import annotations

from typing import Any

import pytest

from plugkeep import (
    AsyncPluginError,
    Registry,
    RequirementError,
    RequirementFailedError,
    StartError,
    State,
    StopError,
)


def failing(error: BaseException) -> Any:
    def fail() -> None:
        raise error

    return fail


def filled(record: Any, *names: str) -> Registry:
    registry = Registry()
    for name in names:
        registry.register(record.plugin(name))
    return registry


def test_starts_in_order_of_registration_and_stops_in_reverse(record: Any) -> None:
    registry = filled(record, "c", "a", "b")
    assert registry.start_all() == []
    assert registry.stop_all() == []
    assert record.lines == ["+c", "+a", "+b", "-b", "-a", "-c"]


def test_requirements_bend_the_order_no_more_than_they_must(record: Any) -> None:
    registry = Registry()
    registry.register(record.plugin("web", ["cache", "db"]))
    registry.register(record.plugin("log"))
    registry.register(record.plugin("db"))
    registry.register(record.plugin("cache", ["db"]))
    registry.register(record.plugin("mail"))
    registry.start_all()
    assert record.lines == ["+log", "+db", "+cache", "+web", "+mail"]
    assert registry.start_order() == ["log", "db", "cache", "web", "mail"]


def test_calling_either_twice_is_harmless(record: Any) -> None:
    registry = filled(record, "a", "b")
    assert registry.stop_all() == []
    registry.start_all()
    assert registry.start_all() == []
    registry.stop_all()
    assert registry.stop_all() == []
    assert record.lines == ["+a", "+b", "-b", "-a"]


def test_a_stopped_plugin_can_start_again(record: Any) -> None:
    registry = filled(record, "a")
    for _ in range(3):
        assert registry.start_all() == []
        assert registry.state("a") is State.RUNNING
        assert registry.stop_all() == []
        assert registry.state("a") is State.STOPPED
    assert record.lines == ["+a", "-a"] * 3


def test_all_are_attempted_and_errors_collected(record: Any) -> None:
    cause = OSError("no disk")
    registry = Registry()
    registry.register(record.plugin("a"))
    registry.register(record.plugin("b", on_start=failing(cause)))
    registry.register(record.plugin("c"))
    (error,) = registry.start_all()
    assert isinstance(error, StartError)
    assert error.plugin == "b"
    assert error.__cause__ is cause
    assert str(error) == "plugin 'b' failed to start: OSError: no disk"
    assert [registry.state(name) for name in "abc"] == ["running", "failed", "running"]
    assert record.lines == ["+a", "+b", "+c"]


def test_what_did_not_start_is_not_stopped(record: Any) -> None:
    registry = Registry()
    registry.register(record.plugin("a", on_start=failing(ValueError())))
    registry.register(record.plugin("b"))
    registry.start_all()
    registry.stop_all()
    assert record.lines == ["+a", "+b", "-b"]


def test_a_plugin_whose_requirement_failed_is_not_attempted_and_reported(record: Any) -> None:
    registry = Registry()
    registry.register(record.plugin("web", ["api"]))
    registry.register(record.plugin("api", ["db"]))
    registry.register(record.plugin("db", on_start=failing(ValueError("x"))))
    errors = registry.start_all()
    assert [error.plugin for error in errors] == ["db", "api", "web"]
    assert isinstance(errors[1], RequirementFailedError)
    assert errors[1].requirement == "db"
    assert "'db', which it requires, is failed" in str(errors[1])
    assert record.lines == ["+db"]
    assert registry.state("web") is State.REGISTERED


def test_a_second_start_all_tries_the_failed_again(record: Any) -> None:
    faults = [OSError("first time")]
    registry = Registry()

    def once() -> None:
        if faults:
            raise faults.pop()

    registry.register(record.plugin("db", on_start=once))
    registry.register(record.plugin("api", ["db"]))
    assert len(registry.start_all()) == 2
    assert registry.start_all() == []
    assert record.lines == ["+db", "+db", "+api"]


def test_stop_collects_errors_and_attempts_all(record: Any) -> None:
    registry = Registry()
    registry.register(record.plugin("a", on_stop=failing(OSError("a"))))
    registry.register(record.plugin("b"))
    registry.register(record.plugin("c", on_stop=failing(OSError("c"))))
    registry.start_all()
    errors = registry.stop_all()
    assert [error.plugin for error in errors] == ["c", "a"]
    assert all(isinstance(error, StopError) for error in errors)
    assert record.lines[3:] == ["-c", "-b", "-a"]
    assert registry.state("a") is State.FAILED
    assert registry.stop_all() == []


def test_stop_is_the_exact_reverse_of_what_really_started(record: Any) -> None:
    registry = filled(record, "a", "b", "c")
    registry.start("c")
    registry.start_all()
    registry.stop("a")
    registry.start("a")
    record.lines.clear()
    registry.stop_all()
    assert record.lines == ["-a", "-b", "-c"]


def test_missing_requirements_are_all_named_before_anything_starts(record: Any) -> None:
    registry = Registry()
    registry.register(record.plugin("fine"))
    registry.register(record.plugin("api", ["db", "cache"]))
    registry.register(record.plugin("cache"))
    registry.register(record.plugin("web", ["tls"]))
    with pytest.raises(RequirementError) as caught:
        registry.start_all()
    assert caught.value.missing == (("api", "db"), ("web", "tls"))
    assert "'api' requires 'db', which is not registered" in str(caught.value)
    assert record.lines == []


def test_a_cycle_is_named_whole_before_anything_starts(record: Any) -> None:
    registry = Registry()
    registry.register(record.plugin("fine"))
    for name, required in [("a", "b"), ("b", "c"), ("c", "a")]:
        registry.register(record.plugin(name, [required]))
    registry.register(record.plugin("self", ["self"]))
    with pytest.raises(RequirementError) as caught:
        registry.start_all()
    assert caught.value.cycles == (("a", "b", "c"), ("self",))
    assert "'a' requires 'b' requires 'c' requires 'a'" in str(caught.value)
    assert record.lines == []


def test_start_starts_what_it_requires_first_and_nothing_else(record: Any) -> None:
    registry = Registry()
    registry.register(record.plugin("web", ["api"]))
    registry.register(record.plugin("other"))
    registry.register(record.plugin("api", ["db"]))
    registry.register(record.plugin("db"))
    registry.start("api")
    assert record.lines == ["+db", "+api"]
    registry.start("api")
    registry.start("web")
    assert record.lines == ["+db", "+api", "+web"]


def test_stop_stops_what_requires_it_first_and_nothing_else(record: Any) -> None:
    registry = Registry()
    registry.register(record.plugin("db"))
    registry.register(record.plugin("api", ["db"]))
    registry.register(record.plugin("web", ["api"]))
    registry.register(record.plugin("other"))
    registry.start_all()
    record.lines.clear()
    registry.stop("api")
    assert record.lines == ["-web", "-api"]
    registry.stop("api")
    assert registry.state("db") is State.RUNNING


def test_start_raises_what_failed_with_the_first_failure_as_cause(record: Any) -> None:
    registry = Registry()
    registry.register(record.plugin("api", ["db"]))
    registry.register(record.plugin("db", on_start=failing(OSError("no disk"))))
    with pytest.raises(RequirementFailedError, match="'db', which it requires") as caught:
        registry.start("api")
    assert caught.value.plugin == "api"
    assert isinstance(caught.value.__cause__, StartError)
    assert "no disk" in str(caught.value.__cause__)


def test_start_finds_missing_requirements_among_what_it_needs_only(record: Any) -> None:
    registry = Registry()
    registry.register(record.plugin("a"))
    registry.register(record.plugin("broken", ["nobody"]))
    registry.start("a")
    with pytest.raises(RequirementError, match="'broken' requires 'nobody'"):
        registry.start("broken")


def test_stop_raises_once_all_have_been_attempted(record: Any) -> None:
    registry = Registry()
    registry.register(record.plugin("db", on_stop=failing(OSError("db"))))
    registry.register(record.plugin("api", ["db"], on_stop=failing(OSError("api"))))
    registry.start_all()
    with pytest.raises(StopError, match="'db' failed to stop") as caught:
        registry.stop("db")
    assert any("'api' failed to stop" in note for note in caught.value.__notes__)
    assert record.lines[2:] == ["-api", "-db"]


def test_a_start_that_takes_arguments_is_explained() -> None:
    class Demanding:
        name = "demanding"

        def start(self, when: str) -> None: ...
        def stop(self) -> None: ...

    registry = Registry()
    registry.register(Demanding())
    (error,) = registry.start_all()
    assert isinstance(error.__cause__, TypeError)
    assert "start() takes no arguments but self" in str(error)


def test_a_type_error_from_inside_start_is_not_mistaken_for_that(record: Any) -> None:
    registry = Registry()
    registry.register(record.plugin("a", on_start=failing(TypeError("bad argument"))))
    (error,) = registry.start_all()
    assert "takes no arguments" not in str(error)


def test_an_asynchronous_plugin_under_the_plain_form_gets_a_clear_error(record: Any) -> None:
    registry = Registry()
    registry.register(record.async_plugin("a"))
    registry.register(record.plugin("b"))
    (error,) = registry.start_all()
    assert isinstance(error, AsyncPluginError)
    assert "astart_all()" in str(error)
    assert error.plugin == "a"
    assert record.lines == ["+b"]
    assert registry.state("a") is State.REGISTERED


def test_what_could_not_be_stopped_plainly_is_not_started_plainly(record: Any) -> None:
    class Mixed:
        name = "mixed"

        def start(self) -> None:
            record.note("+mixed")

        async def stop(self) -> None: ...

    registry = Registry()
    registry.register(Mixed())
    (error,) = registry.start_all()
    assert isinstance(error, AsyncPluginError)
    assert "has an asynchronous stop(), which needs an event loop; use astart_all()" in str(error)
    assert record.lines == []
    assert registry.state("mixed") is State.REGISTERED


def test_a_plain_method_that_returns_an_awaitable_gets_a_clear_error() -> None:
    async def really() -> None: ...

    class Sly:
        name = "sly"

        def start(self) -> Any:
            return really()

        def stop(self) -> None: ...

    registry = Registry()
    registry.register(Sly())
    (error,) = registry.start_all()
    assert isinstance(error, AsyncPluginError)
    assert "not declared with 'async def'" in str(error)


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt(), SystemExit(3), GeneratorExit()])
def test_what_is_no_exception_marks_failed_and_propagates(
    record: Any, interrupt: BaseException
) -> None:
    registry = Registry()
    registry.register(record.plugin("a"))
    registry.register(record.plugin("b", on_start=failing(interrupt)))
    registry.register(record.plugin("c"))
    with pytest.raises(type(interrupt)):
        registry.start_all()
    assert [registry.state(name) for name in "abc"] == ["running", "failed", "registered"]
    assert registry.stop_all() == []
    assert record.lines == ["+a", "+b", "-a"]


def test_ten_thousand_in_a_chain(record: Any) -> None:
    registry = Registry()
    size = 10_000
    for i in range(size):
        registry.register(record.plugin(f"p{i}", [f"p{i + 1}"] if i + 1 < size else []))
    assert registry.start_all() == []
    assert record.lines == [f"+p{i}" for i in reversed(range(size))]
    record.lines.clear()
    registry.stop("p9999")
    assert record.lines == [f"-p{i}" for i in range(size)]


def test_a_cycle_of_ten_thousand_is_found_and_named_whole(record: Any) -> None:
    registry = Registry()
    size = 10_000
    for i in range(size):
        registry.register(record.plugin(f"p{i}", [f"p{(i + 1) % size}"]))
    with pytest.raises(RequirementError) as caught:
        registry.start_all()
    (cycle,) = caught.value.cycles
    assert len(cycle) == size


# --- with -------------------------------------------------------------------------------------


def test_with_starts_and_stops(record: Any) -> None:
    registry = filled(record, "a", "b")
    with registry:
        assert registry.state("b") is State.RUNNING
    assert record.lines == ["+a", "+b", "-b", "-a"]


def test_with_starts_all_or_none(record: Any) -> None:
    registry = Registry()
    registry.register(record.plugin("a", on_stop=failing(OSError("a stop"))))
    registry.register(record.plugin("b", on_start=failing(OSError("b start"))))
    registry.register(record.plugin("c"))
    with pytest.raises(ExceptionGroup, match="1 plugin did not start") as caught, registry:
        pytest.fail("the body must not run")
    assert [str(error) for error in caught.value.exceptions] == [
        "plugin 'b' failed to start: OSError: b start",
        "plugin 'a' failed to stop: OSError: a stop",
    ]
    assert record.lines == ["+a", "+b", "+c", "-c", "-a"]


def test_with_propagates_the_bodys_exception_with_stop_errors_as_notes(record: Any) -> None:
    registry = Registry()
    registry.register(record.plugin("a", on_stop=failing(OSError("stuck"))))
    with pytest.raises(ZeroDivisionError) as caught, registry:
        raise ZeroDivisionError
    assert caught.value.__notes__ == ["plugin 'a' failed to stop: OSError: stuck"]


def test_with_raises_stop_errors_as_a_group(record: Any) -> None:
    registry = Registry()
    registry.register(record.plugin("a", on_stop=failing(OSError("stuck"))))
    with pytest.raises(ExceptionGroup, match="1 plugin failed to stop"), registry:
        pass


def test_with_raises_requirement_errors_as_they_are(record: Any) -> None:
    registry = Registry()
    registry.register(record.plugin("a", ["nobody"]))
    with pytest.raises(RequirementError), registry:
        pytest.fail("the body must not run")


def test_with_rolls_back_when_interrupted(record: Any) -> None:
    registry = Registry()
    registry.register(record.plugin("a"))
    registry.register(record.plugin("b", on_start=failing(KeyboardInterrupt())))
    with pytest.raises(KeyboardInterrupt), registry:
        pytest.fail("the body must not run")
    assert record.lines == ["+a", "+b", "-a"]
