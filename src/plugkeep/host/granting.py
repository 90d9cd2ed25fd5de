"""What the plugins of a host may call of one another."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import TYPE_CHECKING

from plugkeep.errors import NotStartedError
from plugkeep.lifecycle import UP

if TYPE_CHECKING:
    from plugkeep.registry import Registry
    from plugkeep.sandbox._loops import Loop
    from plugkeep.spec import PluginSpec


class HostLoop:
    """The event loop that a host's plugins run on, if they do; known once they are started."""

    def __init__(self) -> None:
        self.current: Loop | None = None

    def note(self) -> None:
        """It is the one that runs here."""
        from plugkeep.sandbox._loops import running_loop

        self.current = running_loop()


class PluginGrants:
    """One plugin's: what it requires, and what its spec grants; found when it is called.

    It does not keep the registry alive, whose sandboxes have it.
    """

    def __init__(self, registry: Registry, spec: PluginSpec, loop: HostLoop) -> None:
        self._registry = weakref.ref(registry)
        self._plugin = spec.name
        self._extra = spec.grants
        self._loop = loop

    @property
    def loop(self) -> Loop | None:
        """See `Grants`."""
        return self._loop.current

    def names(self) -> Iterable[str]:
        """See `Grants`."""
        return tuple(dict.fromkeys((*self._required(), *self._extra)))

    def find(self, name: str) -> object:
        """See `Grants`. Raises NotStartedError, PluginNotFoundError."""
        registry = self._registry()
        if registry is None or registry.state(name) not in UP:
            advice = f"; add it to what {self._plugin!r} requires, to have it start before that"
            raise NotStartedError(
                f"plugin {name!r} is not running{'' if name in self._required() else advice}",
                plugin=name,
            )
        return registry[name]

    def _required(self) -> Iterable[str]:
        registry = self._registry()
        return registry.requirements().get(self._plugin, ()) if registry is not None else ()
