"""The turnstile against a model of it, over any interleaving of coming, leaving and giving up."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from plugkeep.channel.turnstile import Ticket, Turnstile


class Visitor:
    """Somebody with a ticket, who may be beyond being told anything."""

    def __init__(self, turnstile: Turnstile) -> None:
        self.ticket = Ticket(turnstile)
        self.is_gone = False

    def ring(self) -> bool:
        return not self.is_gone


class Visits(RuleBasedStateMachine):
    """Random visits; `inside` and `line` are the model."""

    @initialize(at_once=st.integers(1, 4), waiting=st.integers(0, 4))
    def build(self, at_once: int, waiting: int) -> None:
        self.turnstile = Turnstile(at_once, waiting)
        self.inside: list[Visitor] = []
        self.line: list[Visitor] = []

    def let_in(self) -> None:
        while self.line and len(self.inside) < self.turnstile.at_once:
            visitor = self.line.pop(0)
            if not visitor.is_gone:
                self.inside.append(visitor)

    @rule()
    def come(self) -> None:
        visitor = Visitor(self.turnstile)
        if len(self.inside) < self.turnstile.at_once:
            assert visitor.ticket.enter()
            self.inside.append(visitor)
        elif len(self.line) < self.turnstile.waiting:
            assert not visitor.ticket.enter()
            assert visitor.ticket.line_up(visitor)
            self.line.append(visitor)
        else:
            assert not visitor.ticket.enter()
            assert not visitor.ticket.line_up(visitor)

    @precondition(lambda self: self.inside)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        visitor = data.draw(st.sampled_from(self.inside))
        self.inside.remove(visitor)
        visitor.ticket.leave()
        self.let_in()

    @precondition(lambda self: self.inside)
    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, len(self.inside) - 1))
        del self.inside[index].ticket
        del self.inside[index]
        self.let_in()

    @precondition(lambda self: self.line)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        visitor = data.draw(st.sampled_from(self.line))
        self.line.remove(visitor)
        visitor.ticket.leave()

    @precondition(lambda self: self.line)
    @rule(data=st.data())
    def end_its_loop(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.line)).is_gone = True

    @invariant()
    def the_same_are_in_and_in_line(self) -> None:
        if not hasattr(self, "turnstile"):
            return
        turnstile = self.turnstile
        assert all(visitor.ticket.is_in for visitor in self.inside)
        assert not any(visitor.ticket.is_in for visitor in self.line)
        assert len(turnstile.inside) == turnstile.at_once - len(self.inside)
        assert len(turnstile.seats) == turnstile.waiting - len(self.line)
        assert list(turnstile.line) == [visitor.ticket for visitor in self.line]


TestVisits = Visits.TestCase
