"""The one thread that all sandboxes share, at the moments that no scheduler will show."""

from __future__ import annotations

import threading

from plugkeep.sandbox._io_thread import borrow, give_back


def io_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "plugkeep-io"]


def test_it_is_shared_and_ends_with_the_last_borrower() -> None:
    first, second = borrow("a"), borrow("b")
    assert first is second
    assert len(io_threads()) == 1
    give_back(first, "a")
    assert len(io_threads()) == 1
    give_back(second, "b")
    assert not io_threads()


def test_the_next_borrower_gets_a_new_one() -> None:
    first = borrow("a")
    give_back(first, "a")
    second = borrow("b")
    assert second is not first
    give_back(second, "b")
    assert not io_threads()


def test_the_garbage_collector_may_give_back_in_the_middle_of_a_borrow() -> None:
    """A forgotten sandbox is ended wherever the collector comes by, on the very same thread."""
    first = borrow("forgotten")

    class Collecting(set[int]):
        def add(self, element: int, /) -> None:
            give_back(first, "forgotten")
            super().add(element)

    first.borrowers = Collecting(first.borrowers)
    second = borrow("b")
    assert second is not first, "borrowed a thread that has ended"
    give_back(second, "b")
    assert not io_threads()
