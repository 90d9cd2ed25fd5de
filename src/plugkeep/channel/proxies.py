"""Objects that look like a protocol and call a plugin: typed, and checked once."""

from __future__ import annotations

import inspect
import typing
from collections import abc
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping
from functools import update_wrapper
from inspect import Parameter, Signature
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar, cast, get_args, get_origin

from plugkeep.errors import (
    InvalidArgumentsError,
    InvalidPluginError,
    InvalidResponseError,
    did_you_mean,
)
from plugkeep.wire.conversion import ConversionError, Converter, buffer_form, converter

if TYPE_CHECKING:
    from plugkeep.channel.announcement import Method
    from plugkeep.channel.calls import Calls
    from plugkeep.plugin import ProtocolOf

T = TypeVar("T")

#: How a method is called: for one result or for a stream, by threads or on an event loop.
Way = Literal["call", "acall", "stream", "astream"]

_STREAMS: Mapping[Any, Way] = {
    abc.Iterator: "stream",
    abc.Iterable: "stream",
    abc.Generator: "stream",
    abc.AsyncIterator: "astream",
    abc.AsyncIterable: "astream",
    abc.AsyncGenerator: "astream",
}
_AWAITED = (abc.Awaitable, abc.Coroutine)
_BY_POSITION = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
_BY_NAME = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)


class UnfitProtocolError(TypeError):  # never caught by name outside: it is a TypeError to users
    """Raised for what is no protocol of methods alone."""


class Member(NamedTuple):
    """A method of a protocol."""

    name: str
    function: Callable[..., Any]
    #: Without `self`.
    signature: Signature
    way: Way
    #: What the result, or each value of the stream, is to be.
    result: Any


class Proxy:
    """What looks like a protocol. Derived, for each protocol, by `proxy_class`."""

    __slots__ = ("_calls", "_views")
    _has_views = False  # whether any method is to return memoryviews

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        if self._has_views:
            self._views = calls.using(buffers="memoryview")

    def __repr__(self) -> str:
        return f"<{type(self).__name__.removesuffix('Proxy')} of {_named(self._calls)}>"


def proxy(protocol: ProtocolOf[T], calls: Calls) -> T:
    """Return an object with the methods of `protocol`, each of which calls that of `calls`.

    Raises InvalidPluginError listing everything that does not fit, TypeError for what is no
    protocol of methods alone.
    """
    return cast("T", proxy_class(protocol, calls)(calls))


def proxy_class(protocol: Any, calls: Calls) -> type[Proxy]:
    """Return the class of what `proxy` returns; it holds nothing of `calls` itself."""
    members = members_of(protocol)
    if problems := misfits(members, calls.methods):
        listed = "".join(f"\n  {problem}" for problem in problems)
        raise InvalidPluginError(
            f"{_named(calls)} does not fit {_name(protocol)}:{listed}",
            plugin=getattr(calls, "name", None),
        )
    body: dict[str, Any] = {member.name: _method(member) for member in members}
    body |= {"__slots__": (), "__doc__": protocol.__doc__}
    body["_has_views"] = any(buffer_form(member.result) == "memoryview" for member in members)
    return type(f"{_name(protocol)}Proxy", (Proxy,), body)


def proxy_class_if_fit(protocol: Any, calls: Calls) -> type[Proxy] | None:
    """Return what `proxy_class` does; None where that does not fit, or has more than methods."""
    try:
        return proxy_class(protocol, calls)
    except (InvalidPluginError, UnfitProtocolError):
        return None


def proxy_if_fit(protocol: ProtocolOf[T], calls: Calls) -> T | None:
    """Return what `proxy` does; None where that does not fit, or has more than methods."""
    kind = proxy_class_if_fit(protocol, calls)
    return None if kind is None else cast("T", kind(calls))


# --- what the protocol says -------------------------------------------------------------------


def members_of(protocol: Any) -> list[Member]:
    """Return the methods of a protocol. Raises TypeError for what has other members, or none."""
    if not getattr(protocol, "_is_protocol", False):
        raise UnfitProtocolError(f"{protocol!r} is no protocol: no class made from typing.Protocol")
    names: dict[str, Any] = {}
    for owner in reversed(protocol.__mro__):
        if getattr(owner, "_is_protocol", False) and owner not in (typing.Protocol, typing.Generic):
            names.update(dict.fromkeys(inspect.get_annotations(owner)))
            names.update({n: each for n, each in vars(owner).items() if not n.startswith("_")})
    members = [_member(protocol, name, each) for name, each in names.items()]
    if not members:
        raise UnfitProtocolError(f"{_name(protocol)} has no methods")
    return members


def _member(protocol: Any, name: str, found: Any) -> Member:
    if isinstance(found, (staticmethod, classmethod)) or not inspect.isfunction(found):
        kind = "a property" if isinstance(found, property) else "no plain method"
        raise UnfitProtocolError(
            f"{_name(protocol)}.{name} is {kind}; only methods can be called at the other end"
        )
    signature = inspect.signature(found)
    signature = signature.replace(parameters=list(signature.parameters.values())[1:])
    if "timeout" in signature.parameters:
        raise TypeError(
            f"{_name(protocol)}.{name} has a parameter 'timeout', which no plugin can take; "
            "use proxy of sandbox.using(timeout=...)"
        )
    way, result = _way(found, _return_type(protocol, name, found))
    return Member(name, found, signature, way, result)


def _return_type(protocol: Any, name: str, function: Callable[..., Any]) -> Any:
    """Return the return annotation, evaluated; the others may name what only checkers know."""
    declared = inspect.get_annotations(function).get("return", Any)
    holder = type("Holder", (), {"__annotations__": {"return": declared}})
    try:
        hints = typing.get_type_hints(
            holder, getattr(function, "__globals__", {}), dict(vars(protocol)), include_extras=True
        )
    except Exception as error:
        raise TypeError(
            f"{_name(protocol)}.{name}: its return annotation {declared!r} cannot be evaluated: "
            f"{error}; what it names has to be there at run time"
        ) from error
    return hints["return"]


def _way(function: Callable[..., Any], returned: Any) -> tuple[Way, Any]:
    origin = get_origin(returned) or returned
    args = get_args(returned)
    if origin in _STREAMS:
        return _STREAMS[origin], args[0] if args else Any
    if origin in _AWAITED:
        return "acall", args[-1] if args else Any
    return ("acall" if inspect.iscoroutinefunction(function) else "call"), returned


# --- what the plugin says ---------------------------------------------------------------------


def misfits(members: list[Member], announced: Mapping[str, Method] | None) -> list[str]:
    """Return all that keeps calls of `members` from being answered, as sentences."""
    if announced is None:
        return []
    problems: list[str] = []
    for member in members:
        method = announced.get(member.name)
        if method is None:
            near = did_you_mean(member.name, announced)
            problems.append(f"it has no method {member.name!r}{near}")
            continue
        is_stream = member.way in ("stream", "astream")
        if method.stream is not is_stream:
            problems.append(f"{member.name!r} is {_STREAM if method.stream else _NO_STREAM}")
        if method.signature is not None:
            told = _parameter_misfits(member.signature, method.signature)
            problems += [f"{member.name!r} {problem}" for problem in told]
    return problems


_STREAM = "a stream: it has to return an Iterator or AsyncIterator"
_NO_STREAM = "no stream, and cannot return an Iterator"


def _parameter_misfits(wanted: Signature, there: Signature) -> Iterator[str]:
    """Yield why a call that fits `wanted` may not fit what is `there`."""
    positions = [each for each in there.parameters.values() if each.kind in _BY_POSITION]
    kinds = {each.kind for each in there.parameters.values()}
    taken: set[str] = set()
    for place, parameter in enumerate(wanted.parameters.values()):
        name, kind = parameter.name, parameter.kind
        if kind in _ANY:
            if kind not in kinds:
                yield f"takes no {_ANY[kind]}{name}"
            continue
        other = there.parameters.get(name)
        if kind in _BY_POSITION:
            other = positions[place] if place < len(positions) else None
        if reason := _refusal(parameter, other, there, kinds):
            yield reason
        elif other is not None:
            taken.add(other.name)
    for name, parameter in there.parameters.items():
        is_required = parameter.default is Parameter.empty and parameter.kind not in _ANY
        if is_required and name not in taken and name not in wanted.parameters:
            yield f"requires {name!r}, which is missing here"


def _refusal(parameter: Parameter, other: Parameter | None, there: Signature, kinds: Any) -> str:
    """Return why `other`, which takes its place, does not take what `parameter` does."""
    name, kind = parameter.name, parameter.kind
    if kind in _BY_POSITION and other is None and Parameter.VAR_POSITIONAL not in kinds:
        return f"takes no {name!r} by position"
    if kind in _BY_NAME and not _takes_by_name(there, name, other, kind):
        return f"takes no {name!r} by name"
    is_required = other is not None and other.default is Parameter.empty
    if is_required and parameter.default is not Parameter.empty:
        return f"requires {name!r}, which is optional here"
    return ""


_ANY = {Parameter.VAR_POSITIONAL: "*", Parameter.VAR_KEYWORD: "**"}


def _takes_by_name(there: Signature, name: str, other: Parameter | None, kind: Any) -> bool:
    named = there.parameters.get(name)
    if named is not None and named.kind in _BY_NAME:
        return kind is Parameter.KEYWORD_ONLY or other is None or other is named
    return any(each.kind is Parameter.VAR_KEYWORD for each in there.parameters.values())


# --- the methods ------------------------------------------------------------------------------


def _method(member: Member) -> Callable[..., Any]:
    """Return what calls `member`, to be a method of the proxy."""
    calls_of = attrgetter("_views" if buffer_form(member.result) == "memoryview" else "_calls")
    call = _CALLERS[member.way](member, converter(member.result))
    fits = _quick_check(member.signature)
    signature, name = member.signature, member.name

    def method(self: Proxy, /, *args: Any, **kwargs: Any) -> Any:
        calls = calls_of(self)
        if not fits(args, kwargs):
            try:
                signature.bind(*args, **kwargs)
            except TypeError as error:
                raise InvalidArgumentsError(f"{_named(calls)}, method {name!r}: {error}") from None
        return call(calls, args, kwargs)

    return update_wrapper(method, member.function)


def _quick_check(signature: Signature) -> Callable[[tuple[Any, ...], dict[str, Any]], bool]:
    """Return what says of nearly all calls that fit that they do; of others, perhaps not."""
    parameters = signature.parameters.values()
    positions = [each for each in parameters if each.kind in _BY_POSITION]
    most = len(positions)
    least = sum(each.default is Parameter.empty for each in positions)
    by_name = {each.name for each in parameters if each.kind in _BY_NAME}
    needed = any(
        each.kind is Parameter.KEYWORD_ONLY and each.default is Parameter.empty
        for each in parameters
    )
    names = [each.name for each in positions]

    def fits(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        given = len(args)
        if needed or given > most:
            return False
        if not kwargs:
            return given >= least
        return (
            given >= least
            and by_name.issuperset(kwargs)
            and not any(name in kwargs for name in names[:given])
        )

    return fits


def _converted(member: Member, convert: Converter) -> Callable[[Calls, Any], Any]:
    """Return `convert`, its errors saying what was answered by whom."""

    def checked(calls: Calls, value: Any) -> Any:
        try:
            return convert(value)
        except ConversionError as error:
            raise InvalidResponseError(
                f"{_named(calls)}, method {member.name!r}: what was answered does not fit "
                f"{inspect.formatannotation(member.result)}: {error}",
                received=repr(value)[:200].encode("utf-8", "replace"),
                plugin=getattr(calls, "name", None),
            ) from None

    return checked


#: Calls a method, with these arguments.
_Caller = Callable[["Calls", tuple[Any, ...], dict[str, Any]], Any]


def _caller(member: Member, convert: Converter) -> _Caller:
    name, checked = member.name, _converted(member, convert)
    return lambda calls, args, kwargs: checked(calls, calls.call(name, *args, **kwargs))


def _acaller(member: Member, convert: Converter) -> _Caller:
    checked = _converted(member, convert)

    async def acall(calls: Calls, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return checked(calls, await calls.acall(member.name, *args, **kwargs))

    return acall


def _streamer(member: Member, convert: Converter) -> _Caller:
    checked = _converted(member, convert)

    def values(calls: Calls, stream: Any) -> Generator[Any, None, Any]:
        with stream:
            for value in stream:
                yield checked(calls, value)
            return stream.result

    return lambda calls, args, kwargs: values(calls, calls.stream(member.name, *args, **kwargs))


def _astreamer(member: Member, convert: Converter) -> _Caller:
    checked = _converted(member, convert)

    async def values(calls: Calls, stream: Any) -> AsyncIterator[Any]:
        async with stream:
            async for value in stream:
                yield checked(calls, value)

    return lambda calls, args, kwargs: values(calls, calls.astream(member.name, *args, **kwargs))


_CALLERS: Mapping[Way, Callable[[Member, Converter], _Caller]] = {
    "call": _caller,
    "acall": _acaller,
    "stream": _streamer,
    "astream": _astreamer,
}


def _name(protocol: Any) -> str:
    return str(getattr(protocol, "__name__", protocol))


def _named(calls: Calls) -> str:
    name = getattr(calls, "name", None)
    return f"plugin {name!r}" if name else repr(calls)
