"""From requirements to a start order. Pure: names in, names out.

The rule: next comes always the earliest-registered plugin whose requirements have all been
placed. So the order of registration is bent only where a requirement demands it, and the same
input always gives the same order.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence

from plugkeep.errors import RequirementError

#: For each plugin, in order of registration, the names that it requires.
Requirements = Mapping[str, Sequence[str]]


class Frontier:
    """Hands out the plugins that may start now, the earliest-registered first.

    One is handed out by `pop` when all that it requires has been reported by `done`. What is
    required but not among the names is taken to be there already.
    """

    def __init__(self, requirements: Requirements) -> None:
        self._names = list(requirements)
        self._rank = {name: index for index, name in enumerate(self._names)}
        self._dependents: dict[str, list[str]] = {}
        self._awaited: dict[str, int] = {}
        for name, required in requirements.items():
            awaited = {each for each in required if each in self._rank}
            self._awaited[name] = len(awaited)
            for requirement in awaited:
                self._dependents.setdefault(requirement, []).append(name)
        # In ascending order, hence a heap already.
        self._ready = [rank for name, rank in self._rank.items() if not self._awaited[name]]

    def pop(self) -> str | None:
        """Return the next name that may start, or None while there is none."""
        return self._names[heapq.heappop(self._ready)] if self._ready else None

    def done(self, name: str) -> None:
        """Report that `name` has been dealt with, so that what requires it may come."""
        for dependent in self._dependents.get(name, ()):
            self._awaited[dependent] -= 1
            if not self._awaited[dependent]:
                heapq.heappush(self._ready, self._rank[dependent])


def start_order(requirements: Requirements) -> list[str]:
    """Return all names in the order in which they are to start.

    Takes time in proportion to the plugins and requirements, times the logarithm of the plugins
    where any requirement is given.

    Raises RequirementError naming every missing requirement and every cycle, whole.
    """
    if not any(requirements.values()):
        return list(requirements)
    order = placed(requirements)
    check_requirements(requirements)
    return order


def placed(requirements: Requirements) -> list[str]:
    """Return those names that have a place in an order of start, in that order."""
    frontier = Frontier(requirements)
    order: list[str] = []
    while (name := frontier.pop()) is not None:
        order.append(name)
        frontier.done(name)
    return order


def check_requirements(requirements: Requirements) -> None:
    """Raise RequirementError unless each requirement is there and none leads back to itself."""
    missing = tuple(
        (name, requirement)
        for name, required in requirements.items()
        for requirement in required
        if requirement not in requirements
    )
    cycles = tuple(_cycles(requirements))
    if not missing and not cycles:
        return
    sentences = [
        f"{name!r} requires {requirement!r}, which is not registered"
        for name, requirement in missing
    ]
    sentences += [
        f"{' requires '.join(map(repr, (*cycle, cycle[0])))}: a cycle, none of them can be first"
        for cycle in cycles
    ]
    culprit = missing[0][0] if missing else cycles[0][0]
    raise RequirementError("; ".join(sentences), plugin=culprit, missing=missing, cycles=cycles)


def closure(name: str, edges: Mapping[str, Sequence[str]]) -> set[str]:
    """Return `name` and all that can be reached from it along `edges`."""
    reached = {name}
    frontier = [name]
    while frontier:
        for successor in edges.get(frontier.pop(), ()):
            if successor not in reached:
                reached.add(successor)
                frontier.append(successor)
    return reached


def users(name: str, requirements: Mapping[str, Sequence[str]]) -> set[str]:
    """Return `name` and all that directly or indirectly require it."""
    required_by: dict[str, list[str]] = {}
    for each, required in requirements.items():
        for requirement in required:
            required_by.setdefault(requirement, []).append(each)
    return closure(name, required_by)


def _cycles(requirements: Requirements) -> Iterator[tuple[str, ...]]:
    """Yield cycles, one through every knot of plugins that cannot be untied.

    An iterative depth-first search, for chains may be longer than the interpreter's stack.
    """
    done: set[str] = set()
    for root in requirements:
        if root in done:
            continue
        path: dict[str, Iterator[str]] = {root: iter(requirements[root])}
        while path:
            name, successors = next(reversed(path.items()))
            for successor in successors:
                if successor in path:
                    members = list(path)
                    yield tuple(members[members.index(successor) :])
                elif successor not in done and successor in requirements:
                    path[successor] = iter(requirements[successor])
                    break
            else:
                path.popitem()
                done.add(name)
