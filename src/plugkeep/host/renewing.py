"""What a reload loads anew, which stays if the reload succeeds and is taken back if it does not."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from plugkeep.loaders._factory import LoadedFactory
    from plugkeep.loaders.reloading import Renewal
    from plugkeep.registry import Registry
    from plugkeep.spec import PluginSpec


class Renewing:
    """Loads a plugin with its own modules imported anew; does for a reload what `load` does."""

    def __init__(self, others: Collection[PluginSpec]) -> None:
        self._others = others
        self._renewals: list[Renewal] = []

    def load(self, spec: PluginSpec) -> LoadedFactory:
        """Return the factory of `spec`. Raises what `load` does."""
        from plugkeep.loaders.reloading import load_afresh

        factory, renewal = load_afresh(spec, self._others)
        if renewal is not None:
            self._renewals.append(renewal)
        return factory

    def end(self, *, well: bool) -> None:
        """Keep what has been loaded, or have things as they were before."""
        while self._renewals:
            renewal = self._renewals.pop()
            if well:
                renewal.keep()
            else:
                renewal.undo()


@contextmanager
def renewing(registry: Registry, name: str, specs: Collection[PluginSpec]) -> Iterator[Renewing]:
    """Yield what loads a plugin anew; what it has loaded stays if there is a new plugin then."""
    old = registry[name]
    renewing = Renewing([each for each in specs if each.name != name])
    try:
        yield renewing
    except BaseException:
        renewing.end(well=registry.get(name) is not old)
        raise
    renewing.end(well=True)
