"""The stated order, against a reference that reads like the rule."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugkeep import RequirementError
from plugkeep.order import Frontier, start_order

Graph = dict[str, tuple[str, ...]]


@st.composite
def graphs(draw: st.DrawFn, *, acyclic: bool) -> Graph:
    size = draw(st.integers(0, 12))
    names = [f"p{i}" for i in range(size)]
    rank = dict(zip(names, draw(st.permutations(range(size))), strict=True))
    graph: Graph = {}
    for name in names:
        pool = [other for other in names if not acyclic or rank[other] < rank[name]]
        graph[name] = tuple(draw(st.lists(st.sampled_from(pool), max_size=4))) if pool else ()
    return graph


def reference(graph: Graph) -> list[str]:
    """Next comes always the earliest-registered whose requirements have all been placed."""
    placed: list[str] = []
    while len(placed) < len(graph):
        placed.append(
            next(
                name
                for name, required in graph.items()
                if name not in placed and set(required) <= set(placed)
            )
        )
    return placed


@given(graphs(acyclic=True))
def test_the_order_is_the_stated_one(graph: Graph) -> None:
    assert start_order(graph) == reference(graph)


@given(graphs(acyclic=False))
def test_an_order_is_given_or_a_real_cycle_is_named(graph: Graph) -> None:
    try:
        expected = reference(graph)
    except StopIteration:  # none could be placed next
        with pytest.raises(RequirementError) as caught:
            start_order(graph)
        assert caught.value.cycles
        assert not caught.value.missing
        for cycle in caught.value.cycles:
            for name, requirement in zip(cycle, (*cycle[1:], cycle[0]), strict=True):
                assert requirement in graph[name]
    else:
        assert start_order(graph) == expected


@given(graphs(acyclic=True), st.sets(st.integers(0, 11)), st.integers(0, 3))
def test_every_missing_requirement_is_named(graph: Graph, holes: set[int], extra: int) -> None:
    kept = {name: required for name, required in graph.items() if int(name[1:]) not in holes}
    missing = {(n, r) for n, required in kept.items() for r in required if r not in kept}
    if not missing:
        assert start_order(kept) == reference(kept)
        return
    with pytest.raises(RequirementError) as caught:
        start_order(kept)
    assert set(caught.value.missing) == missing
    assert not caught.value.cycles


@given(graphs(acyclic=True), st.randoms(use_true_random=False))
def test_side_by_side_nothing_comes_before_what_it_requires(graph: Graph, random: object) -> None:
    frontier = Frontier(graph)
    out: list[str] = []
    done: set[str] = set()
    while True:
        if (name := frontier.pop()) is not None:
            assert set(graph[name]) <= done
            out.append(name)
        elif out_and_not_done := [each for each in out if each not in done]:
            chosen = random.choice(out_and_not_done)  # type: ignore[attr-defined]
            done.add(chosen)
            frontier.done(chosen)
        else:
            break
    assert sorted(out) == sorted(graph)
