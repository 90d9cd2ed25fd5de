"""Who is registered, and what is known of them; nobody is started or stopped from here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from plugkeep.channel.calls import Calls
from plugkeep.errors import PluginError, PluginFailedError, RegistryError
from plugkeep.lifecycle import UP, State
from plugkeep.order import start_order
from plugkeep.plugin import Plugin, ProtocolOf
from plugkeep.registry.ledger import Ledger
from plugkeep.registry.turns import Turns

if TYPE_CHECKING:
    from plugkeep.events import Event
    from plugkeep.registry.attending import Attendant

T = TypeVar("T")


class Directory:
    """That part of a `Registry` which answers at once."""

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
        return self._ledger.fail(entry, plugin, failure_of(name, error), ended=ended)

    def failure(self, name: str) -> PluginError | None:
        """Return what has gone wrong with a plugin last; None: nothing since it came up."""
        return self._ledger.find(name).error

    def degradation(self, name: str) -> str | None:
        """Return why a plugin is degraded; None: it is not."""
        entry = self._ledger.find(name)
        return entry.reason if entry.state is State.DEGRADED else None


def failure_of(name: str, error: BaseException) -> PluginError:
    """Return `error` as one that names the plugin. Raises TypeError for what is none."""
    if not isinstance(error, BaseException):
        raise TypeError(f"error is {error!r:.200}; it takes an exception")
    if isinstance(error, PluginError) and error.plugin == name:
        return error
    failure = PluginFailedError(
        f"plugin {name!r} has failed: {type(error).__name__}: {error}", plugin=name
    )
    failure.__cause__ = error
    return failure


def check_workers(workers: int | None) -> int | None:
    """Return `workers` if it is None or a whole number above 0, else raise ValueError."""
    if workers is None:
        return None
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
        raise ValueError(
            f"workers is {workers!r}; it takes how many plugins may start side by side, 1 or more"
        )
    return workers
