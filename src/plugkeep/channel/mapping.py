"""Many calls of one method, under way at once, their results in order."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice, repeat, starmap
from typing import TYPE_CHECKING, Any, Final

from msgspec import UNSET

from plugkeep.channel import behalf
from plugkeep.channel.channel import timed_out
from plugkeep.channel.in_order import InOrder, Many
from plugkeep.channel.waiters import Waiter
from plugkeep.errors import CallError, PluginError, UnsendableValueError
from plugkeep.wire.events import Answer
from plugkeep.wire.series import MAX_SERIES

if TYPE_CHECKING:
    from plugkeep.channel.calling import Caller, Options
    from plugkeep.channel.channel import Channel

_NONE: Final[dict[str, Any]] = {}


class Collector(Many, Waiter):
    """A thread that waits for the answers of many calls."""

    def __init__(self, order: InOrder) -> None:
        super().__init__()
        self.order = order

    news = Waiter.ring

    def has_news(self) -> bool:
        return bool(self.order.ready) or self.is_lost


class Pipeline:
    """Calls that are made ahead of whoever takes their results, many in one write."""

    def __init__(
        self, channel: Channel, method: str, window: int, order: InOrder, waiter: Any
    ) -> None:
        if window < 1:
            raise ValueError(f"window is {window}; it takes 1 or more")
        #: Why there are no more calls, where it is not that there are no more items.
        self.error: Exception | None = None
        self.is_over = False  # there are no more items
        self._channel = channel
        self._method = method
        self._window = window
        self._order = order
        self._waiter = waiter
        behalf.note(waiter)

    @property
    def room(self) -> int:
        """How many calls are to be made now: none while half a window is still under way.

        While as many results wait, another window may be: so both ends have something to do.
        """
        under_way, window = len(self._order.numbers), self._window
        if self.is_over or under_way * 2 > window or len(self._order.ready) > window:
            return 0
        return min(window - under_way, MAX_SERIES)

    def refill(self, items: Iterator[tuple[Any, ...]]) -> None:
        """Make more calls, if there is room. An error of `items` waits until it is its turn."""
        if not (room := self.room):
            return
        batch: list[tuple[Any, ...]] = []
        try:
            batch.extend(islice(items, room))
        except Exception as error:
            self.end(error)
        if len(batch) < room:
            self.is_over = True
        if batch:
            self.send(batch)

    def send(self, batch: Sequence[tuple[Any, ...]]) -> None:
        """Make calls with these arguments. What cannot be written now is left in the outbox."""
        within = self._channel.within()
        connection = self._channel.connection
        if within is UNSET and (
            quick := connection.quick_requests(self._method, batch, self._waiter)
        ):
            numbers, frames = quick
            self._order.numbers.extend(numbers)
            self._channel.outbox.send((frames, ()))
        else:
            self._send_each(batch, within)

    def _send_each(self, batch: Iterable[tuple[Any, ...]], within: Any) -> None:
        method, waiter, request = self._method, self._waiter, self._channel.request
        numbers, put = self._order.numbers, self._channel.outbox.put
        frames: list[bytes | bytearray] = []
        try:
            for args in batch:
                number, (frame, apart) = request(method, args, _NONE, waiter, UNSET, UNSET, within)
                numbers.append(number)
                frames.append(frame)
                if apart:
                    put((b"".join(frames), apart))
                    frames.clear()
        except UnsendableValueError as error:
            self.end(error)
        if frames:
            put((b"".join(frames), ()))
        self._channel.outbox.flush()

    def end(self, error: Exception) -> None:
        """Make no more calls; `error` comes after the results of those that are under way."""
        self.error, self.is_over = error, True


class Mapped:
    """The results of a `map`, to be gone through once."""

    def __init__(
        self,
        caller: Caller,
        method: str,
        iterables: Iterable[Iterable[Any]],
        options: Options,
    ) -> None:
        self._caller = caller
        self._channel = caller.channel
        self._method = method
        self._options = options
        self._order = order = InOrder()
        self._waiter = Collector(order)
        self._items: Iterator[tuple[Any, ...]] = zip(*iterables)  # noqa: B905  # as `map` does
        self._pipeline = Pipeline(caller.channel, method, options.window, order, self._waiter)

    def __iter__(self) -> Iterator[Any]:
        return chain.from_iterable(self._batches())

    def _batches(self) -> Iterator[Sequence[Any]]:
        pipeline, order = self._pipeline, self._order
        self._channel.mapping.add(self)
        if self._channel.is_retired:
            self._channel.mapping.discard(self)
            yield from self._moved()
            return
        try:
            while True:
                if pipeline.room:
                    pipeline.refill(self._items)
                    self._channel.flush_waiting(self._options.timeout)
                if not order:
                    break
                if order.ready:
                    results, error = self._take_results()
                    yield results
                    if error is not None:
                        raise error
                else:
                    self._await()
            if pipeline.error is not None:
                raise pipeline.error
        except CallError as error:
            raise self._caller.named(error) from None
        finally:
            self._end()

    def _moved(self) -> Iterator[Sequence[Any]]:
        """Do all of it elsewhere, for the channel takes no more calls."""
        caller = self._caller.instead()
        moved = Mapped(caller, self._method, [self._items], self._options)
        moved._items = self._items
        return moved._batches()

    def _take_results(self) -> tuple[list[Any], PluginError | None]:
        """Return the next results, up to an error."""
        ready, options = self._order.ready, self._options
        found = list(starmap(ready.popleft, repeat((), len(ready))))
        if options.buffers == "bytes" and Answer not in map(type, found):
            return found, None
        results: list[Any] = []  # it keeps what came before an error
        outcome = self._caller.outcome
        try:
            results.extend(outcome(each, self._method, options) for each in found)
        except PluginError as error:
            return results, error
        return results, None

    def _await(self) -> None:
        waiter, channel, timeout = self._waiter, self._channel, self._options.timeout
        deadline = None if timeout is None else time.monotonic() + timeout
        in_time = channel.wait(waiter, waiter.has_news, deadline)
        if not self._order.ready:
            channel.check()
            if not in_time:
                raise timed_out(self._method, timeout)

    def _end(self) -> None:
        """Give up what is under way."""
        self._channel.mapping.discard(self)
        for number in list(self._order.numbers):
            self._channel.forget(number)
        self._order.numbers.clear()
