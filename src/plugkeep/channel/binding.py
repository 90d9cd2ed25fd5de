"""From the arguments that came to those that a method takes, each of the type it asks for."""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Final, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from plugkeep.errors import InvalidArgumentsError
from plugkeep.wire.conversion import ConversionError, Converter, buffer_form, converter
from plugkeep.wire.values import as_memoryviews, unpack

_Kind = inspect.Parameter
_BY_POSITION = (_Kind.POSITIONAL_ONLY, _Kind.POSITIONAL_OR_KEYWORD)
_BY_NAME = (_Kind.POSITIONAL_OR_KEYWORD, _Kind.KEYWORD_ONLY)


class _Parameter(NamedTuple):
    """What one argument has to become."""

    name: str
    convert: Converter
    form: Literal["bytes", "memoryview"]
    #: Values of exactly these types are what it takes; None: all are.
    exact: frozenset[type] | None


class Binding:
    """What one method takes.

    `known` are the types of positional arguments that are right as they came, a bare type where
    there is one argument; None where no argument is ever looked at. It grows by what has come.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    @cached_property
    def signature(self) -> inspect.Signature | None:
        """What can be found out of what it takes; not every callable made in C tells."""
        try:
            return inspect.signature(self._function)
        except (TypeError, ValueError):
            return None

    @property
    def returned(self) -> Any:
        """The return annotation, evaluated; Any where that says nothing."""
        return self._hint(self.signature.return_annotation) if self.signature else Any

    @cached_property
    def known(self) -> set[Any] | None:
        parameters = self.signature.parameters.values() if self.signature else ()
        return None if all(_says_nothing(each.annotation) for each in parameters) else set()

    @cached_property
    def _counts(self) -> range:
        """How many positional arguments are right by themselves."""
        parameters = self.signature.parameters.values() if self.signature else ()
        if any(each.kind not in _BY_POSITION for each in parameters):
            return range(0)  # the signature knows better
        required = sum(each.default is each.empty for each in parameters)
        return range(required, len(parameters) + 1)

    def params(self) -> list[str] | None:
        """Return the parameters as the ready object has them; None: they are not known."""
        if self.signature is None:
            return None
        written: list[str] = []
        last: Any = None
        for parameter in self.signature.parameters.values():
            kind = parameter.kind
            if last is _Kind.POSITIONAL_ONLY and kind is not last:
                written.append("/")
            if kind is _Kind.KEYWORD_ONLY and last not in (kind, _Kind.VAR_POSITIONAL):
                written.append("*")
            default = "" if parameter.default is parameter.empty else "="
            written.append(f"{_STARS.get(kind, '')}{parameter.name}{default}")
            last = kind
        return [*written, "/"] if last is _Kind.POSITIONAL_ONLY else written

    def bind(
        self, args: list[Any], kwargs: dict[str, Any], buffers: Sequence[Any]
    ) -> tuple[list[Any], dict[str, Any]]:
        """Return the arguments to call with.

        Raises InvalidArgumentsError, naming the argument; the method is known to whoever called.
        """
        self.check(args, kwargs)
        by_position, rest, by_name, others = self._parameters
        bound = [
            self._fit(parameter, value, buffers)
            for parameter, value in zip((*by_position, *[rest] * len(args)), args, strict=False)
        ]
        named = {
            name: self._fit(by_name.get(name, others), value, buffers, name)
            for name, value in kwargs.items()
        }
        if not kwargs and self.known is not None and len(self.known) < _MOST_KNOWN:
            self._learn(args)
        return bound, named

    def check(self, args: list[Any], kwargs: dict[str, Any]) -> None:
        """Raise InvalidArgumentsError for arguments that are missing, too many or unknown."""
        if self.signature is None or (not kwargs and len(args) in self._counts):
            return
        try:
            self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise InvalidArgumentsError(str(error)) from None

    def _fit(
        self, parameter: _Parameter, value: Any, buffers: Sequence[Any], name: str = ""
    ) -> Any:
        try:
            if buffers != ():
                value = unpack(value, buffers, parameter.form)
            elif parameter.form == "memoryview":
                value = as_memoryviews(value)
            return parameter.convert(value)
        except ConversionError as error:
            raise InvalidArgumentsError(f"argument {name or parameter.name!r}: {error}") from None
        except ValueError as error:  # a reference to a buffer that is not there
            raise InvalidArgumentsError(str(error)) from None

    def _learn(self, args: list[Any]) -> None:
        by_position, rest, _, _ = self._parameters
        for parameter, value in zip((*by_position, *[rest] * len(args)), args, strict=False):
            if parameter.exact is not None and type(value) not in parameter.exact:
                return
        self.known.add(type(args[0]) if len(args) == 1 else tuple(map(type, args)))  # type: ignore[union-attr]

    @cached_property
    def _parameters(
        self,
    ) -> tuple[tuple[_Parameter, ...], _Parameter, dict[str, _Parameter], _Parameter]:
        """The parameters by position, for further ones, by name, and for further names."""
        by_position: list[_Parameter] = []
        by_name: dict[str, _Parameter] = {}
        rest = others = _ANY
        for each in self.signature.parameters.values() if self.signature else ():
            found = _parameter(each.name, self._hint(each.annotation))
            if each.kind in _BY_POSITION:
                by_position.append(found)
            if each.kind in _BY_NAME:
                by_name[each.name] = found
            if each.kind is _Kind.VAR_POSITIONAL:
                rest = found
            if each.kind is _Kind.VAR_KEYWORD:
                others = found
        return tuple(by_position), rest, by_name, others

    def _hint(self, annotation: Any) -> Any:
        """Return an annotation, evaluated; where it is a text that means nothing at run time, Any.

        Each by itself: one that names what was imported for type checkers spoils no other.
        """
        if not isinstance(annotation, str):
            return annotation
        function = inspect.unwrap(self._function)
        function = getattr(function, "__func__", function)
        names = getattr(function, "__globals__", None)
        if names is None:
            names = vars(sys.modules.get(function.__module__, types))
        holder = types.SimpleNamespace(__annotations__={"it": annotation})
        try:
            return get_type_hints(
                holder, names, _names_of_class(self._function), include_extras=True
            )["it"]
        except Exception:  # evaluating a text may raise anything
            return Any


def _names_of_class(function: Any) -> dict[str, Any]:
    owner = getattr(function, "__self__", None)
    return {} if owner is None else dict(vars(owner if isinstance(owner, type) else type(owner)))


def _parameter(name: str, annotation: Any) -> _Parameter:
    return _Parameter(name, converter(annotation), buffer_form(annotation), _exact(annotation))


def _says_nothing(annotation: Any) -> bool:
    return annotation is _Kind.empty or annotation is Any or annotation is object


def _exact(annotation: Any) -> frozenset[type] | None:
    """Return the types whose values need not be converted for `annotation`; None: all of them."""
    if _says_nothing(annotation):
        return None
    if get_origin(annotation) in (Union, types.UnionType):
        inner = [_exact(each) for each in get_args(annotation)]
        return None if None in inner else frozenset().union(*inner)  # type: ignore[arg-type]
    plain = type(None) if annotation is None else annotation
    return frozenset({plain}) if plain in _PLAIN else frozenset()


_PLAIN: Final = frozenset({str, int, float, bool, type(None)})
_STARS: Final[dict[Any, str]] = {_Kind.VAR_POSITIONAL: "*", _Kind.VAR_KEYWORD: "**"}
_ANY: Final = _parameter("", Any)
#: So many combinations of types are remembered at most.
_MOST_KNOWN: Final = 64
