"""What several plugins have imported is imported before the next ones are forked."""

from __future__ import annotations

from pathlib import Path

import pytest

from plugkeep import isolate, preimport
from plugkeep.sandbox import preimports
from plugkeep.sandbox.preimports import learn, wanted

#: Whether a module of Python's that hardly anybody uses was there before the plugin's own code.
PLUGIN = """
import sys
had = "pyclbr" in sys.modules
import pyclbr
import mine
from plugkeep import expose

class PluginFactory:
    name = "reader"
    def start(self): ...
    def stop(self): ...
    @expose
    def had(self) -> list[bool]:
        return [had, "mine" in mine.before]
"""


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preimports, "_said", None)
    monkeypatch.setattr(preimports, "_users", {})
    monkeypatch.setattr(preimports, "_shared", {})


def test_a_module_counts_once_two_plugins_have_it() -> None:
    learn("a", ["json", "csv"])
    learn("a", ["json"])
    assert wanted() == ()
    learn("b", ["json"])
    assert wanted() == ("json",)
    learn("c", ["csv", "json"])
    assert wanted() == ("json", "csv")


@pytest.mark.parametrize("said", [(), ("csv",)])
def test_what_somebody_says_counts_alone(said: tuple[str, ...]) -> None:
    learn("a", ["json"])
    learn("b", ["json"])
    preimport(*said)
    assert wanted() == said


def test_what_is_learned_has_a_limit() -> None:
    names = [f"module_{number}" for number in range(2_000)]
    learn("a", names)
    learn("b", names)
    assert len(wanted()) == 1_000


def test_the_third_plugin_finds_what_two_have_imported_but_nobodys_own_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text("import sys\nbefore = set(sys.modules) - {__name__}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = []
    for number in range(3):
        source = tmp_path / f"reader{number}.py"
        source.write_text(PLUGIN)
        with isolate(f"file:{source}", name=f"reader{number}") as plugin:
            found.append(plugin.call("had"))
    assert found == [[False, False], [False, False], [True, False]]
    assert "pyclbr" in wanted()
    assert "mine" not in wanted()
