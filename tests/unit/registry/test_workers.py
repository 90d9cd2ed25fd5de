from __future__ import annotations

import threading
from typing import Any

import pytest

from plugkeep import Registry, RequirementFailedError, StartTimeoutError, State

PATIENCE = 30


def test_those_that_do_not_depend_on_one_another_start_side_by_side(record: Any) -> None:
    together = threading.Barrier(5)  # passes only if all five are inside at once
    registry = Registry()
    for i in range(5):
        registry.register(record.plugin(f"p{i}", on_start=lambda: together.wait(PATIENCE)))
    assert registry.start_all(workers=5) == []
    assert registry.stop_all() == []


def test_never_more_than_workers_at_once(record: Any) -> None:
    lock = threading.Lock()
    now: list[int] = [0, 0]
    pair = threading.Barrier(2)

    def count() -> None:
        with lock:
            now[0] += 1
            now[1] = max(now)
        pair.wait(PATIENCE)
        with lock:
            now[0] -= 1

    registry = Registry()
    for i in range(8):
        registry.register(record.plugin(f"p{i}", on_start=count))
    assert registry.start_all(workers=2) == []
    assert now == [0, 2]
    registry.stop_all()


def test_requirements_are_kept(record: Any) -> None:
    registry = Registry()
    registry.register(record.plugin("web", ["api", "auth"]))
    registry.register(record.plugin("api", ["db"]))
    registry.register(record.plugin("auth", ["db"]))
    registry.register(record.plugin("db"))
    assert registry.start_all(workers=4) == []
    assert record.lines[0] == "+db"
    assert record.lines[3] == "+web"
    record.lines.clear()
    registry.stop_all()
    assert record.lines[0] == "-web"
    assert record.lines[3] == "-db"


def test_one_worker_keeps_the_plain_order(record: Any) -> None:
    registry = Registry()
    for name, requires in [("c", ["a"]), ("b", []), ("a", [])]:
        registry.register(record.plugin(name, requires))
    registry.start_all(workers=1)
    assert record.lines == ["+b", "+a", "+c"]
    registry.stop_all()


def test_stop_is_the_reverse_of_the_order_in_which_they_came_up(record: Any) -> None:
    second = threading.Event()
    registry = Registry()
    registry.register(record.plugin("slow", on_start=lambda: second.wait(PATIENCE)))
    registry.register(record.plugin("quick"))
    registry.subscribe(
        lambda event: (
            second.set() if event.plugin == "quick" and type(event).__name__ == "Started" else None
        )
    )
    registry.start_all(workers=2)
    record.lines.clear()
    registry.stop_all()
    assert record.lines == ["-slow", "-quick"]


def test_failures_are_collected_and_hinder_only_those_that_require_them(record: Any) -> None:
    def fail() -> None:
        raise OSError("no")

    registry = Registry()
    registry.register(record.plugin("db", on_start=fail))
    registry.register(record.plugin("api", ["db"]))
    registry.register(record.plugin("log"))
    errors = registry.start_all(workers=3)
    assert [error.plugin for error in errors] == ["db", "api"]
    assert isinstance(errors[1], RequirementFailedError)
    assert registry.state("log") is State.RUNNING
    registry.stop_all()


def test_a_hung_one_makes_room_for_others_when_its_time_is_up(record: Any) -> None:
    hold = threading.Event()
    registry = Registry()
    registry.register(
        record.plugin("hung", on_start=lambda: hold.wait(PATIENCE), start_timeout=0.02)
    )
    for i in range(3):
        registry.register(record.plugin(f"p{i}"))
    (error,) = registry.start_all(workers=1)
    assert isinstance(error, StartTimeoutError)
    assert record.lines == ["+hung", "+p0", "+p1", "+p2"]
    hold.set()
    registry.stop_all()


def test_an_interrupt_in_one_lets_those_under_way_finish_and_begins_no_more(record: Any) -> None:
    inside = threading.Event()
    done = threading.Event()

    def interrupt() -> None:
        assert inside.wait(PATIENCE)
        raise KeyboardInterrupt

    def finish() -> None:
        inside.set()
        assert done.wait(PATIENCE)

    registry = Registry()
    registry.subscribe(lambda event: done.set() if type(event).__name__ == "StartFailed" else None)
    registry.register(record.plugin("a", on_start=interrupt))
    registry.register(record.plugin("b", on_start=finish))
    registry.register(record.plugin("c"))
    with pytest.raises(KeyboardInterrupt):
        registry.start_all(workers=2)
    assert [registry.state(name) for name in "abc"] == ["failed", "running", "registered"]
    registry.stop_all()


def test_methods_run_on_daemon_threads(record: Any) -> None:
    registry = Registry()
    registry.register(record.plugin("a"))
    registry.start_all(workers=2)
    assert record.threads["+a"] is not threading.current_thread()
    assert record.threads["+a"].daemon
    registry.stop_all()


def test_workers_of_the_registry_hold_for_with_too(record: Any) -> None:
    together = threading.Barrier(3)
    registry = Registry(workers=3)
    for i in range(3):
        registry.register(record.plugin(f"p{i}", on_start=lambda: together.wait(PATIENCE)))
    with registry:
        assert registry.state("p2") is State.RUNNING
    with pytest.raises(ValueError, match="workers is 0"):
        Registry(workers=0)


@pytest.mark.parametrize("workers", [0, -1, 2.5, "8", True])
def test_workers_has_to_be_a_number_of_workers(record: Any, workers: Any) -> None:
    registry = Registry()
    registry.register(record.plugin("a"))
    with pytest.raises(ValueError, match="workers is"):
        registry.start_all(workers=workers)
    assert record.lines == []
