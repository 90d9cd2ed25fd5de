from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Coroutine
from typing import Any

import pytest

from plugkeep import (
    ReentrantError,
    Registry,
    RequirementError,
    StartError,
    StartTimeoutError,
    State,
    StillBusyError,
    StopTimeoutError,
    events,
)

PATIENCE = 30


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a test on a loop, bounded; nothing may be left on it."""

    async def bounded() -> None:
        async with asyncio.timeout(PATIENCE):
            await main
            while others := asyncio.all_tasks() - {asyncio.current_task()}:
                await asyncio.wait(others)

    asyncio.run(bounded())


def test_plain_and_asynchronous_plugins_start_and_stop_in_order(record: Any) -> None:
    async def main() -> None:
        registry = Registry()
        registry.register(record.async_plugin("web", ["db"]))
        registry.register(record.plugin("db"))
        registry.register(record.async_plugin("log"))
        assert await registry.astart_all() == []
        assert await registry.astart_all() == []
        assert await registry.astop_all() == []
        assert await registry.astop_all() == []

    run(main())
    assert record.lines == ["+db", "+web", "+log", "-log", "-web", "-db"]


def test_plain_methods_never_run_on_the_loops_thread(record: Any) -> None:
    ticks: list[int] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        ticked = threading.Event()

        def hold() -> None:  # returns only if the loop runs meanwhile
            loop.call_soon_threadsafe(ticked.set)
            assert ticked.wait(PATIENCE)
            ticks.append(1)

        registry = Registry()
        registry.register(record.plugin("a", on_start=hold, on_stop=hold))
        async with registry:
            pass

    run(main())
    assert len(ticks) == 2
    assert record.threads["+a"] is not threading.current_thread()
    assert record.threads["+a"].daemon


def test_start_and_stop_run_in_one_task_and_context(record: Any) -> None:
    """So a task group or a scope entered by start can be left by stop."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")

    class Scoped:
        name = "scoped"

        async def start(self) -> None:
            self.group = asyncio.TaskGroup()
            await self.group.__aenter__()
            self.child = self.group.create_task(asyncio.sleep(0))
            variable.set("kept")
            self.task = asyncio.current_task()

        async def stop(self) -> None:
            assert asyncio.current_task() is self.task
            assert variable.get() == "kept"
            await self.group.__aexit__(None, None, None)

    async def main() -> None:
        registry = Registry()
        plugin = Scoped()
        registry.register(plugin)
        async with registry:
            await plugin.child
        assert await registry.astart_all() == []
        assert await registry.astop_all() == []

    run(main())


def test_a_timeout_scope_of_anyio_can_span_start_and_stop() -> None:
    import anyio

    class Grouped:
        name = "grouped"

        async def start(self) -> None:
            self.group = anyio.create_task_group()
            await self.group.__aenter__()
            self.group.start_soon(anyio.sleep_forever)

        async def stop(self) -> None:
            self.group.cancel_scope.cancel()
            await self.group.__aexit__(None, None, None)

    async def main() -> None:
        registry = Registry()
        registry.register(Grouped())
        async with registry:
            assert registry.state("grouped") is State.RUNNING
        assert registry.state("grouped") is State.STOPPED

    run(main())


def test_errors_are_collected(record: Any) -> None:
    async def fail() -> None:
        raise OSError("no")

    async def main() -> None:
        registry = Registry()
        registry.register(record.async_plugin("a", on_start=fail))
        registry.register(record.async_plugin("b", ["a"]))
        registry.register(record.async_plugin("c", on_stop=fail))
        errors = await registry.astart_all()
        assert [error.plugin for error in errors] == ["a", "b"]
        assert isinstance(errors[0].__cause__, OSError)
        (error,) = await registry.astop_all()
        assert error.plugin == "c"
        assert registry.state("c") is State.FAILED

    run(main())
    assert record.lines == ["+a", "+c", "-c"]


def test_one_by_name(record: Any) -> None:
    async def main() -> None:
        registry = Registry()
        registry.register(record.async_plugin("web", ["db"]))
        registry.register(record.async_plugin("db"))
        registry.register(record.async_plugin("other"))
        await registry.astart("web")
        await registry.astop("db")
        await registry.astart("db")
        await registry.aunregister("db")
        await registry.aunregister("db")
        assert "db" not in registry
        with pytest.raises(RequirementError):
            await registry.astart("web")

    run(main())
    assert record.lines == ["+db", "+web", "-web", "-db", "+db", "-db"]


def test_workers_start_side_by_side(record: Any) -> None:
    async def main() -> None:
        together = asyncio.Barrier(5)
        registry = Registry()
        for i in range(5):
            registry.register(record.async_plugin(f"p{i}", on_start=together.wait))
        assert await registry.astart_all(workers=5) == []
        assert await registry.astop_all() == []

    run(main())


def test_one_that_exceeds_its_limit_is_cancelled_and_failed(record: Any) -> None:
    cancelled: list[str] = []

    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append("yes")
            raise

    async def main() -> None:
        registry = Registry(start_timeout=0.02)
        registry.register(record.async_plugin("slow", on_start=hang))
        registry.register(record.async_plugin("next"))
        (error,) = await registry.astart_all()
        assert isinstance(error, StartTimeoutError)
        assert registry.state("slow") is State.FAILED
        assert registry.state("next") is State.RUNNING
        await registry.astop_all()

    run(main())
    assert cancelled == ["yes"]
    assert record.lines == ["+slow", "+next", "-next"]


def test_one_that_ignores_being_cancelled_holds_up_nobody(record: Any) -> None:
    async def main() -> None:
        release = asyncio.Event()
        late = asyncio.Event()

        async def stubborn() -> None:
            while not release.is_set():
                try:
                    await release.wait()
                except asyncio.CancelledError:
                    record.note("ignored")

        registry = Registry(start_timeout=0.02)
        registry.subscribe(lambda e: late.set() if isinstance(e, events.LateReturn) else None)
        registry.register(record.async_plugin("stubborn", on_start=stubborn))
        registry.register(record.async_plugin("next"))
        (error,) = await registry.astart_all()
        assert isinstance(error, StartTimeoutError)
        assert registry.state("next") is State.RUNNING
        (busy,) = await registry.astart_all()
        assert isinstance(busy, StillBusyError)
        release.set()
        await late.wait()
        assert await registry.astop_all() == []
        registry["stubborn"].start_timeout = PATIENCE  # type: ignore[attr-defined]
        assert await registry.astart_all() == []
        assert await registry.astop_all() == []

    run(main())
    # It was stopped there and then when its start returned after all.
    assert record.lines.index("-stubborn") > record.lines.index("ignored")
    assert record.lines.count("+stubborn") == record.lines.count("-stubborn") == 2


def test_the_late_stop_of_one_that_ignored_it_is_not_cancelled(record: Any) -> None:
    cancelling: list[int] = []

    async def main() -> None:
        late = asyncio.Event()

        async def stubborn() -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                return

        async def look() -> None:
            cancelling.append(asyncio.current_task().cancelling())  # type: ignore[union-attr]

        registry = Registry(start_timeout=0.02)
        registry.subscribe(lambda e: late.set() if isinstance(e, events.LateReturn) else None)
        registry.register(record.async_plugin("a", on_start=stubborn, on_stop=look))
        assert len(await registry.astart_all()) == 1
        await late.wait()

    run(main())
    assert cancelling == [0]


def test_a_start_that_awaits_a_cancelled_task_fails_alone(record: Any) -> None:
    async def main() -> None:
        async def await_cancelled() -> None:
            task = asyncio.create_task(asyncio.Event().wait())
            task.cancel()
            await task

        registry = Registry()
        registry.register(record.async_plugin("a", on_start=await_cancelled))
        registry.register(record.async_plugin("b"))
        (error,) = await registry.astart_all()
        assert isinstance(error.__cause__, asyncio.CancelledError)
        assert registry.state("b") is State.RUNNING
        await registry.astop_all()

    run(main())


def test_a_loop_that_shuts_down_in_the_middle_of_a_start_is_not_held_up(record: Any) -> None:
    async def main() -> None:
        inside = asyncio.Event()

        async def hang() -> None:
            inside.set()
            await asyncio.Event().wait()

        registry.register(record.async_plugin("a"))
        registry.register(record.async_plugin("b", on_start=hang))
        starting.append(asyncio.create_task(registry.astart_all()))
        await inside.wait()

    registry = Registry()
    starting: list[asyncio.Task[Any]] = []
    asyncio.run(main())
    assert starting[0].cancelled()
    assert registry.state("b") is State.FAILED
    assert asyncio.run(registry.astop_all()) == []
    assert record.lines == ["+a", "+b", "-a"]


def test_a_stop_that_exceeds_its_limit(record: Any) -> None:
    async def main() -> None:
        registry = Registry(stop_timeout=0.02)
        registry.register(record.async_plugin("slow", on_stop=asyncio.Event().wait))
        await registry.astart_all()
        (error,) = await registry.astop_all()
        assert isinstance(error, StopTimeoutError)

    run(main())


def test_a_plain_start_that_succeeds_late_is_stopped_there_and_then(record: Any) -> None:
    hold = threading.Event()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        late = asyncio.Event()
        registry = Registry(start_timeout=0.02)
        registry.subscribe(
            lambda e: (
                loop.call_soon_threadsafe(late.set) if isinstance(e, events.LateReturn) else None
            )
        )
        registry.register(record.plugin("slow", on_start=lambda: hold.wait(PATIENCE)))
        assert len(await registry.astart_all()) == 1
        hold.set()
        await late.wait()

    run(main())
    assert record.lines == ["+slow", "-slow"]


def test_a_start_all_that_is_cancelled_marks_failed_and_propagates(record: Any) -> None:
    async def main() -> None:
        inside = asyncio.Event()

        async def hang() -> None:
            inside.set()
            await asyncio.Event().wait()

        registry = Registry()
        registry.register(record.async_plugin("a"))
        registry.register(record.async_plugin("b", on_start=hang))
        registry.register(record.async_plugin("c"))
        task = asyncio.create_task(registry.astart_all())
        await inside.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [registry.state(name) for name in "abc"] == ["running", "failed", "registered"]
        assert await registry.astop_all() == []

    run(main())


def test_async_with_rolls_back_when_cancelled(record: Any) -> None:
    async def main() -> None:
        inside = asyncio.Event()

        async def hang() -> None:
            inside.set()
            await asyncio.Event().wait()

        registry = Registry()
        registry.register(record.async_plugin("a"))
        registry.register(record.async_plugin("b", on_start=hang))

        async def strict() -> None:
            async with registry:
                pytest.fail("the body must not run")

        task = asyncio.create_task(strict())
        await inside.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())
    assert record.lines == ["+a", "+b", "-a"]


def test_async_with_starts_all_or_none_and_notes_stop_errors(record: Any) -> None:
    async def fail() -> None:
        raise OSError("no")

    async def main() -> None:
        registry = Registry()
        registry.register(record.async_plugin("a", on_stop=fail))
        with pytest.raises(ZeroDivisionError) as caught:
            async with registry:
                raise ZeroDivisionError
        assert caught.value.__notes__ == ["plugin 'a' failed to stop: OSError: no"]
        registry.register(record.async_plugin("b", on_start=fail))
        with pytest.raises(ExceptionGroup) as group:
            async with registry:
                pytest.fail("the body must not run")
        assert [error.plugin for error in group.value.exceptions] == ["b", "a"]  # type: ignore[attr-defined]

    run(main())


def test_operations_from_inside_are_refused(record: Any) -> None:
    raised: list[BaseException] = []

    async def main() -> None:
        registry = Registry()

        async def reenter() -> None:
            try:
                await registry.astop_all()
            except ReentrantError as error:
                raised.append(error)

        def reenter_plainly() -> None:
            try:
                registry.stop_all()
            except ReentrantError as error:
                raised.append(error)

        registry.register(record.async_plugin("a", on_start=reenter, on_stop=reenter))
        registry.register(record.plugin("b", on_start=reenter_plainly))
        async with registry:
            pass

    run(main())
    assert len(raised) == 3


def test_a_task_that_a_plugin_leaves_behind_may_operate_later(record: Any) -> None:
    async def main() -> None:
        registry = Registry()
        tasks: list[asyncio.Task[Any]] = []
        go = asyncio.Event()

        async def later() -> None:
            await go.wait()
            await registry.astop_all()

        async def leave_behind() -> None:
            tasks.append(asyncio.create_task(later()))

        registry.register(record.async_plugin("a", on_start=leave_behind))
        await registry.astart_all()
        go.set()
        await tasks[0]
        assert registry.state("a") is State.STOPPED

    run(main())


def test_tasks_and_threads_wait_for_one_another(record: Any) -> None:
    async def main() -> None:
        inside, proceed = asyncio.Event(), asyncio.Event()

        async def hold() -> None:
            inside.set()
            await proceed.wait()

        registry = Registry()
        registry.register(record.async_plugin("a", on_start=hold))
        registry.register(record.plugin("b"))
        starting = asyncio.create_task(registry.astart_all())
        await inside.wait()
        from_thread = asyncio.create_task(asyncio.to_thread(registry.start, "b"))
        from_task = asyncio.create_task(registry.astart("b"))
        given_up = asyncio.create_task(registry.astart("b"))
        await asyncio.sleep(0)
        given_up.cancel()
        proceed.set()
        assert await starting == []
        await from_thread
        await from_task
        with pytest.raises(asyncio.CancelledError):
            await given_up
        await registry.astop_all()

    run(main())
    assert record.lines == ["+a", "+b", "-b", "-a"]


def test_astop_all_makes_a_running_astart_all_begin_no_more(record: Any) -> None:
    async def main() -> None:
        inside, proceed = asyncio.Event(), asyncio.Event()

        async def hold() -> None:
            inside.set()
            await proceed.wait()

        registry = Registry()
        registry.register(record.async_plugin("a", on_start=hold))
        registry.register(record.async_plugin("b"))
        starting = asyncio.create_task(registry.astart_all())
        await inside.wait()
        stopping = asyncio.create_task(registry.astop_all())
        await asyncio.sleep(0)
        proceed.set()
        (error,) = await starting
        assert error.plugin == "b"
        assert "stop_all() was called meanwhile" in str(error)
        assert await stopping == []

    run(main())
    assert record.lines == ["+a", "-a"]


def test_what_the_plain_form_cannot_stop_stays_running(record: Any) -> None:
    async def main() -> None:
        registry = Registry()
        registry.register(record.async_plugin("a"))
        await registry.astart_all()
        (error,) = await asyncio.to_thread(registry.stop_all)
        assert "'async with registry'" in str(error)
        assert registry.state("a") is State.RUNNING
        assert await registry.astop_all() == []

    run(main())
    assert record.lines == ["+a", "-a"]


def test_a_thread_bound_start_and_an_asynchronous_stop_leave_no_thread(record: Any) -> None:
    class Mixed:
        name = "mixed"
        thread_bound = True

        def start(self) -> None:
            record.note("+mixed")

        async def stop(self) -> None: ...

    async def main() -> None:
        registry = Registry()
        registry.register(Mixed())
        async with registry:
            pass

    run(main())
    record.threads["+mixed"].join(PATIENCE)
    assert not record.threads["+mixed"].is_alive()


def test_a_registry_outlives_the_loop_it_was_started_on(record: Any) -> None:
    registry = Registry()
    registry.register(record.async_plugin("a"))
    registry.register(record.plugin("b"))
    assert asyncio.run(registry.astart_all()) == []
    assert asyncio.run(registry.astop_all()) == []
    assert asyncio.run(registry.astart_all()) == []
    assert asyncio.run(registry.astop_all()) == []
    assert record.lines == ["+a", "+b", "-b", "-a"] * 2


def test_an_exception_that_is_none_in_a_start_propagates(record: Any) -> None:
    class Stop(BaseException):
        pass

    async def stop() -> None:
        raise Stop

    async def main() -> None:
        registry = Registry()
        registry.register(record.async_plugin("a", on_start=stop))
        with pytest.raises(Stop):
            await registry.astart_all()
        assert registry.state("a") is State.FAILED

    run(main())


def test_a_start_takes_no_arguments_is_explained_here_too() -> None:
    class Demanding:
        name = "demanding"

        async def start(self, when: str) -> None: ...
        async def stop(self) -> None: ...

    async def main() -> None:
        registry = Registry()
        registry.register(Demanding())  # type: ignore[arg-type]
        (error,) = await registry.astart_all()
        assert isinstance(error, StartError)
        assert "start() takes no arguments but self" in str(error)

    run(main())
