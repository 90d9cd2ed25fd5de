"""Factories under names, for hosts that decide by name what to make."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Lock
from typing import TypeVar, cast, overload

from plugkeep.creation import create, describe
from plugkeep.errors import (
    FactoryExistsError,
    FactoryNotFoundError,
    InvalidFactoryError,
    did_you_mean,
)
from plugkeep.names import check_name
from plugkeep.plugin import Factory, Plugin, is_plugin

F = TypeVar("F", bound=Callable[[], Plugin])

_ABSENT = object()


class FactoryRegistry:
    """Factories by name. Safe to use from any thread.

    Iteration, `names` and `len` tell of the factories in the order of registration.
    """

    def __init__(self) -> None:
        self._factories: dict[str, Factory] = {}
        self._lock = Lock()

    @overload
    def register(self, name: str, factory: Factory) -> None: ...
    @overload
    def register(self, name: str) -> Callable[[F], F]: ...

    def register(self, name: str, factory: object = _ABSENT) -> object:
        """Register `factory`, a callable without arguments that returns a plugin, under `name`.

        Without `factory` it is a decorator: ``@factories.register("cache")``.

        Raises FactoryExistsError when the name is taken, InvalidNameError when it can be no
        name, InvalidFactoryError when the factory cannot be called.
        """
        check_name(name, "factory name")
        if factory is _ABSENT:
            return self._decorator(name)
        if not callable(factory):
            hint = "; it is a plugin already: register a function that makes one"
            raise InvalidFactoryError(
                f"factory {name!r} is {describe(factory)}, which cannot be called"
                f"{hint if is_plugin(factory) else ''}",
                plugin=name,
            )
        with self._lock:
            if name in self._factories:
                raise FactoryExistsError(
                    f"factory {name!r} is registered already; unregister it first, "
                    f"or choose another name",
                    plugin=name,
                )
            self._factories[name] = cast("Factory", factory)
        return None

    def _decorator(self, name: str) -> Callable[[F], F]:
        def register(factory: F) -> F:
            self.register(name, factory)
            return factory

        return register

    def unregister(self, name: str) -> None:
        """Remove the factory of that name; nothing happens where there is none.

        Plugins that it has made stay as they are.
        """
        with self._lock:
            self._factories.pop(name, None)

    def get(self, name: str) -> Factory | None:
        """Return the factory of that name, or None."""
        return self._factories.get(name)

    def create(self, name: str) -> Plugin:
        """Return a new plugin from the factory of that name.

        Raises FactoryNotFoundError, naming near misses; FactoryFailedError when the factory
        raises, NoPluginError when it returns something else.
        """
        factory = self._factories.get(name)
        if factory is None:
            known = self.names()
            raise FactoryNotFoundError(
                f"no factory is registered as {name!r}"
                f"{did_you_mean(str(name), known) or (': none is at all' if not known else '')}",
                plugin=str(name),
            )
        return create(factory, source=f"factory {name!r}", plugin=name)

    def names(self) -> list[str]:
        """Return the names of all factories."""
        return list(self._factories)

    def __contains__(self, name: object) -> bool:
        return name in self._factories

    def __len__(self) -> int:
        return len(self._factories)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __repr__(self) -> str:
        return f"<FactoryRegistry of {', '.join(self.names()) or 'none'}>"
