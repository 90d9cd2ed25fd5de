"""From specs to plugins that are loaded and configured, ready to be registered."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING
from weakref import ref

from plugkeep.config.model import rejected
from plugkeep.config.typed import set_config
from plugkeep.errors import ConfigError, LoadError, PluginError
from plugkeep.host.granting import HostLoop, PluginGrants
from plugkeep.host.required import asks_for, give_required
from plugkeep.loaders import kind_of, load
from plugkeep.loaders.isolation import isolate_spec, rehearse
from plugkeep.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from plugkeep.config.model import HostConfig, Key, Problem
    from plugkeep.loaders._factory import LoadedFactory
    from plugkeep.plugin import Plugin
    from plugkeep.registry import Registry
    from plugkeep.spec import PluginSpec


class Fitting:
    """One attempt to make the plugins of some specs; what does not fit is noted, and it goes on.

    With `rehearsing`, plugins with processes of their own are tried in such ones, too. The others
    are loaded by `load`.
    """

    def __init__(
        self,
        config: HostConfig,
        registry: Registry,
        loop: HostLoop | None = None,
        *,
        rehearsing: bool = False,
        load: Callable[[PluginSpec], LoadedFactory] = load,
    ) -> None:
        self._config = config
        self._registry = registry
        self._loop = HostLoop() if loop is None else loop
        self._rehearsing = rehearsing
        self._load = load
        self.problems: list[Problem] = []
        #: What raised them, where something did.
        self.causes: list[Exception] = []

    def build(self, spec: PluginSpec) -> Plugin | None:
        """Return the plugin of `spec`, loaded and configured; None if it has problems."""
        try:
            plugin = self._make(self._limited(spec))
        except PluginError as error:
            self.note(spec, ("source",) if isinstance(error, LoadError) else (), error)
            return None
        if self._rehearsing and not self.rehearse(spec):
            return None
        misfits: list[tuple[Key, str]] = []
        if isinstance(plugin, Sandbox):
            # It clears up when its own limits pass; the registry would give up in the middle of
            # that. And its configuration is for the plugin in the child to judge.
            spec = replace(spec, start_timeout=math.inf, stop_timeout=math.inf)
        else:
            misfits += [(("config", *key), message) for key, message in set_config(plugin, spec)]
        misfits += _set_timeouts(plugin, spec)
        give_required(plugin, self._registry, spec.name)
        if asks_for(plugin, "host"):
            from plugkeep.host.access import give_host

            give_host(plugin, self._grants(spec), self._failing(plugin, spec.name))
        self.problems += [self._config.problem(spec, key, message) for key, message in misfits]
        return None if misfits else plugin

    def rehearse(self, spec: PluginSpec) -> bool:
        """Say whether the process of its own, if it is to have one, can have the plugin.

        It is loaded and configured in such a process, and not started. Why not is noted.
        """
        try:
            if spec.isolation != "none":
                from plugkeep.loaders.caches import forget_doubtful

                forget_doubtful(spec)
                rehearse(self._limited(spec))
        except PluginError as error:
            self.note(spec, ("config" if isinstance(error, ConfigError) else "source",), error)
            return False
        return True

    def _make(self, spec: PluginSpec) -> Plugin:
        if spec.isolation == "none" and kind_of(spec) != "exec":
            return self._load(spec)()
        return isolate_spec(spec, self._grants(spec))

    def _failing(self, plugin: Plugin, name: str) -> Callable[[BaseException], object]:
        """Return what a plugin tells that it cannot go on; it keeps neither of the two alive."""
        registry, weak = ref(self._registry), ref(plugin)

        def fail(error: BaseException) -> None:
            found, failed = registry(), weak()
            if found is not None and failed is not None:
                found.report_failure(name, error, plugin=failed)

        return fail

    def _grants(self, spec: PluginSpec) -> PluginGrants:
        return PluginGrants(self._registry, spec, self._loop)

    def _limited(self, spec: PluginSpec) -> PluginSpec:
        """Return `spec` with the host's limits where it has none; they matter to sandboxes only.

        Other plugins find the host's in the registry, and may have attributes that go before.
        """
        return replace(
            spec,
            start_timeout=spec.start_timeout or self._config.start_timeout,
            stop_timeout=spec.stop_timeout or self._config.stop_timeout,
        )

    def note(self, spec: PluginSpec, key: Key, error: Exception) -> None:
        """Note an error as a problem with a key of a plugin's table."""
        self.problems.append(self._config.problem(spec, key, str(error)))
        self.causes.append(error)

    def raise_problems(self) -> None:
        """Raise ConfigError if there was any problem; what raised them is its cause."""
        if not self.problems:
            return
        causes = ExceptionGroup("plugins cannot be made", self.causes) if self.causes else None
        raise rejected(self._config.path or self.problems[0].file, self.problems) from causes


def populate(registry: Registry, specs: Iterable[PluginSpec], fitting: Fitting) -> None:
    """Make and register the plugins of `specs`: all or, if `fitting` notes any problem, none."""
    registered: list[str] = []
    for spec in specs:
        plugin = fitting.build(spec)
        if plugin is None:
            continue
        try:
            registry.register(plugin, name=spec.name, requires=spec.requires)
            registered.append(spec.name)
        except PluginError as error:
            fitting.note(spec, (), error)
    if fitting.problems:
        for name in registered:
            registry.unregister(name)


def _set_timeouts(plugin: Plugin, spec: PluginSpec) -> list[tuple[Key, str]]:
    """Set the plugin's own limits, where the registry looks for them."""
    misfits: list[tuple[Key, str]] = []
    for name in ("start_timeout", "stop_timeout"):
        seconds = getattr(spec, name)
        try:
            if seconds is not None:
                setattr(plugin, name, seconds)
        except Exception as error:  # a property of the plugin's own
            misfits.append(((name,), f"cannot be set on the plugin: {error!r}"))
    return misfits
