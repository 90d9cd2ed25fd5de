"""Tells sandboxes whether their plugins will run, for those who wait to call them."""

from __future__ import annotations

import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from plugkeep.errors import PluginNotFoundError
from plugkeep.lifecycle import UP, State
from plugkeep.sandbox import Sandbox

if TYPE_CHECKING:
    from plugkeep.registry import Registry
    from plugkeep.restart import RestartPolicy

_COMING: Final = (State.STARTING, State.RESTARTING)


class Outlook:
    """What is to be expected of the plugins in a registry, by their states and policies."""

    def __init__(self, registry: Registry, policy: Callable[[str], RestartPolicy]) -> None:
        self._registry = registry
        self._policy = policy
        #: Those that are to come back although their states do not say so yet.
        self._returning: Counter[str] = Counter()
        self._told: dict[str, weakref.ref[Sandbox]] = {}
        # Two threads may tell of one plugin, and what is told last has to be what was found last.
        # Reentrant, for a signal's handler or the garbage collector may come by at any point.
        self._lock = threading.RLock()

    @contextmanager
    def returning(self, names: Iterable[str]) -> Iterator[None]:
        """While the block runs, those that are stopped are going to be started again."""
        names = tuple(names)
        self.promise(*names)
        try:
            yield
        finally:
            self.redeem(*names)

    def promise(self, *names: str) -> None:
        """Count on plugins that are going to be started again, until that is redeemed."""
        with self._lock:
            self._returning.update(names)

    def redeem(self, *names: str) -> None:
        """Count on their states again, which say by now what is to become of them."""
        with self._lock:
            self._returning.subtract(names)
        for name in names:
            self.tell(name)

    def tell(self, name: str) -> None:
        """Tell what is to be expected of a plugin now. To be called whenever that may change."""
        with self._lock:
            plugin = self._registry.get(name)
            before = self._told.pop(name, None)
            old = None if before is None else before()
            if old is not None and old is not plugin:  # nobody looks after that one any more
                old.expect(False, None, None, self)
            if not isinstance(plugin, Sandbox):
                return
            self._told[name] = weakref.ref(plugin)
            with suppress(PluginNotFoundError):  # it has just been removed, which is told, too
                state, cause = self._registry.state(name), self._registry.failure(name)
                plugin.expect(self._hope(name, state), state, cause, self)

    def _hope(self, name: str, state: State) -> bool:
        if state in _COMING or self._returning[name] > 0:
            return True
        return state in UP and self._policy(name).when != "temporary"
