"""From what the plugins of a host were made from to what they are to be made from now.

The first half decides, and does nothing; the second half does it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Protocol

from plugkeep.errors import PluginError
from plugkeep.events import Reloaded
from plugkeep.lifecycle import UP, State
from plugkeep.loaders.caches import forget_doubtful

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from plugkeep.config.model import HostConfig
    from plugkeep.events import Event
    from plugkeep.host.host import Host
    from plugkeep.loaders.places import Place
    from plugkeep.registry import Registry
    from plugkeep.spec import PluginSpec

#: What a host takes over when it is made.
_OF_THE_HOST: Final = ("start_timeout", "stop_timeout", "shutdown_timeout", "workers", "preimport")


# --- what is to be done -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Difference:
    """What has to be done with the plugins of a host, so that they are as other specs say."""

    added: tuple[PluginSpec, ...] = ()
    #: Those that have to be made anew.
    changed: tuple[PluginSpec, ...] = ()
    #: Those that go on as they are, with what the host itself goes by.
    adopted: tuple[PluginSpec, ...] = ()
    #: Names.
    removed: tuple[str, ...] = ()


def difference(old: Mapping[str, PluginSpec], new: Iterable[PluginSpec]) -> Difference:
    """Return what leads from the specs `old`, by name, to `new`."""
    wanted = {spec.name: spec for spec in new}
    both = [(old[name], spec) for name, spec in wanted.items() if name in old]
    return Difference(
        added=tuple(spec for name, spec in wanted.items() if name not in old),
        changed=tuple(new for old, new in both if _lasting(old) != _lasting(new)),
        adopted=tuple(new for old, new in both if _lasting(old) == _lasting(new) and old != new),
        removed=tuple(name for name in old if name not in wanted),
    )


def _lasting(spec: PluginSpec) -> PluginSpec:
    """Return a spec without what the host looks up when it needs it."""
    return replace(
        spec, version=None, description="", origin="", restart="temporary", on_reload="keep"
    )


def of_the_host(old: HostConfig, new: HostConfig) -> list[str]:
    """Return the keys of ``[host]`` that have changed, and are heeded only by a new host."""
    return [key for key in _OF_THE_HOST if getattr(old, key) != getattr(new, key)]


@dataclass(frozen=True, slots=True)
class Concerned:
    """What some files are to the plugins of a host."""

    #: Names of those that have to be reloaded.
    plugins: tuple[str, ...] = ()
    #: Those files of which some plugin has what stays as it is until the process ends.
    lasting: tuple[str, ...] = ()


def concerned(paths: Iterable[str], places: Mapping[str, Sequence[Place]]) -> Concerned:
    """Return what the files at `paths` are, given where the code of each plugin is."""
    plugins: dict[str, None] = {}
    lasting: dict[str, None] = {}
    for path in paths:
        found = [
            (name, place) for name, each in places.items() for place in each if place.holds(path)
        ]
        anew = {name for name, place in found if not place.stays}
        plugins |= dict.fromkeys(anew)
        if any(name not in anew for name, _ in found):
            lasting[path] = None
    return Concerned(tuple(name for name in places if name in plugins), tuple(lasting))


# --- doing it ---------------------------------------------------------------------------------


class Hands(Protocol):
    """Does things with the plugins of a host where they are at home: on a thread, in a loop."""

    def do(self, verb: str, name: str, /) -> object:
        """Have the registry do something with a plugin: ``do("start", "clock")``."""
        ...

    def reload(self, name: str, /) -> None:
        """Do what `Host.reload` does."""
        ...


def refresh(host: Host, config: HostConfig, hands: Hands) -> list[PluginError]:
    """Have the plugins of `host` be what `config` says; return what has gone wrong.

    New plugins are added and started, those that are gone are stopped and removed, and those that
    have changed are reloaded; one that cannot be goes on as it is, and is tried again by the next
    refresh. Plugins that have been registered by code are left alone.

    Raises ConfigError, having changed nothing, where a new plugin cannot be loaded or configured.
    """
    steps = _Refresh(host, hands)
    change = difference(host.specs, config.plugins)
    before, host._config = host._config, config
    try:
        for spec in change.added:
            forget_doubtful(spec)  # it may have been compiled before it was mended
        host.add(*change.added)
    except BaseException:
        host._config = before
        raise
    host._specs.update((spec.name, spec) for spec in change.adopted)
    up = [name for name in host.registry if host.registry.state(name) in UP]
    for spec in _in_order(host.registry, change.changed):
        steps.remake(spec)
    for name in _backwards(host.registry, change.removed):
        steps.remove(name)
    steps.start([*up, *(spec.name for spec in change.added)])
    return steps.errors


class _Refresh:
    def __init__(self, host: Host, hands: Hands) -> None:
        self._host = host
        self._hands = hands
        self.errors: list[PluginError] = []

    def remake(self, spec: PluginSpec) -> None:
        """Reload a plugin with another spec; it has the old one where that comes to nothing."""
        host, name = self._host, spec.name
        before, old = host._specs[name], host.registry[name]
        with self._collecting(), _reloads_of(host.registry, name) as reloads:
            host._specs[name] = spec
            try:
                self._hands.reload(name)
            except BaseException:
                if not reloads and host.registry.get(name) is old:
                    host._specs[name] = before
                raise

    def remove(self, name: str) -> None:
        try:
            with self._collecting():
                self._hands.do("unregister", name)
        finally:
            if name not in self._host.registry:
                self._host._specs.pop(name, None)

    def start(self, names: Iterable[str]) -> None:
        """Start those that are not up, as far as they are there."""
        registry = self._host.registry
        for name in [each for each in _placed(registry) if each in set(names)]:
            if registry.state(name) not in (*UP, State.RESTARTING):
                with self._collecting():
                    self._hands.do("start", name)

    @contextmanager
    def _collecting(self) -> Iterator[None]:
        try:
            yield
        except PluginError as error:
            self.errors.append(error)


@contextmanager
def _reloads_of(registry: Registry, name: str) -> Iterator[list[Event]]:
    """Yield a list that fills with what tells that another instance has taken a plugin's place."""
    reloads: list[Event] = []

    def note(event: Event) -> None:
        if isinstance(event, Reloaded) and event.plugin == name:
            reloads.append(event)

    unsubscribe = registry.subscribe(note)
    try:
        yield reloads
    finally:
        unsubscribe()


def _in_order(registry: Registry, specs: Collection[PluginSpec]) -> list[PluginSpec]:
    by_name = {spec.name: spec for spec in specs}
    return [by_name[name] for name in _placed(registry) if name in by_name]


def _backwards(registry: Registry, names: Collection[str]) -> list[str]:
    return [name for name in reversed(_placed(registry)) if name in names]


def _placed(registry: Registry) -> list[str]:
    """Return all names in the order of start, as far as there is one."""
    try:
        return registry.start_order()
    except PluginError:  # something that is required is missing: then whatever order
        return registry.names()
