"""What the suites find, and how they tell it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from plugkeep.errors import did_you_mean


class Rule(NamedTuple):
    """One rule of a contract: its name, and what it says."""

    name: str
    says: str


class Violation(NamedTuple):
    """A rule that was broken: `subject` is who broke it, `seen` what was seen instead."""

    subject: str
    rule: Rule
    seen: str

    def __str__(self) -> str:
        return f"{self.rule.name}: {self.rule.says}\n    {self.seen}"


class ContractError(AssertionError):
    """Raised when a contract is broken; all `violations` are in the message, one after the other.

    An AssertionError of its own, and no group of exceptions: test runners show its text as it is,
    without a traceback for each rule.
    """

    def __init__(self, subject: str, violations: Iterable[Violation]) -> None:
        self.subject = subject
        self.violations = tuple(violations)
        count = len(self.violations)
        told = "\n  ".join(map(str, self.violations))
        rules = "a rule" if count == 1 else f"{count} rules"
        super().__init__(f"{subject} breaks {rules} of its contract\n  {told}")


class Findings:
    """What one run of a suite has found so far."""

    def __init__(
        self, subject: str, rules: Mapping[str, Rule], skip: Collection[str] | str
    ) -> None:
        self.subject = subject
        self._rules = rules
        self._skipped = {skip} if isinstance(skip, str) else set(skip)
        self._violations: list[Violation] = []
        for name in sorted(self._skipped - rules.keys()):
            hint = did_you_mean(name, rules) or f"; there are: {', '.join(rules)}"
            raise ValueError(f"skip has {name!r}, which is no rule{hint}")

    def skips(self, rule: str) -> bool:
        """Say whether a rule is left out."""
        return rule in self._skipped

    def note(self, rule: str, seen: str) -> None:
        """Note that a rule was broken, and what was seen; the same thing once."""
        violation = Violation(self.subject, self._rules[rule], seen)
        if rule not in self._skipped and violation not in self._violations:
            self._violations.append(violation)

    def conclude(self) -> None:
        """Raise ContractError if any rule was broken."""
        __tracebackhide__ = True  # for pytest
        if self._violations:
            raise ContractError(self.subject, self._violations)
