"""Answers to many calls that one has made, in the order of the calls."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import Any

from plugkeep.wire.events import Answer
from plugkeep.wire.messages import PlainAnswer


class InOrder:
    """The answers to calls that were made one after the other, in that order.

    Whoever reads adds answers; whoever takes their results adds calls and takes what is `ready`.
    """

    def __init__(self) -> None:
        #: Calls whose turn has not come.
        self.numbers: deque[int] = deque()
        #: The answers whose turn has come.
        self.ready: deque[Answer | PlainAnswer] = deque()
        self._early: dict[Any, Answer | PlainAnswer] = {}

    def __len__(self) -> int:
        return len(self.numbers) + len(self.ready)

    def add(self, answer: Answer | PlainAnswer) -> None:
        """Take an answer, which may come before its turn."""
        numbers, early = self.numbers, self._early
        early[answer.id] = answer
        while numbers and numbers[0] in early:
            self.ready.append(early.pop(numbers.popleft()))

    def add_all(self, ids: list[Any], answers: Sequence[PlainAnswer]) -> bool:
        """Take several answers, if they are just those whose turn it is; else return False."""
        numbers, count = self.numbers, len(answers)
        if ids != list(islice(numbers, count)):
            return False
        try:
            for _ in range(count):
                numbers.popleft()
        except IndexError:
            return True  # given up at this very moment, on another thread
        self.ready.extend(answers)
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

    def answered_all(self, ids: list[Any], answers: Sequence[PlainAnswer]) -> bool:
        """Take several answers at once, of the calls `ids`; return False where that cannot be."""
        if not self.order.add_all(ids, answers):
            return False
        self.news()
        return True
