"""How a plugin reaches what it requires."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from inspect import get_annotations
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plugkeep.registry import Registry


class Required(Mapping[str, Any]):
    """The plugins that one plugin requires, by name, and no others.

    What is looked up is found at that moment, so it is the right one after a reload, too.
    """

    def __init__(self, registry: Registry, plugin: str) -> None:
        self._registry = registry
        self._plugin = plugin

    def __getitem__(self, name: str) -> Any:
        if name in self._names():
            return self._registry[name]
        raise KeyError(
            f"plugin {self._plugin!r} does not require {name!r}; add it to its requires to reach it"
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def __len__(self) -> int:
        return len(self._names())

    def _names(self) -> tuple[str, ...]:
        return tuple(self._registry.requirements().get(self._plugin, ()))


def give_required(plugin: object, registry: Registry, name: str) -> None:
    """Set `plugin.required` where the plugin has annotated it."""
    if asks_for(plugin, "required"):
        plugin.required = Required(registry, name)  # type: ignore[attr-defined]


def asks_for(plugin: object, attribute: str) -> bool:
    """Say whether the plugin has an annotation for `attribute`."""
    return any(attribute in get_annotations(owner) for owner in type(plugin).__mro__)
