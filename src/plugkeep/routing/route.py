"""One route as frozen, validated data."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from plugkeep.errors import InvalidRouteError
from plugkeep.routing.patterns import Pattern, parse_path

#: Answers a request. Plain or ``async def``; `plugkeep.web` says what it is given and may return.
Handler = Callable[[Any], Any]

_is_token = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch


@dataclass(frozen=True)
class Route:
    """One way into a plugin by HTTP.

    Raises InvalidRouteError, naming the field and the value found, where one does not fit.
    """

    #: An HTTP method, in any case. GET answers HEAD, too, unless there is a route for it.
    method: str
    #: Such as ``/users/{id:int}``; kinds of parameter: str (the default), int, float, uuid, path.
    path: str
    handler: Handler
    #: ASGI middleware around the handler, outermost first: Starlette's ``Middleware(...)``, or
    #: anything that takes an ASGI application and returns one.
    middleware: tuple[Any, ...] = ()
    #: What a caller has to be allowed; the host decides who is.
    permissions: tuple[str, ...] = ()
    #: Anything else that host, middleware or documentation may want to know of the route.
    meta: Mapping[str, Any] = field(default_factory=dict, hash=False)
    #: The path as it has been understood.
    pattern: Pattern = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        values = {
            "pattern": parse_path(self.path),
            "method": _method(self.method, self.path),
            "middleware": self._each("middleware", _wraps, "middleware to call with an app"),
            "permissions": self._each("permissions", _is_text, "strings that are not empty"),
            "meta": self._meta(),
        }
        if not callable(self.handler):
            raise InvalidRouteError(f"handler of {self} is {self.handler!r}, which is not callable")
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    def _each(self, name: str, fits: Callable[[object], bool], what: str) -> tuple[Any, ...]:
        value = getattr(self, name)
        # Starlette's Middleware can be iterated over, but is one thing.
        if isinstance(value, (str, bytes)) or _is_recipe(value) or not isinstance(value, Iterable):
            raise InvalidRouteError(
                f"{name} of {self} is {value!r}, not a sequence; for a single one: ({value!r},)"
            )
        values = tuple(value)
        for each in values:
            if not fits(each):
                raise InvalidRouteError(f"{name} of {self} has {each!r} in it; it takes {what}")
        return values

    def _meta(self) -> Mapping[str, Any]:
        if not isinstance(self.meta, Mapping):
            raise InvalidRouteError(f"meta of {self} is {self.meta!r}, not a mapping")
        return MappingProxyType(dict(self.meta))


def _method(method: object, path: str) -> str:
    if isinstance(method, str) and _is_token(method):
        return method.upper()
    raise InvalidRouteError(
        f"method of the route for {path!r} is {method!r}; it takes one HTTP method, such as 'GET'"
    )


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _wraps(value: object) -> bool:
    return callable(value) or _is_recipe(value)


def _is_recipe(value: object) -> bool:
    """Say whether `value` is like Starlette's Middleware: a class with what to call it with."""
    return all(hasattr(value, attribute) for attribute in ("cls", "args", "kwargs"))
