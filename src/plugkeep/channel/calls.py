"""What whoever calls is offered: the same by a sandbox, a view of it, and a capability."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, TypeVar

if TYPE_CHECKING:
    from collections.abc import (
        AsyncIterable,
        AsyncIterator,
        Callable,
        Coroutine,
        Iterable,
        Iterator,
        Mapping,
    )

    from plugkeep.channel.aio import AsyncStream
    from plugkeep.channel.announcement import Method
    from plugkeep.channel.calling import Caller, Options
    from plugkeep.channel.entrance import Manner
    from plugkeep.channel.streaming import Stream
    from plugkeep.plugin import ProtocolOf

T = TypeVar("T")

BufferForm = Literal["bytes", "memoryview"]


class Calls:
    """The ways to call a method. `timeout` is in seconds; None: what the sandbox says.

    All raise what is in the family `CallError`: RemoteError where the method raised,
    MethodNotFoundError, InvalidArgumentsError, UnsendableValueError, CallTimeoutError. And
    ProcessExitedError where the process ends, ProtocolViolationError where it has to be ended,
    NotStartedError where it does not run. Safe from any thread, and from event loops at the
    same time.
    """

    #: Stands for what the methods below call, and is exchanged as the plugin comes and goes.
    _caller: Caller
    _call: Callable[..., Any]  # that of the caller, at hand
    _options: Options | None
    #: By which calls come that wait for their turn, or for the plugin; None: there is nothing such.
    _entrance: Any = None  # or an `Entrance`
    #: How calls deal with a plugin that is not there; None: they fail.
    _manner: Manner | None = None

    @property
    def methods(self) -> Mapping[str, Method] | None:
        """What the plugin has announced, by name; None: that is not known."""
        raise AttributeError("methods")

    def call(self, method: str, /, *args: Any, timeout: float | None = None, **kwargs: Any) -> Any:
        """Call a method, wait, and return what it returned."""
        if timeout is None:
            return self._call(method, args, kwargs, self._options)
        return self._call(method, args, kwargs, self._with(timeout))

    def acall(
        self, method: str, /, *args: Any, timeout: float | None = None, **kwargs: Any
    ) -> Coroutine[Any, Any, Any]:
        """Do what `call` does, on an event loop: asyncio's or trio's."""
        options = self._options
        if timeout is not None or options is None:
            options = self._with(timeout)
        return self._caller.acall(method, args, kwargs, options)

    def stream(
        self, method: str, /, *args: Any, timeout: float | None = None, **kwargs: Any
    ) -> Stream:
        """Call a method that yields; return an iterator of the values, as they come.

        `timeout` is for each value. Closing the stream, or leaving it as a context manager,
        cancels what is left of it.
        """
        return self._caller.stream(method, args, kwargs, self._with(timeout))

    def astream(
        self, method: str, /, *args: Any, timeout: float | None = None, **kwargs: Any
    ) -> AsyncStream:
        """Do what `stream` does, on an event loop."""
        return self._caller.astream(method, args, kwargs, self._with(timeout))

    def map(self, method: str, /, *iterables: Iterable[Any]) -> Iterator[Any]:
        """Call a method for each item, as the builtin `map` does, many calls being under way.

        The results come in order. The first error ends it, and cancels what is under way then.
        """
        return self._caller.map(method, iterables, self._with(None))

    def amap(
        self, method: str, /, *iterables: Iterable[Any] | AsyncIterable[Any]
    ) -> AsyncIterator[Any]:
        """Do what `map` does, on an event loop; the items may come asynchronously, too."""
        return self._caller.amap(method, iterables, self._with(None))

    def proxy(self, protocol: ProtocolOf[T]) -> T:
        """Return an object with the methods of `protocol`, each of which calls the plugin's.

        That the plugin's methods fit is checked here, as far as they are known. Arguments are
        checked against the protocol's signatures, results become what their annotations say;
        ``async def`` methods are to be awaited, those that return an Iterator or an AsyncIterator
        are streams. Raises InvalidPluginError listing everything that does not fit, TypeError for
        what is no protocol of methods.
        """
        from plugkeep.channel.proxies import proxy

        return proxy(protocol, self)

    def implementing(self, protocol: ProtocolOf[T]) -> T | None:
        """Return what `proxy` does if the plugin has announced methods that fit, else None."""
        if self.methods is None or not getattr(protocol, "_is_protocol", False):
            return None
        from plugkeep.channel.proxies import proxy_if_fit

        return proxy_if_fit(protocol, self)

    def using(
        self,
        *,
        timeout: float | None = None,
        buffers: BufferForm | None = None,
        on_progress: Callable[[Any], object] | None = None,
        window: int | None = None,
        wait: bool | None = None,
        retry: bool | None = None,
    ) -> Calls:
        """Return a view of this with the same methods, which call in another way.

        `timeout` goes for all calls; None leaves it as it is, `math.inf` is without limit.
        `buffers` says what bytes are received as: with "memoryview" large ones are not copied.
        `on_progress` is called with what a method reports while it is at work. `window` is how
        many values of a stream may be ahead of whoever takes them, or calls of a map under way.

        With `wait` calls of a plugin that is being started or is to come back wait for that, up to
        their timeout; one whose process ends while it is under way is made once more, if its method
        is marked by ``expose(idempotent=True)``. With `retry`, which includes `wait`, it is made
        once more whatever the method: for calls that do no harm when they are made twice. Streams
        and maps wait, and are never made twice.
        """
        given = timeout, buffers, on_progress, window
        if wait is None and retry is None:
            return _View(self, *given)
        from plugkeep.channel.careful import CarefulView, manner_of

        manner = manner_of(self._manner, wait, retry)
        return CarefulView(self, manner, *given)

    def _idle_options(self) -> Options:
        """Return the options of calls while there are none, for nothing can be called."""
        from plugkeep.channel.calling import PLAIN

        return PLAIN

    def _with(self, timeout: float | None) -> Options:
        """Return the options of one call."""
        options = self._options
        if options is None:
            from plugkeep.channel.calling import PLAIN

            options = PLAIN
        return options if timeout is None else options._replace(timeout=_limit(timeout))


def _limit(timeout: float) -> float | None:
    """Return the time limit of one call; None: there is none.

    Raises TypeError and ValueError. 0 and less is what is left of a call whose time is up.
    """
    if type(timeout) is float and 0 <= timeout < math.inf:
        return timeout
    from plugkeep.lifecycle import check_timeout

    if type(timeout) in (int, float) and timeout <= 0:
        return 0.0
    checked = check_timeout("timeout", timeout)
    return None if checked == math.inf else checked


class _View(Calls):
    """Something to call, in another way."""

    def __init__(
        self,
        of: Calls,
        timeout: float | None,
        buffers: BufferForm | None,
        on_progress: Callable[[Any], object] | None,
        window: int | None,
    ) -> None:
        from plugkeep.lifecycle import check_timeout

        if buffers not in ("bytes", "memoryview", None):
            raise ValueError(f"buffers is {buffers!r}; it can be 'bytes' or 'memoryview'")
        if on_progress is not None and not callable(on_progress):
            raise TypeError(f"on_progress is {on_progress!r}, which cannot be called")
        if window is not None and (type(window) is not int or window < 1):
            raise ValueError(f"window is {window!r}; it takes a whole number, 1 or more")
        given = {
            "timeout": check_timeout("timeout", timeout),
            "buffers": buffers,
            "on_progress": on_progress,
            "window": window,
        }
        self._of = of
        self.name = getattr(of, "name", None)
        self._given: dict[str, Any] = {
            name: value for name, value in given.items() if value is not None
        }
        if timeout == math.inf:
            self._given["timeout"] = None
        #: The options of what it is a view of, and its own that were made of them.
        self._made: tuple[Options | None, Options] | None = None

    @property
    def _options(self) -> Options:  # type: ignore[override]  # what it is a view of may change
        of, made = self._of._options, self._made
        if made is None or made[0] is not of or of is None:
            whole = (self._of._idle_options() if of is None else of)._replace(**self._given)
            self._made = made = of, whole
        return made[1]

    @property
    def _caller(self) -> Caller:  # type: ignore[override]
        return self._of._caller

    @property
    def _call(self) -> Callable[..., Any]:  # type: ignore[override]
        return self._of._call

    @property
    def _entrance(self) -> Any:
        return self._of._entrance

    @property
    def _manner(self) -> Manner | None:  # type: ignore[override]
        return self._of._manner

    @property
    def methods(self) -> Mapping[str, Method] | None:
        return self._of.methods

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in self._given.items())
        return f"<{self._of!r} using {given}>"
