"""Calling what a plugin has been granted, where plugin and host are one process.

What is granted, and what the methods take, is as it is for plugins in processes of their own.
What the methods raise comes as it is, and nothing can be cut short: options make no difference.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from plugkeep.channel.access import HostAccess
from plugkeep.channel.exposed import misused
from plugkeep.errors import InvalidArgumentsError
from plugkeep.sandbox.granting import Offer, Served, find_method

if TYPE_CHECKING:
    from plugkeep.sandbox.granting import Grants


def give_host(plugin: Any, grants: Grants, fail: Callable[[BaseException], object]) -> None:
    """Set `plugin.host`, which the plugin has asked for; `fail` is told when it cannot go on."""
    offers: dict[str, tuple[object, Offer]] = {}
    plugin.host = HostAccess(
        lambda prefix: _LocalCaller(grants, offers, prefix),  # type: ignore[arg-type,return-value]
        lambda: tuple(grants.names()),
        fail,
    )


class _LocalCaller:
    """Does what a `Caller` does, in this process."""

    def __init__(
        self, grants: Grants, offers: dict[str, tuple[object, Offer]], prefix: str
    ) -> None:
        self._grants = grants
        self._offers = offers
        self._prefix = prefix

    def call(self, method: str, args: Any, kwargs: Any, _: object = None) -> Any:
        served, function = self._find(method, args, kwargs, stream=False)
        if not served.is_async:
            return function()
        loop = self._grants.loop
        if loop is None:
            raise RuntimeError(f"{self._name(method)!r} is asynchronous, to be called by acall")
        return loop.run(function, lambda _cancel: None)

    async def acall(self, method: str, args: Any, kwargs: Any, _: object = None) -> Any:
        served, function = self._find(method, args, kwargs, stream=False)
        if served.is_async:
            return await function()
        from anyio.to_thread import run_sync

        return await run_sync(function)

    def stream(self, method: str, args: Any, kwargs: Any, _: object = None) -> _LocalStream:
        served, function = self._find(method, args, kwargs, stream=True)
        if served.is_async:
            raise RuntimeError(f"{self._name(method)!r} is asynchronous, to be read by astream")
        return _LocalStream(iter(function()))

    async def astream(
        self, method: str, args: Any, kwargs: Any, _: object = None
    ) -> AsyncIterator[Any]:
        served, function = self._find(method, args, kwargs, stream=True)
        if served.is_async:
            values = function()
            async for value in await values if hasattr(values, "__await__") else values:
                yield value
            return
        from anyio.to_thread import run_sync

        values, end = iter(function()), object()
        while (value := await run_sync(next, values, end)) is not end:
            yield value

    def map(self, method: str, iterables: Any, _: object = None) -> Iterator[Any]:
        return map(lambda *args: self.call(method, args, {}), *iterables)

    async def amap(self, method: str, iterables: Any, _: object = None) -> AsyncIterator[Any]:
        sources = [_async_iterator(each) for each in iterables]
        while True:
            try:
                args = [await anext(each) for each in sources]
            except StopAsyncIteration:
                return
            yield await self.acall(method, args, {})

    def _find(
        self, method: str, args: Any, kwargs: Any, *, stream: bool
    ) -> tuple[Served, Callable[[], Any]]:
        name = self._name(method)
        served = find_method(self._grants, name, self._offers, stream=stream)
        try:
            if bool(served.is_stream) is not stream:
                raise misused(is_stream=bool(served.is_stream))
            if served.binding is not None:
                args, kwargs = served.binding.bind(list(args), kwargs, ())
        except InvalidArgumentsError as error:
            raise InvalidArgumentsError(f"{name!r}: {error}") from None
        if served.takes_timeout:
            kwargs = {**kwargs, "timeout": None}
        return served, partial(served.function, *args, **kwargs)

    def _name(self, method: str) -> str:
        return f"{self._prefix}{method}".removesuffix(".")  # "": the capability itself


async def _async_iterator(values: Any) -> AsyncIterator[Any]:
    if hasattr(values, "__aiter__"):
        async for value in values:
            yield value
    else:
        for value in values:
            yield value


class _LocalStream(Iterator[Any]):
    """A generator that looks like a `Stream`."""

    def __init__(self, values: Iterator[Any]) -> None:
        self.result: Any = None
        self._values = values

    def __next__(self) -> Any:
        try:
            return next(self._values)
        except StopIteration as end:
            self.result = end.value
            raise

    def close(self) -> None:
        """Take no more; the method ends."""
        if (close := getattr(self._values, "close", None)) is not None:
            close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
