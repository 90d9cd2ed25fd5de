"""Answers to many calls that one has made, in the order of the calls."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import islice, repeat, starmap
from typing import Any

from plugkeep.wire.events import Answer
from plugkeep.wire.messages import PlainAnswer


class InOrder:
    """The answers to calls that were made one after the other, in that order.

    Whoever reads adds answers; whoever takes what is `ready` adds calls.
    """

    def __init__(self) -> None:
        #: Calls whose turn has not come.
        self.numbers: deque[int] = deque()
        #: What has come of those whose turn it is: plain results, and answers that are none.
        self.ready: deque[Any] = deque()
        self._early: dict[Any, Any] = {}

    def __len__(self) -> int:
        return len(self.numbers) + len(self.ready)

    def add(self, answer: Answer | PlainAnswer) -> None:
        """Take an answer, which may come before its turn."""
        self._early[answer.id] = answer.result if isinstance(answer, PlainAnswer) else answer
        self._take_early()

    def _take_early(self) -> None:
        numbers, early = self.numbers, self._early
        try:
            while numbers[0] in early:
                self.ready.append(early.pop(numbers.popleft()))
        except IndexError:
            pass  # there are no more, or they were given up at this very moment, on another thread

    def add_all(self, ids: list[Any], results: Sequence[Any]) -> bool:
        """Take several plain results, if it is just their turn; else return False."""
        numbers, count = self.numbers, len(ids)
        if ids != list(islice(numbers, count)):
            return False
        try:
            deque(starmap(numbers.popleft, repeat((), count)), maxlen=0)
        except IndexError:
            return True  # given up at this very moment, on another thread
        self.ready.extend(results)
        if self._early:
            self._take_early()
        return True


class Many:
    """Whoever waits for the answers of many calls."""

    order: InOrder
    #: Wakes whoever waits, from any thread.
    news: Any

    def answered(self, answer: Answer | PlainAnswer) -> None:
        self.order.add(answer)
        if self.order.ready:
            self.news()

    def answered_all(self, ids: list[Any], results: Sequence[Any]) -> bool:
        """Take the results of the calls `ids` at once; return False where that cannot be."""
        if not self.order.add_all(ids, results):
            return False
        self.news()
        return True
