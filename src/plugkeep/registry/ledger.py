"""The book: who is registered, in which state, who requires whom, who started after whom.

No plugin method is called from here, and no lock is held while a listener runs. Each operation
on one plugin costs the same whatever the number of plugins.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable
from itertools import count
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from plugkeep.errors import (
    AlreadyRegisteredError,
    InvalidPluginError,
    LifecycleError,
    PluginError,
    PluginNotFoundError,
    RequirementFailedError,
    StartError,
    StartTimeoutError,
    StillBusyError,
    StopError,
    StopTimeoutError,
    did_you_mean,
)
from plugkeep.lifecycle import UP, State, check_timeout, check_transition
from plugkeep.names import check_name, check_requires
from plugkeep.plugin import Plugin, examine
from plugkeep.registry.news import ERROR, News, log
from plugkeep.signals import foreign

if TYPE_CHECKING:
    from plugkeep.events import Event
    from plugkeep.registry.attending import Attendant

    Check = Callable[[str, Plugin], object]


#: As `logging` has it.
DEBUG = 10

#: The attribute by which a plugin overrides the registry's limit.
_TIMEOUTS = {"start": "start_timeout", "stop": "stop_timeout"}


class Step(NamedTuple):
    """What starting and stopping differ in."""

    method: Literal["start", "stop"]
    during: State
    after: State
    began: str
    ended: str
    failed: str
    error: type[StartError | StopError]
    timeout: type[StartTimeoutError | StopTimeoutError]


START = Step(
    method="start",
    during=State.STARTING,
    after=State.RUNNING,
    began="Starting",
    ended="Started",
    failed="StartFailed",
    error=StartError,
    timeout=StartTimeoutError,
)
STOP = Step(
    method="stop",
    during=State.STOPPING,
    after=State.STOPPED,
    began="Stopping",
    ended="Stopped",
    failed="StopFailed",
    error=StopError,
    timeout=StopTimeoutError,
)
#: The stop of one that has failed, which it remains.
CLEAR_UP = STOP._replace(after=State.FAILED, ended="ClearedUp", failed="ClearedUp")


class Line(Protocol):
    """A thread or task on which the start and the stop of one plugin both run."""

    def close(self) -> None:
        """Let it end; what has been submitted is still run."""
        ...


class Entry:
    """One registered plugin and where it is in its life. Written only by the ledger."""

    __slots__ = (
        "busy",
        "early",
        "error",
        "held",
        "index",
        "is_told_of",
        "line",
        "name",
        "news",
        "owes_stop",
        "plugin",
        "reason",
        "requires",
        "started",
        "state",
    )

    def __init__(self, name: str, plugin: Plugin, requires: tuple[str, ...]) -> None:
        self.name = name
        self.plugin = plugin
        self.requires = requires
        self.state = State.REGISTERED
        #: Its place in the order of registration, and in the order of starts (0: never).
        self.index = 0
        self.started = 0
        #: Its start or stop has been called and has not returned, however long ago.
        self.busy = False
        #: The thread or task that its start ran on and its stop has to run on, if it has one.
        self.line: Line | None = None
        #: Its start has returned, and its stop has not been called since.
        self.owes_stop = False
        #: It is restarting together with what it requires, and not by itself.
        self.held = False
        #: What has happened to it and has not been told yet; somebody is at that.
        self.news: list[Event] = []
        self.is_told_of = False
        #: What has gone wrong last, until it is up again; and why it is degraded.
        self.error: PluginError | None = None
        #: What it has reported while it was starting.
        self.early: PluginError | None = None
        self.reason: str | None = None

    @property
    def to_stop(self) -> bool:
        """Whether its stop is to be called before it can be left alone, or started again."""
        return self.owes_stop or self.state in UP


class Ledger:
    """All entries of one registry, safe from any thread."""

    def __init__(self, *, start_timeout: float | None, stop_timeout: float | None) -> None:
        self._lock = threading.Lock()
        self.entries: dict[str, Entry] = {}
        self.plugins: dict[str, Plugin] = {}
        self._dependents: dict[str, dict[str, None]] = {}
        self._count = count(1)
        #: The registry's own limits, by the attributes with which plugins override them.
        self.timeouts = {
            "start_timeout": check_timeout("start_timeout of the registry", start_timeout),
            "stop_timeout": check_timeout("stop_timeout of the registry", stop_timeout),
        }
        self._news = News()
        self.subscribe = self._news.subscribe
        #: Replaced, never changed, so that reading them needs no lock.
        self._checks: tuple[Check, ...] = ()
        self.attendants: tuple[Attendant, ...] = ()

    # --- who is there ---------------------------------------------------------------------

    def add(
        self, plugin: Plugin, name: str | None, requires: Iterable[str], *, alone: bool = False
    ) -> Entry:
        """Enter a plugin at the end of the order of registration.

        One that is `alone` requires nothing, whatever it says.
        """
        entry = make_entry(plugin, name, requires)
        if alone:
            entry.requires = ()
        with self._lock:
            if entry.name in self.entries:
                raise AlreadyRegisteredError(
                    f"a plugin named {entry.name!r} is registered already; "
                    f"unregister it first, or register this one with name=...",
                    plugin=entry.name,
                )
            self._enter(entry, next(self._count))
        if self._news.listeners:
            self.emit("Registered", entry)
        return entry

    def remove(self, entry: Entry) -> None:
        """Take a plugin out; does nothing if it is out already."""
        with self._lock:
            if self.entries.get(entry.name) is not entry:
                return
            if entry.requires:
                self._withdraw(entry)
            del self.entries[entry.name], self.plugins[entry.name]
        if self._news.listeners:
            self.emit("Unregistered", entry)

    def replace(self, name: str, plugin: Plugin, requires: Iterable[str]) -> Plugin:
        """Put another plugin in the place of one that is not in use; return that one."""
        entry = make_entry(plugin, name, requires)
        with self._lock:
            old = self.find(name)
            if old.busy or old.to_stop:
                doing = "has a method that has not returned" if old.busy else f"is {old.state}"
                raise LifecycleError(
                    f"plugin {name!r} cannot be replaced while it {doing}; stop it first",
                    plugin=name,
                )
            self._withdraw(old)
            self._enter(entry, old.index)
        self.emit("Unregistered", old)
        self.emit("Registered", entry)
        return old.plugin

    def find(self, name: str) -> Entry:
        """Return the entry of `name`, or raise PluginNotFoundError with near misses."""
        try:
            return self.entries[name]
        except (KeyError, TypeError):
            near = did_you_mean(name, self.entries) if isinstance(name, str) else ""
            raise PluginNotFoundError(
                f"no plugin named {name!r} is registered{near}", plugin=str(name)
            ) from None

    def _enter(self, entry: Entry, index: int) -> None:
        entry.index = index
        self.entries[entry.name] = entry
        self.plugins[entry.name] = entry.plugin
        for requirement in entry.requires:
            self._dependents.setdefault(requirement, {})[entry.name] = None

    def _withdraw(self, entry: Entry) -> None:
        for requirement in entry.requires:
            dependents = self._dependents[requirement]
            del dependents[entry.name]
            if not dependents:
                del self._dependents[requirement]

    # --- who requires whom ----------------------------------------------------------------

    def requirements(self) -> dict[str, tuple[str, ...]]:
        """Return what each plugin requires, in order of registration."""
        with self._lock:
            return {name: entry.requires for name, entry in self.entries.items()}

    def dependents(self, name: str) -> tuple[str, ...]:
        """Return the names of those that require `name`, directly."""
        with self._lock:
            return tuple(self._dependents.get(name, ()))

    def to_stop(self) -> list[Entry]:
        """Return those whose stop is to be called, in the order in which they started."""
        with self._lock:
            found = [entry for entry in self.entries.values() if entry.to_stop]
        return sorted(found, key=lambda entry: entry.started)

    def in_state(self, state: State) -> list[Entry]:
        """Return those that are in `state`, in order of registration."""
        with self._lock:
            return [entry for entry in self.entries.values() if entry.state is state]

    # --- what happens to them -------------------------------------------------------------

    def begin(self, step: Step, entry: Entry) -> PluginError | None:
        """Move into `step`, or return why not. A plugin that needs no such step is no error.

        Tell by `entry.state is step.during` afterwards whether the method is to be called.
        """
        with self._lock:
            if step.method == "stop":
                if not entry.to_stop or (step is CLEAR_UP and entry.state is not State.FAILED):
                    return None
                entry.owes_stop = False
            elif entry.state in UP or self.entries.get(entry.name) is not entry:
                return None
            elif (refusal := self._refusal(entry)) is not None:
                return refusal
            self._move(entry, step.during)
            entry.busy = True
            return None

    def end(
        self,
        step: Step,
        entry: Entry,
        duration: float,
        error: PluginError | None,
        *,
        returned: bool = True,
    ) -> None:
        """Move out of `step`, to where it leads or to failed; `returned`: the method has."""
        with self._lock:
            self._move(entry, step.after if error is None else State.FAILED)
            entry.busy = entry.busy and not returned
            if step is not CLEAR_UP:  # what it failed of says more
                entry.error = error
            entry.owes_stop = entry.state is State.RUNNING
            if entry.owes_stop and not self._is_leant_on(entry):
                entry.started = next(self._count)
            kind = step.ended if error is None else step.failed
            self._news.note(entry, kind, duration, error)
        if error is not None and error.__cause__ is not None:
            cause = error.__cause__  # its traceback is what the plugin's author needs
            log(DEBUG, "plugin %r failed to %s", entry.name, step.method, exc_info=cause)
        self._news.tell(entry)
        early, entry.early = entry.early, None
        if early is not None:
            self.fail(entry, None, early, ended=False)

    def _is_leant_on(self, entry: Entry) -> bool:
        """Say whether it came back under plugins that require it: it keeps its place below them."""
        users = self._dependents.get(entry.name, ())
        return entry.started > 0 and any(self.entries[user].state in UP for user in users)

    def returned_late(self, entry: Entry, duration: float, error: BaseException | None) -> None:
        """Note that a method which was given up has returned."""
        with self._lock:
            entry.busy = False
        self.emit("LateReturn", entry, duration, error)

    def unreturned(self) -> list[str]:
        """Return those whose start or stop was given up, and has not returned so far."""
        during = (START.during, STOP.during)
        with self._lock:
            entries = list(self.entries.values())
            return [each.name for each in entries if each.busy and each.state not in during]

    def limit(self, step: Step, entry: Entry) -> float | None:
        """Return the seconds that `step` may take: the plugin's own, else the registry's.

        Raises what reading the plugin's raises, TypeError or ValueError where it is no limit.
        """
        attribute = _TIMEOUTS[step.method]
        own = getattr(entry.plugin, attribute, None)
        if own is None:
            return self.timeouts[attribute]
        return check_timeout(f"{attribute} of plugin {entry.name!r}", own)

    def stop_limit(self, entry: Entry) -> float | None:
        """Return the seconds that stopping may take, whatever has become of the plugin's own."""
        try:
            return self.limit(STOP, entry)
        except Exception as error:  # a misfit is told when it starts; it has to be stopped now
            log(ERROR, "the registry's limit is used: %s", error)
            return self.timeouts["stop_timeout"]

    def fail(self, entry: Entry, plugin: Plugin | None, error: PluginError, *, ended: bool) -> bool:
        """Move a plugin that is up to failed; False: it is not up any more, or not `plugin`."""
        with self._lock:
            if not self._is(entry, plugin):
                return False
            if entry.state is State.STARTING and not ended:
                entry.early = error  # it counts as soon as it has come up
                return True
            if entry.state not in UP:
                return False
            self._move(entry, State.FAILED)
            entry.owes_stop = not ended
            entry.error = error
            self._news.note(entry, "Failed", None, error)
        self._news.tell(entry)
        return True

    def shift(  # each says what a state's change is made of
        self,
        entry: Entry,
        olds: Collection[State],
        new: State,
        event: str,
        *,
        plugin: object = None,
        error: PluginError | None = None,
        held: bool = False,
        **more: Any,
    ) -> bool:
        """Move a plugin from one of the states `olds` to `new`, and tell.

        Returns False where it is in another one, or gone, or not `plugin`. An `error` is kept.
        """
        with self._lock:
            if not self._is(entry, plugin) or entry.state not in olds:
                return False
            self._move(entry, new)
            entry.held = held
            entry.reason = more.get("reason")
            entry.error = error or entry.error
            self._news.note(entry, event, None, error, **more)
        self._news.tell(entry)
        return True

    def _is(self, entry: Entry, plugin: object) -> bool:
        """Say whether an entry is still in the book, and of `plugin` (None: of any)."""
        return self.entries.get(entry.name) is entry and (plugin is None or entry.plugin is plugin)

    def restart_no_more(self, *names: str) -> None:
        """Have no plugin come back that is about to; of these, or (none) at all."""
        for entry in self.in_state(State.RESTARTING):
            if not names or entry.name in names:
                self.shift(entry, (State.RESTARTING,), State.STOPPED, "Stopped")

    def emit(self, kind: str, entry: Entry, *what: Any, **more: Any) -> None:
        """Tell of something that changes no state; see `News.note`."""
        self._news.note(entry, kind, *what, **more)
        self._news.tell(entry)

    def _refusal(self, entry: Entry) -> PluginError | None:
        if entry.busy:
            return StillBusyError(
                f"plugin {entry.name!r} cannot start: an earlier start or stop of it "
                f"exceeded its limit and has not returned yet",
                plugin=entry.name,
            )
        if entry.owes_stop:
            return StillBusyError(
                f"plugin {entry.name!r} cannot start: it has failed, and its stop has not been "
                "called since; stop it first",
                plugin=entry.name,
            )
        for requirement in entry.requires:
            required = self.entries.get(requirement)
            if required is None or required.state not in UP:
                state = "not registered" if required is None else required.state
                return RequirementFailedError(
                    f"plugin {entry.name!r} was not started: "
                    f"{requirement!r}, which it requires, is {state}",
                    plugin=entry.name,
                    requirement=requirement,
                )
        return None

    def _move(self, entry: Entry, state: State) -> None:
        check_transition(entry.name, entry.state, state)
        entry.state = state

    # --- who has a say ------------------------------------------------------------------------

    def add_check(self, check: Check) -> Callable[[], None]:
        """Add a check for `admit`; what is returned takes it away again, once."""
        own: Check = lambda name, plugin: check(name, plugin)  # noqa: E731  # told apart by identity
        with self._lock:
            self._checks = (*self._checks, own)

        def remove() -> None:
            with self._lock:
                self._checks = tuple(each for each in self._checks if each is not own)

        return remove

    def attend(self, attendant: Attendant) -> Callable[[], None]:
        """Add an attendant; what is returned takes it away again."""
        with self._lock:
            self.attendants = (*self.attendants, attendant)

        def leave() -> None:
            with self._lock:
                self.attendants = tuple(each for each in self.attendants if each is not attendant)

        return leave

    def admit(self, entry: Entry) -> None:
        """Raise what any check raises."""
        for check in self._checks:
            foreign(check, entry.name, entry.plugin)


def make_entry(plugin: Plugin, name: str | None, requires: Iterable[str]) -> Entry:
    """Read from a plugin, once, what the registry goes by; raise where it is none."""
    own_name, lack = examine(plugin)
    if lack:
        raise InvalidPluginError(f"{_shown(plugin)} is no plugin: {lack}", plugin=name)
    key = check_name(own_name if name is None else name)
    try:
        own = getattr(plugin, "requires", ())
    except Exception as error:  # a property of the plugin's own may raise anything
        raise InvalidPluginError(
            f"reading requires of plugin {key!r} raised {error!r}", plugin=key
        ) from error
    if requires == () == own:
        return Entry(key, plugin, ())
    required = (*check_requires(key, own), *check_requires(key, requires))
    return Entry(key, plugin, tuple(dict.fromkeys(required)))


def _shown(value: object) -> str:
    text = object.__repr__(value) if not isinstance(value, type) else value.__qualname__
    return text if len(text) <= 200 else text[:200] + "..."
