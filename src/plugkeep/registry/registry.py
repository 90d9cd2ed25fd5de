"""The registry: owns plugins, starts them in order and stops them in reverse."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from plugkeep.channel.calls import Calls
from plugkeep.deadlines import apportioned, stopping_by
from plugkeep.errors import PluginError, PluginFailedError, RegistryError, RequiredError
from plugkeep.lifecycle import UP, State, check_timeout
from plugkeep.order import Frontier, closure, start_order, users
from plugkeep.plugin import Plugin, ProtocolOf
from plugkeep.registry.campaign import abandoned, run_apart, run_one
from plugkeep.registry.ledger import START, STOP, Entry, Ledger, Step
from plugkeep.registry.turns import Operation, Turns

if TYPE_CHECKING:
    from typing import Self

    from plugkeep.events import Event
    from plugkeep.registry.attending import Attendant
    from plugkeep.registry.recovery import Plan, Recovery
    from plugkeep.registry.reloading import Exchange

T = TypeVar("T")


class Registry:
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

    def __init__(
        self,
        *,
        start_timeout: float | None = None,
        stop_timeout: float | None = None,
        workers: int | None = None,
    ) -> None:
        self.workers = check_workers(workers)
        self._ledger = Ledger(start_timeout=start_timeout, stop_timeout=stop_timeout)
        self._plugins = self._ledger.plugins
        self._turns = Turns()

    # --- registering ----------------------------------------------------------------------

    def register(
        self, plugin: Plugin, *, name: str | None = None, requires: Iterable[str] = ()
    ) -> None:
        """Add a plugin at the end of the order of registration.

        Its key is `name`, or else the plugin's own name, read once. It requires the plugins named
        in `requires` and those that its own attribute `requires` names; they may come later.

        Raises InvalidPluginError for what is no plugin, InvalidNameError for a name that cannot
        be one and AlreadyRegisteredError for one that is taken.
        """
        self._ledger.add(plugin, name, requires)

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

    def replace(self, name: str, plugin: Plugin, *, requires: Iterable[str] = ()) -> Plugin:
        """Put another plugin in the place of `name` and return the one that was there.

        It keeps the name and the place in the order; what it requires is read anew. Raises
        PluginNotFoundError, InvalidPluginError, and LifecycleError while the old one is running.
        """
        return self._ledger.replace(name, plugin, requires)

    def discover_from_values(self, *values: object) -> int:
        """Register each value that is a plugin and return how many were.

        Passed over silently: None, classes, values that lack a member of the contract or have a
        name that cannot be one, and names that are taken.
        """
        registered = 0
        for value in values:
            try:
                self.register(value)  # type: ignore[arg-type]  # that is the question
            except RegistryError:
                continue
            registered += 1
        return registered

    # --- looking up -----------------------------------------------------------------------

    def get(self, name: str) -> Plugin | None:
        """Return the plugin of that name, or None."""
        return self._plugins.get(name)

    def __getitem__(self, name: str) -> Plugin:
        """Return the plugin of that name, or raise PluginNotFoundError, a KeyError."""
        return self._ledger.find(name).plugin

    def names(self) -> list[str]:
        """Return the names in order of registration."""
        return list(self._plugins)

    def __contains__(self, name: object) -> bool:
        return name in self._plugins

    def __len__(self) -> int:
        return len(self._plugins)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __repr__(self) -> str:
        up = sum(entry.state in UP for entry in self._ledger.entries.copy().values())
        return f"<Registry of {len(self)} plugins, {up} running>"

    def state(self, name: str) -> State:
        """Return where a plugin is in its life; PluginNotFoundError for an unknown name."""
        return self._ledger.find(name).state

    def unreturned(self) -> list[str]:
        """Return those whose start or stop was given up, and has not returned so far."""
        return self._ledger.unreturned()

    def requirements(self) -> Mapping[str, Sequence[str]]:
        """Return what each plugin requires, in order of registration."""
        return self._ledger.requirements()

    def start_order(self) -> list[str]:
        """Return all names in the order in which they start; RequirementError if there is none."""
        return start_order(self._ledger.requirements())

    def providing(self, protocol: ProtocolOf[T]) -> Iterator[T]:
        """Yield each running plugin that implements `protocol`, in order of registration.

        The protocol has to be decorated with `typing.runtime_checkable`; a class will do, too. For
        a sandbox whose plugin has announced methods that fit, it is a proxy with these methods.
        """
        for name in self.names():
            capable = self.capability(name, protocol)
            if capable is not None:
                yield capable

    def capability(self, name: str, protocol: ProtocolOf[T]) -> T | None:
        """Return the plugin if it is running and implements `protocol`, else None.

        Of a plugin in a sandbox what it has announced decides; what comes back is a typed proxy.
        """
        entry = self._ledger.entries.get(name)
        if entry is None or entry.state not in UP:
            return None
        if isinstance(entry.plugin, Calls):
            proxy = entry.plugin.implementing(protocol)
            if proxy is not None:
                return proxy
        try:
            capable = isinstance(entry.plugin, protocol)  # type: ignore[arg-type]
        except TypeError as error:
            raise TypeError(
                f"{protocol!r} cannot be asked for: {error}; a protocol needs the decorator "
                f"@typing.runtime_checkable"
            ) from None
        return entry.plugin if capable else None  # type: ignore[return-value]

    def subscribe(self, listener: Callable[[Event], object]) -> Callable[[], None]:
        """Call `listener` with every event from now on; what is returned ends that.

        It is called on the thread where the event happens. What it raises is logged and harms
        nobody.
        """
        return self._ledger.subscribe(listener)

    def admit(self, check: Callable[[str, Plugin], object]) -> Callable[[], None]:
        """Call ``check(name, plugin)`` when a plugin's start has returned, before it is running.

        What it raises is why that start fails; the plugin is stopped again. Where a plugin has to
        fit in with others, such as by its routes, this is the place to say that it does not. What
        is returned ends it.
        """
        return self._ledger.add_check(check)

    def attend(self, attendant: Attendant) -> Callable[[], None]:
        """Have `attendant` do something after each start and before each stop of a plugin.

        Its ``async started(name, plugin)`` is awaited when a plugin's start has returned, before
        it is running and before any check of `admit`; what it raises is why that start fails. Its
        ``async stopping(name, plugin)`` is awaited before the plugin's stop is called, which it is
        whatever that raises; but its stop has failed, then. The asynchronous forms do so, the
        plain ones have no event loop to do it in. What is returned ends it.
        """
        return self._ledger.attend(attendant)

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
        self._turns.halt_start()
        seconds = check_timeout("timeout", timeout) if timeout != 0 else 0.0
        with self._turns.turn("stop_all") as operation:
            self._ledger.restart_no_more()
            entries = self._ledger.to_stop()[::-1]
            if seconds is None:
                return self._stop(entries, operation)
            errors: list[PluginError] = []
            for batch, deadline in apportioned(entries, seconds):
                agenda, count = self._agenda(STOP, list(batch)), len(batch)
                with stopping_by(deadline):
                    errors += run_apart(self._ledger, STOP, agenda, operation, count)
            return errors

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

    def report_failure(
        self, name: str, error: BaseException, *, plugin: Plugin | None = None, ended: bool = False
    ) -> bool:
        """Note that a plugin has failed while it was running.

        It is failed at once. Its stop is called when it is stopped, or brought back, next; unless
        it has `ended`, so that there is nothing to be stopped. Returns False, having done nothing,
        where it is not running (any more), or is not `plugin`.
        """
        entry = self._ledger.entries.get(name)
        if entry is None:
            return False
        return self._ledger.fail(entry, plugin, _failure(name, error), ended=ended)

    def failure(self, name: str) -> PluginError | None:
        """Return what has gone wrong with a plugin last; None: nothing since it came up."""
        return self._ledger.find(name).error

    def degradation(self, name: str) -> str | None:
        """Return why a plugin is degraded; None: it is not."""
        entry = self._ledger.find(name)
        return entry.reason if entry.state is State.DEGRADED else None

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
                        error = _failure(name, raised)
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
                        error = _failure(name, raised)
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
        self._turns.halt_start()
        seconds = check_timeout("timeout", timeout) if timeout != 0 else 0.0
        async with aio.turn(self._turns, "astop_all") as operation:
            self._ledger.restart_no_more()
            entries = self._ledger.to_stop()[::-1]
            if seconds is None:
                return await self._arun(STOP, entries, operation)
            errors: list[PluginError] = []
            for batch, deadline in apportioned(entries, seconds):
                with stopping_by(deadline):
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

    # --- what they have in common -----------------------------------------------------------

    def _start(
        self, order: list[str], operation: Operation, workers: int | None = None
    ) -> list[PluginError]:
        entries = self._not_up(order)
        errors: list[PluginError] = []
        if workers is not None:
            agenda = self._agenda(START, entries)
            errors = run_apart(self._ledger, START, agenda, operation, workers)
        else:
            for entry in entries:
                if operation.halted:
                    break
                run_one(self._ledger, START, entry, operation, errors)
        return errors + self._not_attempted(operation, entries, errors)

    def _step(self, step: Step, entries: list[Entry], operation: Operation) -> list[PluginError]:
        if step is START:
            return self._start([entry.name for entry in entries], operation, self.workers)
        return self._stop(entries, operation, step)

    def _stop(
        self, entries: list[Entry], operation: Operation, step: Step = STOP
    ) -> list[PluginError]:
        errors: list[PluginError] = []
        for entry in entries:
            run_one(self._ledger, step, entry, operation, errors)
        return errors

    async def _arun(
        self, step: Step, entries: list[Entry], operation: Operation, workers: int = 1
    ) -> list[PluginError]:
        from plugkeep.registry import aio

        agenda = self._agenda(step, entries)
        errors = await aio.run(self._ledger, step, agenda, operation, workers)
        return errors + self._not_attempted(operation, entries, errors)

    def _agenda(self, step: Step, entries: list[Entry]) -> Frontier:
        return Frontier({e.name: e.requires if step is START else () for e in entries})

    def _not_up(self, names: list[str]) -> list[Entry]:
        entries = map(self._ledger.entries.get, names)
        return [entry for entry in entries if entry is not None and entry.state not in UP]

    def _not_attempted(
        self, operation: Operation, entries: list[Entry], errors: list[PluginError]
    ) -> list[PluginError]:
        if not operation.halted:
            return []
        reported = {error.plugin for error in errors}
        return abandoned([e.name for e in entries if e.state not in UP and e.name not in reported])

    def _needed_by(self, name: str) -> list[str]:
        self._ledger.find(name)
        requirements = self._ledger.requirements()
        needed = closure(name, requirements)
        return start_order({each: requirements[each] for each in requirements if each in needed})

    def _needing(self, name: str) -> list[Entry]:
        self._ledger.find(name)
        running = {entry.name: entry for entry in self._ledger.to_stop()}
        dependents: dict[str, list[str]] = {}
        for entry in running.values():
            for requirement in entry.requires:
                dependents.setdefault(requirement, []).append(entry.name)
        needing = closure(name, dependents)
        return [entry for each, entry in running.items() if each in needing][::-1]

    def _refuse_while_required(self, entry: Entry) -> None:
        if entry.state not in UP:
            return
        users = tuple(
            each
            for each in self._ledger.dependents(entry.name)
            if self._ledger.find(each).state in UP
        )
        if users:
            raise RequiredError(
                f"plugin {entry.name!r} cannot be unregistered while running plugins require it: "
                f"{', '.join(users)}; stop them first",
                plugin=entry.name,
                dependents=users,
            )

    def _finish_unregister(self, entry: Entry, errors: list[PluginError]) -> None:
        self._ledger.remove(entry)
        raise_for(entry.name, errors)


def _failure(name: str, error: BaseException) -> PluginError:
    """Return `error` as one that names the plugin."""
    if isinstance(error, PluginError) and error.plugin == name:
        return error
    failure = PluginFailedError(
        f"plugin {name!r} has failed: {type(error).__name__}: {error}", plugin=name
    )
    failure.__cause__ = error
    return failure


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
    with suppress(StopIteration):
        step, entries = next(plan)
        while True:
            came = perform(step, entries)
            errors += came
            step, entries = plan.send(came)
    return errors


def check_workers(workers: int | None) -> int | None:
    """Return `workers` if it is None or a whole number above 0, else raise ValueError."""
    if workers is None:
        return None
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
        raise ValueError(
            f"workers is {workers!r}; it takes how many plugins may start side by side, 1 or more"
        )
    return workers


def raise_for(name: str, errors: list[PluginError]) -> None:
    """Raise the error of plugin `name`, else the first; what else went wrong as notes."""
    if not errors:
        return
    chosen = next((error for error in errors if error.plugin == name), errors[0])
    others = [error for error in errors if error is not chosen]
    if others and chosen.__cause__ is None:
        chosen.__cause__ = others[0]
    add_notes(chosen, others)
    raise chosen


def raise_or_note(errors: list[PluginError], raised: BaseException | None) -> None:
    """Add the errors of a stop to what has been raised, or raise them if nothing has."""
    if raised is not None:
        add_notes(raised, errors)
    elif errors:
        raise ExceptionGroup(f"{_plugins(errors)} failed to stop", errors)


def add_notes(error: BaseException, others: Iterable[PluginError]) -> None:
    """Note on `error` what else went wrong."""
    for other in others:
        error.add_note(str(other))


def not_started(errors: list[PluginError]) -> str:
    """Return the headline for a strict start that failed."""
    return f"{_plugins(errors)} did not start, so all were stopped again"


def _plugins(errors: list[PluginError]) -> str:
    return f"{len(errors)} plugin{'s' if len(errors) > 1 else ''}"
