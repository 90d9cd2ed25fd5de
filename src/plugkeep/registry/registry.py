"""The registry: owns plugins, starts them in order and stops them in reverse."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from contextlib import closing, suppress
from functools import cached_property
from time import monotonic, perf_counter
from types import TracebackType
from typing import TYPE_CHECKING

from plugkeep.deadlines import apportioned, stopping_by
from plugkeep.errors import PluginError
from plugkeep.lifecycle import check_timeout
from plugkeep.order import start_order, users
from plugkeep.plugin import Plugin
from plugkeep.registry.calls import CLEARING
from plugkeep.registry.campaign import run_apart, run_one
from plugkeep.registry.directory import check_workers, failure_of
from plugkeep.registry.ledger import START, STOP, Entry, Step
from plugkeep.registry.operations import Operations
from plugkeep.registry.outcomes import add_notes, not_started, raise_for, raise_or_note

if TYPE_CHECKING:
    from typing import Self

    from plugkeep.registry.recovery import Plan, Recovery
    from plugkeep.registry.reloading import Exchange


class Registry(Operations):
    """Plugins by name, and their lives.

    Times are in seconds. `start_timeout` and `stop_timeout` limit each plugin's start and stop,
    None meaning no limit; a plugin's attributes of the same names go before them. `workers` is
    how many plugins may start side by side, None meaning one after another.

    All methods are safe from any thread. One operation that starts or stops plugins runs at a
    time and others wait for it, except that `stop_all` first makes a running `start_all` begin
    no more plugins. From inside a plugin's own start or stop, and from listeners, such operations
    raise ReentrantError, while registering is allowed.

    As a context manager it is strict: on entry all plugins start or none stays started, and on
    exit all are stopped.
    """

    def unregister(self, name: str) -> None:
        """Remove a plugin; a running one is stopped first. An unknown name does nothing.

        Raises RequiredError, having changed nothing, while running plugins require it; and
        StopError where its stop failed, having removed it all the same.
        """
        entry = self._ledger.entries.get(name)
        if entry is None:
            return
        if not entry.busy and not entry.to_stop:
            self._ledger.remove(entry)
            return
        with self._turns.turn("unregister") as operation:
            self._refuse_while_required(entry)
            errors: list[PluginError] = []
            run_one(self._ledger, STOP, entry, operation, errors)
            self._finish_unregister(entry, errors)

    # --- all ------------------------------------------------------------------------------

    def start_all(self, *, workers: int | None = None) -> list[PluginError]:
        """Start every plugin that is not running, in order, and return what went wrong.

        All are attempted, but for those whose requirement failed, which are reported as such.
        With `workers`, here or of the registry, up to so many plugins that do not depend on one
        another start side by side.

        Raises RequirementError, before anything starts, where requirements are missing or form a
        cycle. What is no mere failure of a plugin (a Ctrl-C) marks it failed and is raised.
        """
        workers = check_workers(self.workers if workers is None else workers)
        with self._turns.turn("start_all", starts=True) as operation:
            return self._start(start_order(self._ledger.requirements()), operation, workers)

    def stop_all(self, *, timeout: float | None = None) -> list[PluginError]:
        """Stop every running plugin, the last started first, and return what went wrong.

        All are attempted. A plugin that did not start is not stopped.

        `timeout` is how many seconds all of it may take, whatever the plugins' own limits. Each
        one's stop has half of what is left then, on a thread of its own; sandboxes are ended by
        force in time. What is left when the time is up is stopped all at once, without waiting.
        """
        self._turns.refuse_inside("stop_all")
        seconds, deadline = self._make_way(timeout)
        with self._turns.turn("stop_all", patience=seconds + CLEARING) as operation:
            self._ledger.restart_no_more()
            entries = self._ledger.to_stop()[::-1]
            if seconds == math.inf:
                return self._stop(entries, operation)
            errors: list[PluginError] = []
            for batch, by in apportioned(entries, deadline):
                agenda, count = self._agenda(STOP, list(batch)), len(batch)
                with stopping_by(by):
                    errors += run_apart(self._ledger, STOP, agenda, operation, count)
            return errors

    def _make_way(self, timeout: float | None) -> tuple[float, float]:
        """Have what is being done just now come to its end, in half of the time that there is.

        Return how many seconds there are for stopping all (infinite: no limit), and when they end.
        """
        limit = check_timeout("timeout", timeout) if timeout != 0 else 0.0
        seconds = math.inf if limit is None else limit
        self._turns.halt_start()
        if seconds < math.inf:
            self._turns.hasten(perf_counter() + seconds / 2)
        return seconds, monotonic() + seconds

    def __enter__(self) -> Self:
        try:
            errors = self.start_all()
        except PluginError:
            raise  # before anything has started
        except BaseException as cause:
            add_notes(cause, self.stop_all())
            raise
        if errors:
            raise ExceptionGroup(not_started(errors), [*errors, *self.stop_all()])
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        raise_or_note(self.stop_all(), error)

    # --- one ------------------------------------------------------------------------------

    def start(self, name: str) -> None:
        """Start a plugin, and before it what it requires; nothing if it is running.

        Raises StartError (or one of its kinds), PluginNotFoundError or RequirementError.
        """
        with self._turns.turn("start", starts=True) as operation:
            raise_for(name, self._start(self._needed_by(name), operation))

    def stop(self, name: str) -> None:
        """Stop a plugin, and before it what requires it; nothing if it is not running.

        Raises StopError (or one of its kinds), once all have been attempted, or
        PluginNotFoundError.
        """
        with self._turns.turn("stop") as operation:
            self._ledger.restart_no_more(*users(name, self._ledger.requirements()))
            raise_for(name, self._stop(self._needing(name), operation))

    # --- supervision ----------------------------------------------------------------------

    def reload(
        self, name: str, plugin: Plugin, *, check: Callable[[Plugin], object] = lambda _: None
    ) -> None:
        """Put `plugin` in the place of the one called `name`, which goes on until that is up.

        It is started beside the old one, and `check` is called with it. Then the two change
        places at once, for calls (of sandboxes), for routes, and for whoever looks it up; and the
        old one is stopped, once the calls that it has under way are over. What goes wrong before
        that is raised, with the new one stopped again and nothing changed.

        Raises PluginNotFoundError, LifecycleError where the old one is not running, InvalidPlugin-
        Error, StartError, and what `check` raises, as a StartError.
        """
        from plugkeep.registry.reloading import exchange

        with self._turns.turn("reload"):
            apart = self._apart(name, plugin)
            steps: dict[str, Callable[[], object]] = {
                "start": lambda: apart.start(name),
                "check": lambda: check(plugin),
                "stop": lambda: apart.stop(name),
            }
            task, error = exchange(self._ledger, name, apart), None
            try:
                while (step := _next(task, error)) is not None:
                    try:
                        error = None
                        steps[step]()
                    except Exception as raised:
                        error = failure_of(name, raised)
            except BaseException:
                apart.stop_all()  # whichever of the two is there just now
                raise

    async def areload(
        self, name: str, plugin: Plugin, *, check: Callable[[Plugin], object] = lambda _: None
    ) -> None:
        """Like `reload`; `check` is called on a thread of its own."""
        from asyncio import to_thread

        from plugkeep.registry import aio
        from plugkeep.registry.reloading import exchange

        async with aio.turn(self._turns, "areload"):
            apart = self._apart(name, plugin)
            steps: dict[str, Callable[[], Awaitable[object]]] = {
                "start": lambda: apart.astart(name),
                "check": lambda: to_thread(check, plugin),
                "stop": lambda: apart.astop(name),
            }
            task, error = exchange(self._ledger, name, apart), None
            try:
                while (step := _next(task, error)) is not None:
                    try:
                        error = None
                        await steps[step]()
                    except Exception as raised:
                        error = failure_of(name, raised)
            except BaseException:
                await apart.astop_all()
                raise

    def _apart(self, name: str, plugin: Plugin) -> Registry:
        """Return a registry with nothing but `plugin`, under the same limits."""
        limits = self._ledger.timeouts
        apart = Registry(start_timeout=limits["start_timeout"], stop_timeout=limits["stop_timeout"])
        apart._ledger.add(plugin, name, (), alone=True)
        return apart

    @cached_property
    def recovery(self) -> Recovery:
        """What a supervisor does with the plugins."""
        from plugkeep.registry.recovery import Recovery

        return Recovery(self._ledger)

    def carry_out(self, plan: Plan) -> list[PluginError]:
        """Do what `plan` says, as one operation; return what went wrong."""
        with self._turns.turn("a restart", starts=True) as operation:
            return _driven(plan, lambda step, entries: self._step(step, entries, operation))

    async def acarry_out(self, plan: Plan) -> list[PluginError]:
        """Like `carry_out`, for hosts that run an event loop."""
        from plugkeep.registry import aio

        async with aio.turn(self._turns, "a restart", starts=True) as operation:
            return await aio.driven(
                plan, lambda step, entries: self._arun(step, entries, operation)
            )

    # --- the same, for hosts that run an event loop -----------------------------------------

    async def astart_all(self, *, workers: int | None = None) -> list[PluginError]:
        """Like `start_all`; plain methods run on threads of their own, never on the loop."""
        from plugkeep.registry import aio

        workers = check_workers(self.workers if workers is None else workers)
        async with aio.turn(self._turns, "astart_all", starts=True) as operation:
            names = start_order(self._ledger.requirements())
            return await self._arun(START, self._not_up(names), operation, workers or 1)

    async def astop_all(
        self,
        *,
        timeout: float | None = None,  # noqa: ASYNC109  # to be cancelled would not stop them
    ) -> list[PluginError]:
        """Like `stop_all`."""
        from plugkeep.registry import aio

        self._turns.refuse_inside("astop_all")
        seconds, deadline = self._make_way(timeout)
        async with aio.turn(self._turns, "astop_all", patience=seconds + CLEARING) as operation:
            self._ledger.restart_no_more()
            entries = self._ledger.to_stop()[::-1]
            if seconds == math.inf:
                return await self._arun(STOP, entries, operation)
            errors: list[PluginError] = []
            for batch, by in apportioned(entries, deadline):
                with stopping_by(by):
                    errors += await self._arun(STOP, list(batch), operation, len(batch))
            return errors

    async def astart(self, name: str) -> None:
        """Like `start`."""
        from plugkeep.registry import aio

        async with aio.turn(self._turns, "astart", starts=True) as operation:
            entries = self._not_up(self._needed_by(name))
            raise_for(name, await self._arun(START, entries, operation))

    async def astop(self, name: str) -> None:
        """Like `stop`."""
        from plugkeep.registry import aio

        async with aio.turn(self._turns, "astop") as operation:
            self._ledger.restart_no_more(*users(name, self._ledger.requirements()))
            raise_for(name, await self._arun(STOP, self._needing(name), operation))

    async def aunregister(self, name: str) -> None:
        """Like `unregister`."""
        from plugkeep.registry import aio

        entry = self._ledger.entries.get(name)
        if entry is None:
            return
        if not entry.busy and not entry.to_stop:
            self._ledger.remove(entry)
            return
        async with aio.turn(self._turns, "aunregister") as operation:
            self._refuse_while_required(entry)
            self._finish_unregister(entry, await self._arun(STOP, [entry], operation))

    async def __aenter__(self) -> Self:
        try:
            errors = await self.astart_all()
        except PluginError:
            raise  # before anything has started
        except BaseException as cause:
            add_notes(cause, await self.astop_all())
            raise
        if errors:
            raise ExceptionGroup(not_started(errors), [*errors, *await self.astop_all()])
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        raise_or_note(await self.astop_all(), error)


def _next(task: Exchange, error: PluginError | None) -> str | None:
    """Return what is to be done next, given what the last step came to; None: all is done."""
    try:
        return task.send(error)
    except StopIteration:
        return None


def _driven(
    plan: Plan, perform: Callable[[Step, list[Entry]], list[PluginError]]
) -> list[PluginError]:
    """Do what `plan` says."""
    errors: list[PluginError] = []
    with closing(plan), suppress(StopIteration):
        step, entries = next(plan)
        while True:
            came = perform(step, entries)
            errors += came
            step, entries = plan.send(came)
    return errors
