"""Many calls of one method, under way at once, their results in order."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from msgspec import UNSET

from plugkeep.channel.channel import timed_out
from plugkeep.channel.waiters import Waiter
from plugkeep.errors import CallError, UnsendableValueError
from plugkeep.wire.messages import PlainAnswer

if TYPE_CHECKING:
    from plugkeep.channel.calling import Caller, Options
    from plugkeep.channel.channel import Channel
    from plugkeep.wire.events import Answer

_NONE: Final[dict[str, Any]] = {}


class Collector(Waiter):
    """Waits for many answers, of which one is `awaited` first."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: dict[Any, Answer | PlainAnswer] = {}
        self.awaited: Any = 0

    def answered(self, answer: Answer | PlainAnswer) -> None:
        self.answers[answer.id] = answer
        if answer.id == self.awaited:
            self.ring()

    def has_news(self) -> bool:
        return self.awaited in self.answers or self.is_lost


class Pipeline:
    """Calls that are made ahead of whoever takes their results: half a window in one write."""

    def __init__(self, channel: Channel, method: str, window: int, waiter: Any) -> None:
        if window < 1:
            raise ValueError(f"window is {window}; it takes 1 or more")
        self.numbers: deque[int] = deque()
        #: Why there are no more calls, where it is not that there are no more items.
        self.error: Exception | None = None
        self.is_over = False  # there are no more items
        self._channel = channel
        self._method = method
        self._window = window
        self._waiter = waiter

    @property
    def room(self) -> int:
        """How many calls are to be made now; 0 while there are enough under way."""
        under_way = len(self.numbers)
        return 0 if self.is_over or under_way * 2 > self._window else self._window - under_way

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

    def send(self, batch: Iterable[tuple[Any, ...]]) -> None:
        """Put calls with these arguments into the outbox."""
        batch = list(batch)
        within = self._channel.within()
        connection = self._channel.connection
        if within is UNSET and (
            quick := connection.quick_requests(self._method, batch, self._waiter)
        ):
            numbers, frames = quick
            self.numbers.extend(numbers)
            self._channel.outbox.put((frames, ()))
        else:
            self._send_each(batch, within)

    def _send_each(self, batch: Iterable[tuple[Any, ...]], within: Any) -> None:
        method, waiter, request = self._method, self._waiter, self._channel.connection.request
        numbers, put = self.numbers, self._channel.outbox.put
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
        self._waiter = Collector()
        self._items: Iterator[tuple[Any, ...]] = zip(*iterables)  # noqa: B905  # as `map` does
        self._pipeline = Pipeline(caller.channel, method, options.window, self._waiter)

    def __iter__(self) -> Iterator[Any]:
        pipeline, answers, method = self._pipeline, self._waiter.answers, self._method
        numbers, options, result_of = pipeline.numbers, self._options, self._caller.result_of
        half = options.window // 2
        is_plain = options.buffers == "bytes"
        try:
            while True:
                if len(numbers) <= half and pipeline.room:
                    pipeline.refill(self._items)
                    self._channel.flush_waiting(self._options.timeout)
                if not numbers:
                    break
                number = numbers[0]
                if number not in answers:
                    self._await(number)
                keep = 0 if pipeline.is_over else half
                while numbers and numbers[0] in answers:
                    answer = answers.pop(numbers.popleft())
                    if is_plain and type(answer) is PlainAnswer:
                        yield answer.result
                    else:
                        yield result_of(answer, method, options)
                    if len(numbers) <= keep:
                        break
            if pipeline.error is not None:
                raise pipeline.error
        except CallError as error:
            raise self._caller.named(error) from None
        finally:
            self._end()

    def _await(self, number: int) -> None:
        waiter, channel, timeout = self._waiter, self._channel, self._options.timeout
        waiter.awaited = number
        deadline = None if timeout is None else time.monotonic() + timeout
        in_time = channel.wait(waiter, waiter.has_news, deadline)
        if number not in waiter.answers:
            channel.check()
            if not in_time:
                raise timed_out(self._method, timeout)

    def _end(self) -> None:
        """Give up what is under way."""
        for number in self._pipeline.numbers:
            self._channel.forget(number)
        self._pipeline.numbers.clear()
