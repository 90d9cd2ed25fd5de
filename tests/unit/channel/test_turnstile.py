"""Who is let in, who waits, and that no place is ever lost."""

from __future__ import annotations

import gc
import signal
import sys
import threading
from types import FrameType
from typing import Any

import pytest

from plugkeep.channel import turnstile as module
from plugkeep.channel.bells import ThreadBell
from plugkeep.channel.turnstile import Ticket, Turnstile


class Told:
    """A bell that only notes that it has been rung."""

    def __init__(self, *, can_be_told: bool = True) -> None:
        self.times = 0
        self.can_be_told = can_be_told

    def ring(self) -> bool:
        self.times += 1
        return self.can_be_told


def in_line(turnstile: Turnstile, bell: Any = None) -> Ticket:
    ticket = Ticket(turnstile)
    assert not ticket.enter()
    assert ticket.line_up(Told() if bell is None else bell)
    return ticket


def inside(turnstile: Turnstile) -> Ticket:
    ticket = Ticket(turnstile)
    assert ticket.enter()
    return ticket


def is_whole(turnstile: Turnstile) -> bool:
    """Whether nobody is inside or waiting, and nothing has been lost."""
    counts = len(turnstile.inside), len(turnstile.seats), len(turnstile.line)
    return counts == (turnstile.at_once, turnstile.waiting, 0)


def test_so_many_are_in_so_many_wait_and_no_more():
    turnstile = Turnstile(2, 1)
    tickets = [inside(turnstile), inside(turnstile), in_line(turnstile)]
    late = Ticket(turnstile)
    assert not late.enter()
    assert not late.line_up(Told())
    for ticket in (*tickets, late):
        ticket.leave()
    assert is_whole(turnstile)


def test_whoever_leaves_lets_in_whoever_has_waited_longest():
    turnstile = Turnstile(1, 3)
    first = inside(turnstile)
    waiting = [in_line(turnstile) for _ in range(3)]
    waiting[1].leave()
    first.leave()
    assert [ticket.is_in for ticket in waiting] == [True, False, False]
    assert waiting[0].bell.times == 1
    assert not Ticket(turnstile).enter()
    waiting[0].leave()
    assert waiting[2].is_in
    waiting[2].leave()
    assert is_whole(turnstile)


def test_who_comes_late_does_not_overtake():
    turnstile = Turnstile(1, 2)
    first = inside(turnstile)
    waiting = in_line(turnstile)
    newcomer = Ticket(turnstile)
    seen = []

    class Nosy(Told):
        def ring(self) -> bool:
            seen.append(newcomer.enter())
            return True

    waiting.bell = Nosy()
    first.leave()
    assert waiting.is_in
    assert seen == [False]


def test_to_leave_twice_gives_back_one_place():
    turnstile = Turnstile(1, 0)
    ticket = inside(turnstile)
    ticket.leave()
    ticket.leave()
    assert is_whole(turnstile)


def test_a_ticket_that_is_forgotten_comes_back_and_lets_the_next_in():
    turnstile = Turnstile(1, 1)
    kept = [inside(turnstile)]
    waiting = in_line(turnstile)
    kept.clear()
    assert waiting.is_in
    waiting.leave()
    assert is_whole(turnstile)


def test_a_ticket_that_is_collected_within_a_cycle_comes_back():
    turnstile = Turnstile(1, 0)
    cycle: list[Any] = [inside(turnstile)]
    cycle.append(cycle)
    del cycle
    gc.collect()
    assert is_whole(turnstile)


def test_one_that_cannot_be_told_is_passed_over():
    turnstile = Turnstile(1, 2)
    first = inside(turnstile)
    gone, next_one = in_line(turnstile, Told(can_be_told=False)), in_line(turnstile)
    first.leave()
    assert (gone.is_in, next_one.is_in) == (False, True)


def test_one_that_leaves_while_it_is_let_in_gives_the_place_back():
    turnstile = Turnstile(1, 1)
    first = inside(turnstile)

    class Leaves(Told):
        def ring(self) -> bool:
            waiting.leave()
            return True

    waiting = in_line(turnstile, Leaves())
    first.leave()
    assert is_whole(turnstile)


def test_a_collector_that_comes_by_in_the_midst_of_it_waits_for_nothing():
    turnstile = Turnstile(2, 3)
    first, kept = inside(turnstile), [inside(turnstile)]

    class Collects(Told):
        def ring(self) -> bool:
            kept.clear()  # its place comes back while this one is being let in
            return True

    waiting = [in_line(turnstile, Collects()), in_line(turnstile)]
    first.leave()
    assert [ticket.is_in for ticket in waiting] == [True, True]


def test_ctrl_c_at_any_line_loses_no_place_and_keeps_nobody_waiting():
    """Interrupt a whole visit at each line of the module in turn, until it gets through."""
    for line in range(1000):
        if _visit_interrupted_at(line):
            break
    else:
        raise AssertionError("it never got through")
    assert line > 20


def _visit_interrupted_at(line: int) -> bool:
    turnstile = Turnstile(1, 2)
    first = inside(turnstile)
    other = in_line(turnstile)
    lines = iter(range(line + 1))
    left = [line]

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code.co_filename != module.__file__ or frame.f_code.co_name == "__del__":
            return None  # what is raised there is only told
        if event == "line" and next(lines, None) is not None:
            left[0] -= 1
            if left[0] < 0:
                sys.settrace(None)
                signal.raise_signal(signal.SIGINT)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        _visit(turnstile, first)
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(before)
    first.leave()  # as whoever holds it does, whatever has happened meanwhile
    assert other.is_in, line
    other.leave()
    assert is_whole(turnstile), line
    return left[0] >= 0


def _visit(turnstile: Turnstile, first: Ticket) -> None:
    ticket = Ticket(turnstile)
    try:
        if not ticket.enter():
            ticket.line_up(Told())
        first.leave()
    finally:
        ticket.leave()


def test_threads_that_come_and_go_are_never_too_many_and_all_get_their_turn():
    turnstile = Turnstile(3, 20)
    inside_now, most = [0], [0]
    lock = threading.Lock()

    def visit() -> None:
        for _ in range(200):
            ticket = Ticket(turnstile)
            try:
                if not ticket.enter():
                    bell = ThreadBell()
                    assert ticket.line_up(bell)
                    while not ticket.is_in:
                        assert bell.wait(None)
                with lock:
                    inside_now[0] += 1
                    most[0] = max(most[0], inside_now[0])
                with lock:
                    inside_now[0] -= 1
            finally:
                ticket.leave()

    threads = [threading.Thread(target=visit) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "somebody was never let in"
    assert most[0] <= 3
    assert is_whole(turnstile)


@pytest.mark.parametrize("waiting", [0, 5])
def test_nothing_is_left_of_tickets_that_went(waiting: int):
    turnstile = Turnstile(1, waiting)
    for _ in range(10):
        tickets = [Ticket(turnstile) for _ in range(8)]
        for ticket in tickets:
            ticket.enter() or ticket.line_up(Told())
        del tickets, ticket
        gc.collect()
        # Those in line are held by it, until they are let in and nobody is there any more.
        assert is_whole(turnstile)
