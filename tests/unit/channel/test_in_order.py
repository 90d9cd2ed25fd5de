"""Answers to many calls, given in the order of the calls."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from plugkeep.channel.in_order import InOrder
from plugkeep.wire.messages import PlainAnswer


@given(st.data())
def test_whatever_comes_first_the_calls_say_the_order(data: st.DataObject) -> None:
    order = InOrder()
    left = list(range(data.draw(st.integers(1, 30))))
    order.numbers.extend(left)
    expected = list(left)
    while left:
        start = data.draw(st.integers(0, len(left) - 1))
        several = left[start : start + data.draw(st.integers(1, 5))]
        if not order.add_all(several, several):
            for each in several:
                order.add(PlainAnswer(each, each))
        left = [each for each in left if each not in several]
    assert list(order.ready) == expected
    assert not order.numbers


def test_calls_that_are_given_up_while_an_answer_is_added() -> None:
    order = InOrder()
    order.numbers.append(1)

    class GivenUpMeanwhile(dict[Any, Any]):
        def __contains__(self, key: object) -> bool:
            order.numbers.clear()
            return True

    order._early = GivenUpMeanwhile()
    order.add(PlainAnswer(1, "late"))
    assert not order.ready
