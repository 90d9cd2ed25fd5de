"""The package's two lists of its names, one for type checkers and one for first use, agree."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

import plugkeep
from plugkeep import errors


def promised() -> dict[str, str]:
    """Return each name that type checkers see, with the module that it comes from."""
    tree = ast.parse(Path(plugkeep.__file__).read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If) and _for_checkers(node))
    return {
        alias.name: statement.module or ""
        for statement in block.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
        if alias.name != "*"
    }


def _for_checkers(node: ast.If) -> bool:
    return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def test_each_promised_name_is_there_and_from_its_module():
    for name, module in promised().items():
        assert getattr(plugkeep, name) is getattr(importlib.import_module(module), name), name


def test_no_name_is_there_without_being_promised():
    assert set(plugkeep.__all__) - {"__version__"} == set(promised())


def test_every_error_is_there_without_being_listed():
    classes = {name for name in vars(errors) if name.endswith("Error")}
    assert len(classes) > 40
    for name in classes:
        assert getattr(plugkeep, name) is getattr(errors, name)


@pytest.mark.parametrize("name", ["Registri", "NoSuchError", "_home"])
def test_a_name_that_is_not_there_is_told(name):
    with pytest.raises(AttributeError, match=name):
        getattr(plugkeep, name)


def test_dir_lists_what_can_be_had():
    assert set(plugkeep.__all__) <= set(dir(plugkeep))
