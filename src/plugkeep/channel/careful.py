"""Calls that keep to a plugin's limits, and wait for one that is about to be there.

A `Careful` stands where a `Caller` does, and has the same methods. It finds the caller anew for
each call, for a plugin that comes back has another one.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from contextlib import aclosing
from itertools import chain
from types import NoneType
from typing import TYPE_CHECKING, Any, cast

from plugkeep.channel.calling import PLAIN, Caller, Options
from plugkeep.channel.calls import Calls, _View
from plugkeep.channel.entrance import PLAINLY, Entrance, Manner, Visit
from plugkeep.channel.mapping import Mapped
from plugkeep.errors import CallError, CallTimeoutError, PluginError, ProcessExitedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from plugkeep.channel.aio import AsyncStream
    from plugkeep.channel.streaming import Stream


class Careful:
    """Calls the methods of a plugin by its entrance, in some manner."""

    #: There is none that would be the same for two calls.
    channel: Any = None

    def __init__(self, entrance: Entrance, manner: Manner) -> None:
        self.entrance = entrance
        self._manner = manner

    def call(
        self,
        method: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: Options | None = PLAIN,
    ) -> Any:
        """See `Caller.call`."""
        attempts = _Attempts(self, method, options)
        try:
            while True:
                caller = None
                try:
                    caller = attempts.visit.at_once() or attempts.visit.enter()
                    return caller.call(method, args, kwargs, attempts.options())
                except PluginError as error:
                    attempts.failed(caller, error)
        finally:
            attempts.visit.leave()

    async def acall(
        self,
        method: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: Options | None = PLAIN,
    ) -> Any:
        """See `Caller.acall`."""
        attempts = _Attempts(self, method, options)
        try:
            while True:
                caller = None
                try:
                    caller = attempts.visit.at_once() or await attempts.visit.aenter()
                    return await caller.acall(method, args, kwargs, attempts.options())
                except PluginError as error:
                    attempts.failed(caller, error)
        finally:
            attempts.visit.leave()

    def stream(
        self,
        method: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: Options | None = PLAIN,
    ) -> Stream:
        """See `Caller.stream`."""
        visit = self.visit(method, options)
        try:
            caller = visit.at_once() or visit.enter()
            stream = cast("Stream", caller.stream(method, args, kwargs, options or PLAIN))
            # From here on it leaves with the stream, by closing it or by being forgotten with it.
            stream.ticket = visit.ticket
        except BaseException:
            visit.leave()
            raise
        return stream

    def astream(
        self,
        method: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: Options | None = PLAIN,
    ) -> AsyncStream:
        """See `Caller.astream`."""
        from plugkeep.channel._careful_stream import CarefulStream

        return CarefulStream(cast("Any", self), method, args, kwargs, options or PLAIN)

    def map(
        self,
        method: str,
        iterables: Iterable[Iterable[Any]],
        options: Options | None = PLAIN,
    ) -> Iterator[Any]:
        """See `Caller.map`. It counts as one call, from its first result to its end."""
        return chain.from_iterable(self._batches(method, tuple(iterables), options or PLAIN))

    async def amap(
        self,
        method: str,
        iterables: Iterable[Iterable[Any] | AsyncIterable[Any]],
        options: Options | None = PLAIN,
    ) -> AsyncIterator[Any]:
        """See `Caller.amap`."""
        visit = self.visit(method, options)
        try:
            caller = visit.at_once() or await visit.aenter()
            results = caller.amap(method, iterables, options or PLAIN)
            async with aclosing(results):
                async for result in results:
                    yield result
        finally:
            visit.leave()

    def visit(self, method: str, options: Options | None) -> Visit:
        """Return the way in of one call."""
        timeout = None if options is None else options.timeout
        return Visit(self.entrance, self._manner, method, timeout)

    def named(self, error: CallError) -> CallError:
        """Do as that of `Caller`, which these have been told by already."""
        return error

    def may_repeat(self, caller: Caller, method: str) -> bool:
        """Whether a call that has been lost may be made once more."""
        if not self._manner.wait:
            return False
        announced = caller.methods()
        known = announced.get(method) if isinstance(announced, Mapping) else None
        return self._manner.retry or getattr(known, "idempotent", False) is True

    def _batches(
        self, method: str, iterables: tuple[Iterable[Any], ...], options: Options
    ) -> Iterator[Sequence[Any]]:
        visit = self.visit(method, options)
        try:
            caller = visit.at_once() or visit.enter()
            check(caller, method)
            yield from Mapped(caller, method, iterables, options)._batches()
        finally:
            visit.leave()


class _Attempts:
    """One call that may be made twice."""

    def __init__(self, careful: Careful, method: str, options: Options | None) -> None:
        self.visit = careful.visit(method, options)
        self._careful = careful
        self._method = method
        self._options = options or PLAIN
        self._died: ProcessExitedError | None = None

    def options(self) -> Options:
        """Return how to call now: within the time that is left."""
        if not self.visit.has_waited:
            return self._options
        return self._options._replace(timeout=self.visit.left())

    def failed(self, caller: Any, error: PluginError) -> None:
        """Return if it is to be made once more; else raise what is to be told of all of it.

        `caller` is None where it has not come as far as that.
        """
        died = self._died
        if caller is None:
            if died is None:
                raise error
            if isinstance(error, CallTimeoutError):
                raise error from died
            died.add_note(f"It was not called once more: {error}")
            raise died
        if isinstance(error, CallTimeoutError) and self.visit.has_waited:
            raise self.visit.late("part of that it had to wait") from died
        is_lost = isinstance(error, ProcessExitedError) and _was_lost(caller, error)
        if died is None and is_lost and self._careful.may_repeat(caller, self._method):
            self._died = cast("ProcessExitedError", error)
            self.visit.has_waited = True  # some of the time is over
            return
        raise error


def _was_lost(caller: Any, error: PluginError) -> bool:
    """Whether a call failed for its process has ended, and not one that its callbacks made."""
    channel = getattr(caller, "channel", None)
    return channel is not None and channel.is_lost and error.plugin == caller.plugin


def check(caller: Any, method: str) -> None:
    """Raise what any call of `method` would, before it is sent."""
    if isinstance(caller, Caller):
        caller._check_name(method)
    else:
        caller.call(method)


def manner_of(outer: Manner | None, wait: bool | None, retry: bool | None) -> Manner:
    """Return the manner of a view of something with the manner `outer`; None: it stays."""
    for name, value in (("wait", wait), ("retry", retry)):
        if not isinstance(value, (bool, NoneType)):
            raise TypeError(f"{name} is {value!r}; it takes True or False")
    if retry and wait is False:
        raise ValueError("retry is True and wait False; what is to be called again has to wait")
    outer = outer or PLAINLY
    if retry is None:
        retry = outer.retry and wait is not False
    return Manner(retry or (outer.wait if wait is None else wait), retry)


class CarefulView(_View):
    """Something to call, in a manner that takes care."""

    def __init__(self, of: Calls, manner: Manner, *given: Any) -> None:
        super().__init__(of, *given)
        entrance = of._entrance
        if entrance is None:
            raise ValueError(f"the calls of {of!r} cannot wait for it: it is no sandbox")
        self._own_manner = manner
        self._careful = Careful(entrance, manner)

    @property
    def _manner(self) -> Manner:  # type: ignore[override]
        return self._own_manner

    @property
    def _caller(self) -> Any:  # type: ignore[override]
        return self._careful

    @property
    def _call(self) -> Any:  # type: ignore[override]
        return self._careful.call

    def __repr__(self) -> str:
        manner = {name: value for name, value in self._own_manner._asdict().items() if value}
        given = ", ".join(f"{name}={value!r}" for name, value in (self._given | manner).items())
        return f"<{self._of!r} using {given}>"
