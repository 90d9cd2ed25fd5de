"""Calling methods at the other end of a channel: one, many, or one that answers bit by bit."""

from __future__ import annotations

from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Callable,
    Collection,
    Coroutine,
    Iterable,
    Iterator,
)
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from plugkeep.channel.channel import Channel, Retired
from plugkeep.channel.failures import Called, error_of
from plugkeep.errors import (
    CallError,
    CallTimeoutError,
    MethodNotFoundError,
    NotStartedError,
    PluginError,
    ProtocolViolationError,
)
from plugkeep.wire.events import Answer, Chunk
from plugkeep.wire.messages import RESERVED, ErrorObject, PlainAnswer
from plugkeep.wire.values import as_memoryviews, unpack

if TYPE_CHECKING:
    from plugkeep.channel.aio import AsyncStream
    from plugkeep.channel.streaming import Stream


class Options(NamedTuple):
    """How a call is to be made.

    `timeout`: seconds that it may take; for streams and `map`, that the next value may take.
    `buffers`: what bytes are received as. `on_progress` is given what the method reports while
    the call is under way. `window`: how many values of a stream there may be ahead of whoever
    takes them, or how many calls of a `map` under way, beside as many results that wait.
    """

    timeout: float | None = None
    buffers: Literal["bytes", "memoryview"] = "bytes"
    on_progress: Callable[[Any], object] | None = None
    window: int = 64


PLAIN: Final = Options()
#: What `acall` does, once it has been needed: it brings event loops along.
_acall: Any = None


def _find_acall() -> Any:
    global _acall
    from plugkeep.channel import aio

    _acall = aio.acall
    return _acall


class Caller:
    """Calls the methods of a plugin, or of a host, over a channel.

    `plugin` is whom errors name; `methods` gives what is known to be there, for near misses.
    """

    def __init__(
        self, channel: Channel, plugin: str, methods: Callable[[], Collection[str]]
    ) -> None:
        self.channel = channel
        self.plugin = plugin
        self.methods = methods
        self._call = channel.call
        #: Who calls instead, once the channel takes no more calls; None: nobody.
        self.successor: Caller | None = None

    def call(
        self,
        method: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: Options = PLAIN,
    ) -> Any:
        """Call a method, wait, and return what it returned.

        Raises what is in the family `CallError`, and ProcessExitedError where the other end dies.
        """
        timeout, buffers, on_progress, _ = options
        if method[:2] == RESERVED:
            self._check_name(method)
        try:
            if on_progress is None:
                answer = self._call(method, args, kwargs, timeout)
            else:
                answer = self.channel.call_following(method, args, kwargs, timeout, on_progress)
        except Retired:
            return self.instead().call(method, args, kwargs, options)
        except CallError as error:
            raise self.named(error) from None
        if type(answer) is PlainAnswer and buffers == "bytes":
            return answer.result
        return self.result_of(answer, method, options)

    def acall(
        self,
        method: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: Options = PLAIN,
    ) -> Coroutine[Any, Any, Any]:
        """Do what `call` does, on an event loop: asyncio's or trio's."""
        if method[:2] == RESERVED:
            self._check_name(method)
        return (_acall or _find_acall())(self, method, args, kwargs, options)  # type: ignore[no-any-return]

    def stream(
        self,
        method: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: Options = PLAIN,
    ) -> Stream:
        """Call a method that yields; return what gives its values as they come."""
        from plugkeep.channel.streaming import Stream

        self._check_name(method)
        try:
            return Stream(self, method, args, kwargs, options)
        except Retired:
            return self.instead().stream(method, args, kwargs, options)

    def astream(
        self,
        method: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: Options = PLAIN,
    ) -> AsyncStream:
        """Do what `stream` does, on an event loop."""
        from plugkeep.channel import aio

        self._check_name(method)
        return aio.AsyncStream(self, method, args, kwargs, options)

    def map(
        self, method: str, iterables: Iterable[Iterable[Any]], options: Options = PLAIN
    ) -> Iterator[Any]:
        """Call a method once for each item, as `map` does; the calls are under way at once.

        The results come in order. The first error ends it; what is under way then is cancelled.
        """
        from plugkeep.channel.mapping import Mapped

        self._check_name(method)
        return iter(Mapped(self, method, iterables, options))

    def amap(
        self,
        method: str,
        iterables: Iterable[Iterable[Any] | AsyncIterable[Any]],
        options: Options = PLAIN,
    ) -> AsyncIterator[Any]:
        """Do what `map` does, on an event loop; the items may come asynchronously, too."""
        from plugkeep.channel import amapping

        self._check_name(method)
        return amapping.amap(self, method, iterables, options)

    def instead(self) -> Caller:
        """Return who calls now that the channel takes no more. Raises NotStartedError: nobody."""
        if self.successor is None:
            text = f"plugin {self.plugin!r} is being stopped, and takes no more calls"
            raise NotStartedError(text, plugin=self.plugin)
        return self.successor

    def _check_name(self, method: str) -> None:
        if method[:2] == RESERVED:
            raise MethodNotFoundError(
                f"plugin {self.plugin!r} has no method {method!r}: names that begin with "
                f"{RESERVED} are the wire's own",
                plugin=self.plugin,
            )

    # --- results and errors ---------------------------------------------------------------

    def result_of(self, answer: Answer | PlainAnswer, method: str, options: Options) -> Any:
        """Return what was answered, or raise it."""
        if isinstance(answer, PlainAnswer):
            return self.value_of(answer.result, (), method, options)
        if answer.error is not None:
            raise self.error_of(answer.error, method, options)
        return self.value_of(answer.result, answer.buffers, method, options)

    def outcome(self, found: Any, method: str, options: Options) -> Any:
        """Return what a call has come to, or raise it: a plain result, or an answer."""
        if isinstance(found, Answer):
            return self.result_of(found, method, options)
        return self.value_of(found, (), method, options)

    def value_of(self, value: Any, buffers: Any, method: str, options: Options) -> Any:
        """Return a value that has come, with its buffers in it."""
        form = options.buffers
        if not buffers:
            return value if form == "bytes" else as_memoryviews(value)
        try:
            unpacked = unpack(value, buffers, form)
        except ValueError as error:
            raise self.violated(method, error) from error
        return unpacked

    def chunk_of(self, chunk: Chunk, method: str, options: Options) -> Any:
        """Return a value of a stream."""
        return self.value_of(chunk.value, chunk.buffers, method, options)

    def error_of(self, error: ErrorObject, method: str, options: Options) -> PluginError:
        """Return what is to be raised where an answer is an error."""
        raised = error_of(error, Called(self.plugin, method, self.methods))
        if isinstance(raised, CallTimeoutError):
            raised.timeout = options.timeout or 0.0
        return raised

    def violated(self, method: str, error: Exception) -> ProtocolViolationError:
        """Cut off the other end, which has sent what cannot be; return what is to be raised."""
        violation = ProtocolViolationError(
            f"plugin {self.plugin!r}, method {method!r}: what was answered breaks a rule: {error}",
            plugin=self.plugin,
        )
        self.channel.cut_off(violation)
        return violation

    def named(self, error: CallError) -> CallError:
        """Let an error of the channel's say whom it is about."""
        if error.plugin is None:
            error.plugin = self.plugin
            error.message = f"plugin {self.plugin!r}: {error.message}"
            error.args = (error.message,)
        return error
