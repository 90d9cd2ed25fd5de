"""The contract between host and plugin: three members, and small optional capabilities.

A plugin is any object with a `name`, a `start()` and a `stop()`. It need not inherit from
anything. Whatever else it can do it says by having one more attribute or method, each of which
is described by a protocol of its own here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import (
    TYPE_CHECKING,
    Any,
    NamedTuple,
    NoReturn,
    Protocol,
    TypeVar,
    overload,
    runtime_checkable,
)

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
class ApplicationProvider(Protocol):
    """A plugin that brings a whole web application, ASGI or WSGI; None: it has none after all.

    It is asked for once the plugin's start has returned. `mount`, if there is one, says under
    which path it is to be found; by default that is ``/`` and the plugin's name.
    """

    @property
    def application(self) -> Any: ...


@runtime_checkable
class HealthReporter(Protocol):
    """A plugin that says how it is: None where it is well, or a text that says what is wrong.

    Then it is degraded, which is shown and not punished. It may be ``async def``. In a process of
    its own it is asked where its other methods run, so while a plain one keeps the main thread
    busy it does not answer; one that does not answer its watchdog in time is killed.
    """

    def health(self) -> Any: ...


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


# --- Methods that callers may reach -----------------------------------------------------------


class Exposure(NamedTuple):
    """What `expose` has noted about a method."""

    #: What callers call it; None: as it is called in the class.
    name: str | None
    threaded: bool
    idempotent: bool = False


Method = TypeVar("Method", bound=Callable[..., Any])
_MARK = "__plugkeep_exposed__"


@overload
def expose(method: Method, /) -> Method: ...
@overload
def expose(
    *, threaded: bool = False, name: str | None = None, idempotent: bool = False
) -> Callable[[Method], Method]: ...
def expose(
    method: Callable[..., Any] | None = None,
    /,
    *,
    threaded: bool = False,
    name: str | None = None,
    idempotent: bool = False,
) -> Any:
    """Mark a method as one that callers may reach, where the plugin runs in a process of its own.

    Plain methods run one at a time on the process's main thread, ``async def`` ones on its event
    loop, `threaded` ones on threads of their own. A generator, plain or asynchronous, is a
    stream. `name` is what callers call it, if that is another name than it has in the class. A
    method that overrides one that is marked is marked, too. An `idempotent` one does no harm when
    it is called twice instead of once: a call that was lost with the process may be made again.

    Raises TypeError for what is no method, and where a parameter is called ``timeout``: callers
    could not set it, for ``call(..., timeout=1.0)`` is about the call itself.
    """
    if method is None:
        return lambda function: _mark(function, Exposure(name, threaded, idempotent))
    return _mark(method, Exposure(name, threaded, idempotent))


def exposed(plugin: object) -> dict[str, tuple[str, Exposure]]:
    """Return, by the names for callers, the attributes of `plugin` that `expose` has marked.

    Nothing of the plugin runs: properties are not asked.
    """
    found: dict[str, tuple[str, Exposure]] = {}
    for attribute in _attributes(plugin):
        for owner in (*_instance(plugin), *map(vars, type(plugin).__mro__)):
            exposure = getattr(_inner(owner.get(attribute)), _MARK, None)
            if isinstance(exposure, Exposure):
                found[exposure.name or attribute] = attribute, exposure
                break
    return found


def _attributes(plugin: object) -> list[str]:
    """Return the names of all attributes but those taken back, by None as the value."""
    values: dict[str, object] = {}
    for owner in (*map(vars, reversed(type(plugin).__mro__)), *_instance(plugin)):
        values.update(owner)
    return [name for name, value in values.items() if value is not None]


def _instance(plugin: object) -> tuple[Mapping[str, Any], ...]:
    members = getattr(plugin, "__dict__", None)
    return (members,) if isinstance(members, dict) else ()


def _inner(value: Any) -> Any:
    return value.__func__ if isinstance(value, (staticmethod, classmethod)) else value


def _mark(method: Any, exposure: Exposure) -> Any:
    function = _inner(method)
    if isinstance(function, (property, type)) or not callable(function):
        kind = "a class" if isinstance(function, type) else type(function).__name__
        _refuse(method, f"it is {kind}, and only methods can be called from outside")
    name = exposure.name
    if name is not None and (not isinstance(name, str) or not name or name.startswith(_TAKEN)):
        _refuse(
            method,
            f"its name for callers is {name!r}; names are texts, and not empty, "
            "and do not begin with '$/' or 'host.'",
        )
    if "timeout" in _parameters(function):
        _refuse(
            method,
            "it has a parameter 'timeout', which callers could never set: "
            "call(..., timeout=1.0) is about the call itself. Call it something else; "
            "plugkeep.current_call().remaining tells how much time the caller has",
        )
    try:
        setattr(function, _MARK, exposure)
    except AttributeError:
        _refuse(method, f"a {type(function).__name__} cannot be marked; wrap it in a method")
    return method


_TAKEN = ("$/", "host.")


def _parameters(function: Any) -> tuple[str, ...]:
    """Return the names of the parameters; by hand, for importing `inspect` takes long."""
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    code = getattr(function, "__code__", None)
    if code is None:
        return ()
    names: tuple[str, ...] = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    return names


def _refuse(method: Any, reason: str) -> NoReturn:
    name = getattr(_inner(method), "__qualname__", None) or repr(method)
    raise TypeError(f"{name} cannot be exposed: {reason}")
