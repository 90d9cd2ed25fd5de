"""What a method yields, as it comes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from plugkeep.channel.channel import timed_out
from plugkeep.channel.waiters import Waiter
from plugkeep.errors import CallError

if TYPE_CHECKING:
    from plugkeep.channel.calling import Caller, Options
    from plugkeep.channel.turnstile import Ticket


class Credit:
    """How many values more may come: never more than `window` ahead of whoever takes them."""

    def __init__(self, window: int) -> None:
        if window < 1:
            raise ValueError(f"window is {window}; it takes 1 or more")
        self.window = window
        self._taken = 0

    def take(self) -> int:
        """Take a value; return how many more are to be allowed now, half a window at a time."""
        self._taken += 1
        if self._taken * 2 < self.window:
            return 0
        taken, self._taken = self._taken, 0
        return taken


class Stream(Iterator[Any]):
    """The values that a method yields, in order; at the end `result` is what it returned.

    Closing it before the end, as leaving the block or forgetting it does, cancels the method. To
    be used by one thread at a time.
    """

    #: What it counts by where there is a limit of calls; left when it ends, or forgotten with it.
    ticket: Ticket | None = None

    def __init__(
        self,
        caller: Caller,
        method: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: Options,
    ) -> None:
        self.result: Any = None
        self._number = 0
        self._caller = caller
        self._channel = channel = caller.channel
        self._method = method
        self._options = options
        self._credit = Credit(options.window)
        self._waiter = Waiter(wants_progress=options.on_progress is not None)
        led_before = channel._leads()
        try:
            self._number = channel.open(method, args, kwargs, self._waiter, credit=options.window)
        except CallError as error:
            raise caller.named(error) from None
        except BaseException:
            channel.recover(led_before=led_before)
            raise

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        if not self._number:
            raise StopIteration
        led_before = self._channel._leads()
        try:
            return self._next()
        except CallError as error:
            self.close()
            raise self._caller.named(error) from None
        except BaseException:
            self.close()
            self._channel.recover(led_before=led_before)
            raise

    def close(self) -> None:
        """Take no more; the method is cancelled if it has not ended. Calling it again is fine."""
        number, self._number = self._number, 0
        self._waiter.chunks.clear()
        if number:
            self._channel.abandon(number)
        if self.ticket is not None:
            self.ticket.leave()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if self._number:
            self._channel.forget(self._number)

    def _next(self) -> Any:
        waiter, timeout = self._waiter, self._options.timeout
        deadline = None if timeout is None else time.monotonic() + timeout
        waiter.thread = threading.get_ident()
        while True:
            in_time = waiter.has_news() or self._channel.wait(waiter, waiter.has_news, deadline)
            self._report()
            if waiter.chunks:
                return self._take()
            if waiter.answer is not None:
                self._end(waiter.answer)
            self._channel.check()
            if not in_time:
                raise timed_out(self._method, timeout)

    def _report(self) -> None:
        on_progress = self._options.on_progress
        while self._waiter.progress and on_progress is not None:
            on_progress(self._waiter.progress.popleft().value)

    def _take(self) -> Any:
        chunk = self._waiter.chunks.popleft()
        if more := self._credit.take():
            self._channel.grant(self._number, more)
        return self._caller.chunk_of(chunk, self._method, self._options)

    def _end(self, answer: Any) -> None:
        self.result = self._caller.result_of(answer, self._method, self._options)
        raise StopIteration
