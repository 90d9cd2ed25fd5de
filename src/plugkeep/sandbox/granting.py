"""What a host grants a plugin: methods of others, by name.

A name leads to an object with methods marked by `expose`, to another sandbox, to a native plugin,
or to anything else that can be called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, NoReturn, Protocol

from plugkeep.channel.binding import Binding
from plugkeep.channel.calls import Calls
from plugkeep.channel.exposed import ExposedMethod, methods_of
from plugkeep.creation import describe
from plugkeep.errors import ConfigError, MethodNotFoundError, NotGrantedError, did_you_mean
from plugkeep.names import check_name
from plugkeep.sandbox._loops import Loop, running_loop


class Grants(Protocol):
    """Finds what is granted under a name. What a name leads to may change while it is granted."""

    @property
    def loop(self) -> Loop | None:
        """Where asynchronous methods run; None: nowhere."""
        ...

    def names(self) -> Iterable[str]:
        """Return what is granted, at the moment."""
        ...

    def find(self, name: str) -> object:
        """Return what a granted name leads to. Raises PluginError where that is gone."""
        ...


class Objects:
    """Grants of objects that are there already."""

    def __init__(self, plugin: str, objects: Mapping[str, object]) -> None:
        """Raises InvalidNameError, ConfigError for a class, TypeError for what cannot be called."""
        self.loop = running_loop()
        self._objects = {
            check_name(name, "name of a grant"): each for name, each in objects.items()
        }
        for name, each in self._objects.items():
            what = f"what plugin {plugin!r} is granted as {name!r}"
            if isinstance(each, type):
                raise ConfigError(
                    f"{what} is {describe(each)}: grant an instance of it, or a function",
                    plugin=plugin,
                )
            offer = offer_of(each)
            if offer is None:
                raise TypeError(
                    f"{what} is {describe(each)}, which cannot be called and has no method that "
                    "is marked with @expose"
                )
            if self.loop is None and (method := offer.asynchronous()) is not None:
                which = f"has the asynchronous method {method!r}" if method else "is asynchronous"
                raise TypeError(
                    f"{what} {which}, and there is no event loop running here that it could run "
                    "on: grant it from inside of one"
                )

    def names(self) -> Iterable[str]:
        return self._objects

    def find(self, name: str) -> object:
        return self._objects[name]


class Served(NamedTuple):
    """A method as it is served to the plugin."""

    function: Callable[..., Any]
    #: None: that is not known, and left to the caller.
    is_stream: bool | None
    is_async: bool
    #: None: the arguments are somebody else's to check.
    binding: Binding | None
    #: Whether the function takes the seconds that are left, as `timeout`.
    takes_timeout: bool = False


class Offer(Protocol):
    """What can be called of one thing that is granted."""

    def method(self, name: str, *, stream: bool) -> Served:
        """Return the method of that name ("": the thing itself). Raises MethodNotFoundError."""
        ...

    def asynchronous(self) -> str | None:
        """Return the name of a method that needs an event loop; None if there is none."""
        ...


def offer_of(target: object) -> Offer | None:
    """Return what can be called of `target`, if anything."""
    if isinstance(target, Calls):
        return _OfSandbox(target)
    if methods := methods_of(target):
        return _OfObject(methods)
    if callable(call := getattr(target, "call", None)):
        return _OfNative(call)
    return _OfObject({"": ExposedMethod("", target)}) if callable(target) else None


def find_method(
    grants: Grants | None, wanted: str, offers: dict[str, tuple[object, Offer]], *, stream: bool
) -> Served:
    """Return the method that a plugin calls as `wanted`. Raises NotGrantedError and others.

    `offers` holds what has been found before.
    """
    name = _granted_name(grants, wanted)
    assert grants is not None  # noqa: S101  # without grants no name is granted
    target = grants.find(name)
    known, offer = offers.get(name, (None, None))
    if known is not target or offer is None:
        offer = offer_of(target)
        if offer is None:
            _not_found(wanted, ())
        offers[name] = target, offer
    return offer.method(wanted[len(name) + 1 :], stream=stream)


def _granted_name(grants: Grants | None, wanted: str) -> str:
    names = tuple(grants.names()) if grants is not None else ()
    fitting = [name for name in names if wanted == name or wanted.startswith(f"{name}.")]
    if fitting:
        return max(fitting, key=len)
    near = did_you_mean(wanted, names) or did_you_mean(wanted.partition(".")[0], names)
    listed = f"; granted are {', '.join(map(repr, names))}" if names else "; nothing is"
    raise NotGrantedError(f"{wanted!r:.200} is not granted to this plugin{near or listed}")


def _not_found(name: str, known: Iterable[str]) -> NoReturn:
    is_function = "" in (known := tuple(known))
    known = tuple(filter(None, known))
    listed = did_you_mean(name, known) or f"; there are: {', '.join(known[:10]) or 'none'}"
    if is_function:
        listed = "; it is a function, to be called itself"
    what = f"there is no method {name!r:.200}" if name else "only its methods can be called"
    error = MethodNotFoundError(f"{what}{listed}")
    error.known = known  # type: ignore[attr-defined]  # for whoever answers
    raise error


class _OfObject:
    def __init__(self, methods: Mapping[str, ExposedMethod]) -> None:
        self._methods = methods

    def method(self, name: str, *, stream: bool) -> Served:  # noqa: ARG002  # it is known here
        method = self._methods.get(name)
        if method is None:
            _not_found(name, self._methods)
        return Served(method.function, method.is_stream, method.place == "loop", method.binding)

    def asynchronous(self) -> str | None:
        found = (name for name, each in self._methods.items() if each.place == "loop")
        return next(found, None)


class _OfSandbox:
    def __init__(self, target: Calls) -> None:
        self._target = target

    def method(self, name: str, *, stream: bool) -> Served:
        announced = self._target.methods
        if not name or (announced is not None and name not in announced):
            _not_found(name, announced or ())
        is_stream = stream if announced is None else announced[name].stream
        call = self._target.stream if is_stream else self._target.call

        def forward(*args: Any, timeout: float | None, **kwargs: Any) -> Any:
            return call(name, *args, timeout=timeout, **kwargs)

        return Served(forward, is_stream, False, None, takes_timeout=True)

    def asynchronous(self) -> None:
        return None


class _OfNative:
    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def method(self, name: str, *, stream: bool) -> Served:  # noqa: ARG002  # it has none
        def forward(*args: Any, **kwargs: Any) -> Any:
            return self._call(name, *args, **kwargs)

        return Served(forward, False, False, None)

    def asynchronous(self) -> None:
        return None
