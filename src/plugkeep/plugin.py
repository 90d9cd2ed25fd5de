"""The contract between host and plugin: three members, and small optional capabilities.

A plugin is any object with a `name`, a `start()` and a `stop()`. It need not inherit from
anything. Whatever else it can do it says by having one more attribute or method, each of which
is described by a protocol of its own here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

if TYPE_CHECKING:
    from plugkeep.routing import Route

#: The symbol that every loader looks for: a callable without arguments that returns a plugin.
FACTORY_SYMBOL = "PluginFactory"

Capability = TypeVar("Capability")
#: A protocol (or class) given as a value. `type[T]` would be the obvious spelling, but strict
#: mypy refuses protocols there (type-abstract); a constructor of T is accepted by all checkers.
ProtocolOf = Callable[..., Capability]


@runtime_checkable
class Plugin(Protocol):
    """What every plugin is: named, and able to start and stop.

    `start` and `stop` take no arguments and may be plain or ``async def``. `start` returns when
    the plugin is ready to be used and raises when it cannot be; `stop` gives back what `start`
    took and is only called after a `start` that succeeded.
    """

    @property
    def name(self) -> str:
        """The key in the registry; read once, when the plugin is registered."""
        ...

    def start(self) -> Awaitable[None] | None: ...
    def stop(self) -> Awaitable[None] | None: ...


#: Makes a plugin; takes no arguments. A class with a constructor without arguments is one.
Factory = Callable[[], Plugin]


@runtime_checkable
class Requiring(Protocol):
    """A plugin that starts after, and stops before, the plugins it names."""

    @property
    def requires(self) -> Iterable[str]: ...


@runtime_checkable
class RouteProvider(Protocol):
    """A plugin that offers HTTP routes.

    `routes` is asked once the plugin is running, so routes may depend on what `start` found.
    """

    def routes(self) -> Iterable[Route]: ...


@runtime_checkable
class Configurable(Protocol):
    """A plugin that is configured: `config` is set before `start`, as its annotation says."""

    config: Any


@runtime_checkable
class Dependent(Protocol):
    """A plugin that uses what it requires: a host sets `required` before `start`.

    It maps the names of the plugins that this one requires, and no others, to them. The plugin
    asks for it by the annotation ``required: Mapping[str, Any]``.
    """

    required: Mapping[str, Any]


# Read by the registry as plain attributes, each optional:
#
#   start_timeout: float | None   seconds `start` may take; overrides the registry's
#   stop_timeout:  float | None   seconds `stop` may take; overrides the registry's
#   thread_bound:  bool           start and stop run on one and the same thread


def is_plugin(value: object) -> bool:
    """Say whether `value` has the three members. A class has them only for its instances."""
    return not lacks(value)


def lacks(value: object) -> str:
    """Return what keeps `value` from being a plugin, as the end of a sentence; "" if nothing."""
    return examine(value)[1]


def examine(value: object) -> tuple[str, str]:
    """Return the name of `value`, read once, and what keeps it from being a plugin, if anything.

    Checked by hand: `isinstance` against a protocol costs 10 µs on Python 3.11.
    """
    if isinstance(value, type):
        return "", f"it is a class; pass an instance: {value.__name__}()"
    try:
        name = value.name  # type: ignore[attr-defined]
    except AttributeError:
        return "", "it has no name"
    except Exception as error:  # a property of the plugin's own may raise anything
        return "", f"reading its name raised {error!r}"
    if not isinstance(name, str):
        return "", f"its name is {name!r}, not a string"
    for method in ("start", "stop"):
        try:
            found = getattr(value, method)
        except AttributeError:
            return name, f"its method {method}() is missing"
        except Exception as error:
            return name, f"reading its method {method}() raised {error!r}"
        if not callable(found):
            return name, f"its method {method}() is not callable"
    return name, ""
