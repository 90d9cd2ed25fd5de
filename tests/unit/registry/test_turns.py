"""Who may do what while an operation is under way."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from plugkeep import ReentrantError, Registry, StartAbandonedError, State

PATIENCE = 30


class Calls:
    """A plugin that does something from inside its own start and stop."""

    def __init__(self, name: str, start: Any = None, stop: Any = None) -> None:
        self.name = name
        self._start = start or (lambda: None)
        self._stop = stop or (lambda: None)
        self.raised: list[BaseException] = []

    def _run(self, action: Any) -> None:
        try:
            action()
        except BaseException as error:
            self.raised.append(error)

    def start(self) -> None:
        self._run(self._start)

    def stop(self) -> None:
        self._run(self._stop)


@pytest.mark.parametrize("form", [{}, {"start_timeout": PATIENCE, "stop_timeout": PATIENCE}])
@pytest.mark.parametrize("verb", ["start_all", "stop_all", "start", "stop"])
def test_operations_from_inside_start_and_stop_are_refused(
    verb: str, form: dict[str, float]
) -> None:
    registry = Registry(**form)

    def operate() -> None:
        getattr(registry, verb)(*(["other"] if verb in ("start", "stop") else []))

    plugin = Calls("p", operate, operate)
    registry.register(plugin)
    registry.register(Calls("other"))
    assert registry.start_all() == []
    assert registry.stop_all() == []
    assert [type(error) for error in plugin.raised] == [ReentrantError, ReentrantError]
    assert f"{verb} was called from inside start_all" in str(plugin.raised[0])
    assert f"{verb} was called from inside stop_all" in str(plugin.raised[1])


def test_with_from_inside_is_refused() -> None:
    registry = Registry()

    def enter() -> None:
        with registry:
            pass

    plugin = Calls("p", enter)
    registry.register(plugin)
    assert registry.start_all() == []
    assert [type(error) for error in plugin.raised] == [ReentrantError]
    assert registry.state("p") is State.RUNNING


def test_what_a_plugin_registers_from_inside_joins_the_next_start_all(record: Any) -> None:
    registry = Registry()
    registry.register(Calls("p", lambda: registry.register(record.plugin("late"))))
    assert registry.start_all() == []
    assert record.lines == []
    assert registry.state("late") is State.REGISTERED
    assert registry.start_all() == []
    assert record.lines == ["+late"]


def test_what_a_plugin_unregisters_from_inside_does_not_start(record: Any) -> None:
    registry = Registry()
    registry.register(Calls("p", lambda: registry.unregister("doomed")))
    registry.register(record.plugin("doomed"))
    registry.register(record.plugin("needs", ["doomed"]))
    (error,) = registry.start_all()
    assert error.plugin == "needs"
    assert "'doomed', which it requires, is not registered" in str(error)
    assert record.lines == []


def test_unregistering_a_running_plugin_from_inside_is_refused(record: Any) -> None:
    registry = Registry()
    registry.register(record.plugin("running"))
    plugin = Calls("p", lambda: registry.unregister("running"))
    registry.register(plugin)
    registry.start_all()
    assert [type(error) for error in plugin.raised] == [ReentrantError]
    assert registry.state("running") is State.RUNNING


def test_unregistering_itself_from_inside_is_refused() -> None:
    registry = Registry()
    plugin = Calls("p", lambda: registry.unregister("p"))
    registry.register(plugin)
    assert registry.start_all() == []
    assert [type(error) for error in plugin.raised] == [ReentrantError]
    assert registry.state("p") is State.RUNNING


def test_listeners_are_inside_too() -> None:
    registry = Registry()
    raised: list[BaseException] = []

    def listen(event: Any) -> None:
        try:
            registry.stop_all()
        except ReentrantError as error:
            raised.append(error)

    registry.register(Calls("p"))
    registry.subscribe(listen)
    assert registry.start_all() == []
    assert len(raised) == 2


def test_another_registry_may_be_driven_from_inside(record: Any) -> None:
    inner = Registry()
    inner.register(record.plugin("part"))
    outer = Registry()
    back = Calls("back", lambda: outer.start_all())
    outer.register(Calls("whole", inner.start_all, inner.stop_all))
    outer.register(back)
    with outer:
        assert record.lines == ["+part"]
    assert record.lines == ["+part", "-part"]
    assert [type(error) for error in back.raised] == [ReentrantError]


def test_a_way_back_through_another_registry_is_seen() -> None:
    outer, inner = Registry(), Registry()
    part = Calls("part", lambda: outer.stop_all())
    inner.register(part)
    outer.register(Calls("whole", inner.start_all))
    outer.start_all()
    assert [type(error) for error in part.raised] == [ReentrantError]


def test_after_the_operation_the_same_thread_may_operate_again(record: Any) -> None:
    """A thread that a plugin left behind inherits nothing that would forbid it."""
    registry = Registry()
    go = threading.Event()
    outcome: list[Any] = []

    def later() -> None:
        assert go.wait(PATIENCE)
        outcome.append(registry.stop_all())

    def start_helper() -> None:
        helper.start()

    helper = threading.Thread(target=later)
    registry.register(Calls("p", start_helper))
    registry.start_all()
    go.set()
    helper.join(PATIENCE)
    assert outcome == [[]]
    assert registry.state("p") is State.STOPPED


def test_a_second_thread_waits_for_its_turn(record: Any) -> None:
    inside, proceed = threading.Event(), threading.Event()

    def hold() -> None:
        inside.set()
        assert proceed.wait(PATIENCE)

    registry = Registry()
    registry.register(record.plugin("a", on_start=hold))
    registry.register(record.plugin("b"))
    results: dict[str, Any] = {}
    first = threading.Thread(target=lambda: results.update(first=registry.start_all()))
    first.start()
    assert inside.wait(PATIENCE)
    second = threading.Thread(target=lambda: results.update(second=registry.start_all()))
    second.start()
    third = threading.Thread(target=lambda: results.update(third=registry.start("b")))
    third.start()
    assert record.lines == ["+a"]
    proceed.set()
    for thread in (first, second, third):
        thread.join(PATIENCE)
    assert results == {"first": [], "second": [], "third": None}
    assert record.lines == ["+a", "+b"]


@pytest.mark.parametrize("workers", [None, 1])
def test_stop_all_makes_a_running_start_all_begin_no_more(record: Any, workers: Any) -> None:
    inside, halted = threading.Event(), threading.Event()
    registry = Registry()

    def hold() -> None:
        inside.set()
        assert halted.wait(PATIENCE)

    registry.register(record.plugin("a", on_start=hold))
    registry.register(record.plugin("b"))
    registry.register(record.plugin("c", ["b"]))
    started: list[Any] = []
    starter = threading.Thread(target=lambda: started.extend(registry.start_all(workers=workers)))
    starter.start()
    assert inside.wait(PATIENCE)

    stopped: list[Any] = []
    original = registry._turns.halt_start

    def halt_and_tell() -> None:
        original()
        halted.set()

    registry._turns.halt_start = halt_and_tell  # type: ignore[method-assign]
    stopper = threading.Thread(target=lambda: stopped.extend(registry.stop_all()))
    stopper.start()
    starter.join(PATIENCE)
    stopper.join(PATIENCE)
    assert record.lines == ["+a", "-a"]
    assert stopped == []
    assert [(type(error), error.plugin) for error in started] == [
        (StartAbandonedError, "b"),
        (StartAbandonedError, "c"),
    ]
    assert "stop_all() was called meanwhile" in str(started[0])


def test_many_threads_starting_and_stopping_at_once_end_in_order(record: Any) -> None:
    registry = Registry()
    for i in range(5):
        registry.register(record.plugin(f"p{i}", [f"p{i - 1}"] if i else []))
    barrier = threading.Barrier(6)

    def work(action: Any) -> None:
        barrier.wait(PATIENCE)
        for _ in range(30):
            action()

    actions = [registry.start_all, registry.stop_all] * 3
    threads = [threading.Thread(target=work, args=(action,)) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    registry.stop_all()
    running: list[str] = []
    for line in record.lines:
        if line[0] == "+":
            assert line == f"+p{len(running)}", "started before what it requires"
            running.append(line[1:])
        else:
            assert line[1:] == running.pop(), "stopped before what requires it"
    assert running == []
