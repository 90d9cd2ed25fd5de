from __future__ import annotations

import json
import shutil
import subprocess
from xml.etree import ElementTree

import pytest

from plugkeep.cli import _drawing
from plugkeep.cli._drawing import Graph
from plugkeep.order import start_order

SVG = "{http://www.w3.org/2000/svg}"


def graph_of(requirements):
    sources = {name: f"file:{name}.py" for name in requirements}
    return Graph(requirements, start_order(requirements), sources)


DIAMOND = {
    "api": ("cache", "files"),
    "database": (),
    "cache": ("database",),
    "files": ("database",),
    "clock": (),
    "report": ("api", "database"),
}


def test_a_tree_with_each_plugin_once_under_the_last_that_it_requires():
    assert _drawing.text(graph_of(DIAMOND)) == (
        "1  database\n"
        "2  ├─ cache\n"
        "3  └─ files\n"
        "4     └─ api  (also after cache)\n"
        "6        └─ report  (also after database)\n"
        "5  clock\n"
    )


def test_what_the_file_does_not_have_is_said(shell):
    shell.plugin("a")
    shell.plugin("b", more='requires = ("words", "a")')
    result = shell.run("graph", "--load")
    assert result.stdout == "1  words  (not in the file)\n2  a\n3  └─ b  (also after words)\n"


def test_dot_is_read_by_graphviz_with_every_name_and_requirement():
    drawn = _drawing.dot(graph_of(DIAMOND))
    assert '  "database" -> "cache";\n' in drawn
    assert drawn.count("->") == sum(map(len, DIAMOND.values()))
    program = shutil.which("dot")
    if program is not None:
        result = subprocess.run(
            [program, "-Tplain"], input=drawn, capture_output=True, text=True, timeout=60
        )
        assert result.returncode == 0, result.stderr


def test_svg_is_valid_and_has_every_plugin_with_its_rank_and_source():
    root = ElementTree.fromstring(_drawing.svg(graph_of({**DIAMOND, "a.b-c_d": ()})))
    groups = root.findall(f"{SVG}g")
    shown = {
        group.find(f"{SVG}text").text: (
            group.findall(f"{SVG}text")[1].text,
            group.find(f"{SVG}title").text,
        )
        for group in groups
    }
    assert shown["database"] == ("1", "database: file:database.py")
    assert shown["api"][0] == "4"
    assert list(shown) == start_order({**DIAMOND, "a.b-c_d": ()})
    assert root.find(f"{SVG}title").text == "7 plugins, in order of start from left to right"
    tips = [line for line in root.iter(f"{SVG}path") if line.get("marker-end")]
    assert len(tips) == sum(map(len, DIAMOND.values()))


def test_what_a_source_has_in_it_is_no_markup():
    graph = Graph({"a": ()}, ["a"], {"a": 'exec:./a "<b>" & c'})
    root = ElementTree.fromstring(_drawing.svg(graph))
    assert root.find(f"{SVG}g/{SVG}title").text == 'a: exec:./a "<b>" & c'


def test_a_graph_of_nothing():
    nothing = Graph({}, [], {})
    assert _drawing.text(nothing) == ""
    assert "digraph" in _drawing.dot(nothing)
    ElementTree.fromstring(_drawing.svg(nothing))


def test_a_long_chain_is_drawn_without_running_out_of_stack_or_line():
    names = [f"plugin-{number}" for number in range(2000)]
    chain = graph_of({name: names[:index][-1:] for index, name in enumerate(names)})
    lines = _drawing.text(chain).splitlines()
    assert len(lines) == 2000
    assert max(map(len, lines)) < 60
    assert _drawing.svg(chain).count('class="box"') == 2000


# --- the command ------------------------------------------------------------------------------


@pytest.fixture
def shop(shell):
    shell.plugin("api", 'requires = ["database"]')
    shell.plugin("database")
    shell.plugin("mail", more='requires = ("database",)')
    return shell


def test_graph_as_text(shop):
    result = shop.run("graph")
    assert result.stdout == "1  database\n2  └─ api\n3  mail\n"


def test_with_load_what_plugins_require_by_themselves_is_shown(shop):
    result = shop.run("graph", "--load")
    assert result.stdout == "1  database\n2  ├─ api\n3  └─ mail\n"


@pytest.mark.parametrize("option", [["--json"], ["--format", "json"]])
def test_graph_as_json(shop, option):
    assert json.loads(shop.run("graph", *option).stdout) == {
        "plugins": [
            {"name": "database", "source": "file:database.py", "requires": []},
            {"name": "api", "source": "file:api.py", "requires": ["database"]},
            {"name": "mail", "source": "file:mail.py", "requires": []},
        ]
    }


def test_graph_into_a_file(shop):
    result = shop.run("graph", "--format", "svg", "-o", "plugins.svg")
    assert (result.returncode, result.stdout) == (0, "")
    ElementTree.parse(shop.folder / "plugins.svg")


def test_a_file_that_cannot_be_written_is_named(shop):
    result = shop.run("graph", "-o", "nowhere/plugins.txt")
    assert result.returncode == 1
    assert "nowhere/plugins.txt" in result.stderr
    assert "No such file or directory" in result.stderr


def test_a_cycle_among_what_plugins_require_by_themselves_is_named(shell):
    shell.plugin("a", more='requires = ("b",)')
    shell.plugin("b", more='requires = ("a",)')
    result = shell.run("graph", "--load")
    assert result.returncode == 2
    assert "'a' requires 'b' requires 'a': a cycle" in result.stderr
