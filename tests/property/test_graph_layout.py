from __future__ import annotations

import itertools
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from plugkeep.cli import _drawing
from plugkeep.cli._drawing import Graph
from plugkeep.cli._layout import lay_out
from plugkeep.order import start_order


@st.composite
def graphs(draw):
    """Draw requirements without a cycle: each requires only what comes before it."""
    names = draw(st.lists(st.from_regex(r"[a-z][\w.-]{0,12}", fullmatch=True), unique=True))
    requirements = {
        name: tuple(draw(st.lists(st.sampled_from(names[:index]), unique=True, max_size=4)))
        if index
        else ()
        for index, name in enumerate(names)
    }
    return Graph(requirements, start_order(requirements), {})


@given(graphs())
def test_nothing_overlaps_and_everything_is_on_the_page(graph):
    layout = lay_out(graph.requirements, graph.order)
    for layer in layout.layers:
        column = [layout.places[item] for item in layer]
        for above, below in itertools.pairwise(column):
            assert above.y + above.height / 2 < below.y - below.height / 2
        assert len({place.x for place in column}) <= 1
    for left, right in zip(layout.layers, layout.layers[1:], strict=False):
        edge = max(layout.places[item].x + layout.places[item].width for item in left)
        assert edge < min(layout.places[item].x for item in right)
    for place in layout.places.values():
        assert 0 < place.x <= place.x + place.width < layout.width
        assert 0 < place.y - place.height / 2 <= place.y + place.height / 2 < layout.height


@given(graphs())
def test_every_line_leads_rightward_from_what_is_required_to_what_requires_it(graph):
    layout = lay_out(graph.requirements, graph.order)

    def reached(item):
        for following in layout.places[item].after:
            if isinstance(following, str):
                yield following
            else:
                yield from reached(following)

    users = {name: set() for name in graph.order}
    for name in graph.order:
        for requirement in graph.requirements[name]:
            users[requirement].add(name)
    assert {name: set(reached(name)) for name in graph.order} == users
    for place in layout.places.values():
        assert all(layout.places[each].x > place.x + place.width for each in place.after)


@given(graphs())
def test_every_form_shows_every_plugin_once(graph):
    lines = _drawing.text(graph).splitlines()
    assert sorted(int(line.split()[0]) for line in lines) == list(range(1, len(graph.order) + 1))
    assert _drawing.dot(graph).count("->") == sum(map(len, graph.requirements.values()))
    ElementTree.fromstring(_drawing.svg(graph))
