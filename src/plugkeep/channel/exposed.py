"""The methods that callers at the other end may reach, and what they are told of them."""

from __future__ import annotations

import inspect
from collections import abc
from collections.abc import Callable
from typing import Any, Final, Literal, get_origin

from plugkeep.channel.binding import Binding
from plugkeep.channel.failures import raised
from plugkeep.errors import InvalidArgumentsError
from plugkeep.plugin import exposed

#: What a method says that it returns, where that is a stream of values.
_STREAMS: Final = (abc.Iterator, abc.Generator)
_ASYNC_STREAMS: Final = (abc.AsyncIterator, abc.AsyncGenerator)

#: Where a method runs: on the main thread, on the event loop, on a thread of its own.
Place = Literal["main", "loop", "thread"]


class ExposedMethod:
    """A method that callers may reach."""

    def __init__(
        self,
        name: str,
        function: Callable[..., Any],
        *,
        threaded: bool = False,
        idempotent: bool = False,
    ) -> None:
        self.name = name
        self.is_idempotent = idempotent
        self.function = function
        self.binding = Binding(function)
        # It need not be a generator: a plain function may return what another one gives.
        returned = get_origin(self.binding.returned) or self.binding.returned
        gives_async = inspect.isasyncgenfunction(function) or returned in _ASYNC_STREAMS
        is_async = gives_async or inspect.iscoroutinefunction(function)
        self.place: Place = "loop" if is_async else "thread" if threaded else "main"
        self.is_stream = (
            gives_async or inspect.isgeneratorfunction(function) or returned in _STREAMS
        )
        #: Whether a call may be served there and then, if nothing else is special about it.
        self.is_quick = self.place == "main" and not self.is_stream
        #: What is answered for what it raises.
        self.failure = raised

    def announcement(self) -> dict[str, Any]:
        """Return what the ready object says of it."""
        said: dict[str, Any] = {"name": self.name}
        if (params := self.binding.params()) is not None:
            said["params"] = params
        if self.is_stream:
            said["stream"] = True
        if self.is_idempotent:
            said["idempotent"] = True
        if doc := inspect.getdoc(self.function):
            said["doc"] = doc
        return said


def methods_of(plugin: object) -> dict[str, ExposedMethod]:
    """Return the methods of `plugin` that `expose` has marked, by the names that callers use."""
    return {
        name: ExposedMethod(
            name,
            getattr(plugin, attribute),
            threaded=exposure.threaded,
            idempotent=exposure.idempotent,
        )
        for name, (attribute, exposure) in exposed(plugin).items()
    }


def misused(*, is_stream: bool) -> InvalidArgumentsError:
    """Return the error where a method was called as what it is not."""
    way = "a stream: use stream() or astream()" if is_stream else "no stream: use call() or acall()"
    return InvalidArgumentsError(f"it is {way}")
