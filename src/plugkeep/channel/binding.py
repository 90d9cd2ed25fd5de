"""From the arguments that came to those that a method takes, each of the type it asks for."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cached_property
from typing import Any

from plugkeep.errors import InvalidArgumentsError
from plugkeep.wire.values import unpack_arguments

_KINDS = inspect.Parameter


class Binding:
    """What one method takes."""

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self.name = name
        self._function = function

    @cached_property
    def signature(self) -> inspect.Signature | None:
        """What can be found out of what it takes; not every callable made in C tells."""
        try:
            return inspect.signature(self._function)
        except (TypeError, ValueError):
            return None

    def params(self) -> list[str] | None:
        """Return the parameters as the ready object has them; None: they are not known."""
        if self.signature is None:
            return None
        written: list[str] = []
        last: Any = None
        for parameter in self.signature.parameters.values():
            kind = parameter.kind
            if last is _KINDS.POSITIONAL_ONLY and kind is not last:
                written.append("/")
            if kind is _KINDS.KEYWORD_ONLY and last not in (kind, _KINDS.VAR_POSITIONAL):
                written.append("*")
            written.append(_STARS.get(kind, "") + parameter.name + _default(parameter))
            last = kind
        return [*written, "/"] if last is _KINDS.POSITIONAL_ONLY else written

    def bind(self, args: list[Any], kwargs: dict[str, Any], buffers: Any) -> tuple[Any, Any]:
        """Return the arguments to call with. Raises InvalidArgumentsError, naming the argument."""
        try:
            args, kwargs = unpack_arguments(args, kwargs, buffers)
            if self.signature is not None:
                self.signature.bind(*args, **kwargs)
        except (TypeError, ValueError) as error:
            raise InvalidArgumentsError(f"{self.name!r}: {error}") from None
        return args, kwargs


_STARS = {_KINDS.VAR_POSITIONAL: "*", _KINDS.VAR_KEYWORD: "**"}


def _default(parameter: inspect.Parameter) -> str:
    return "" if parameter.default is parameter.empty else "="
