"""From the plugins of one configuration to those of another: what is to be done, and doing it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from plugkeep import Host
from plugkeep.config import read_config
from plugkeep.config.model import HostConfig
from plugkeep.errors import ConfigError, RequiredError
from plugkeep.host.refresh import concerned, difference, of_the_host, refresh
from plugkeep.loaders.places import Place
from plugkeep.spec import PluginSpec


def spec(name: str, **more: Any) -> PluginSpec:
    return PluginSpec(name=name, **{"source": "file:a.py", **more})


def by_name(*specs: PluginSpec) -> dict[str, PluginSpec]:
    return {each.name: each for each in specs}


def test_the_difference_says_what_is_to_be_done_with_each():
    same, gone, new = spec("same"), spec("gone"), spec("new")
    old, anew = spec("changed"), spec("changed", config={"size": 3})
    found = difference(by_name(same, gone, old), [new, anew, same])
    assert (found.added, found.changed, found.adopted) == ((new,), (anew,), ())
    assert found.removed == ("gone",)


@pytest.mark.parametrize(
    ("change", "made_anew"),
    [
        ({"requires": ("b",)}, True), ({"source": "file:b.py"}, True), ({"env": {"A": "1"}}, True),
        ({"restart": "permanent"}, False), ({"on_reload": "restart"}, False),
        ({"description": "tea"}, False), ({}, None),
    ],
)  # fmt: skip
def test_what_the_host_looks_up_by_itself_is_no_reason_to_make_a_plugin_anew(change, made_anew):
    old = spec("a")
    found = difference(by_name(old), [replace(old, **change)])
    assert (bool(found.changed), bool(found.adopted)) == (made_anew is True, made_anew is False)


def test_what_only_a_new_host_heeds_is_named():
    old = HostConfig(path="", workers=2)
    assert of_the_host(old, replace(old, workers=3, start_timeout=1.0)) == [
        "start_timeout",
        "workers",
    ]


def test_changed_files_concern_those_whose_code_they_are():
    places = {
        "a": [Place("/p/a.py")],
        "b": [Place("/p/b", is_folder=True), Place("/p", is_folder=True, stays=True)],
        "c": [Place("/p/b", is_folder=True)],
    }
    found = concerned(["/p/b/deep/x.py", "/p/common.py", "/p/b/notes.txt", "/q.py"], places)
    assert (found.plugins, found.lasting) == (("b", "c"), ("/p/common.py",))
    assert concerned(["/p/a.py"], places).plugins == ("a",)
    assert concerned(["/p/b"], places).plugins == ("b", "c")
    assert concerned(["/p/a.pyc", "/p/bb/x.py"], places).plugins == ()


# --- doing it -----------------------------------------------------------------------------------


class Hands:
    def __init__(self, host: Host) -> None:
        self._host = host

    def do(self, verb: str, name: str) -> object:
        return getattr(self._host.registry, verb)(name)

    def reload(self, name: str) -> None:
        self._host.reload(name)


def rewrite(folder: Any, **tables: str) -> None:
    folder.config.write_text("")
    for name, keys in tables.items():
        folder.table(name, f'source = "file:{name}.py"\n{keys}')


def refreshed(folder: Any, host: Host) -> list[str]:
    return list(map(str, refresh(host, read_config(folder.config), Hands(host))))


@pytest.fixture
def host(folder: Any) -> Host:
    for name in ("a", "b", "c"):
        folder.plugin(name)
    folder.config.write_text("")
    rewrite(folder, a="", b='requires = ["a"]')
    return Host.from_file(folder.config)


def test_plugins_come_change_and_go(folder, host):
    with host:
        folder.notes()
        rewrite(folder, b='requires = ["c"]', c="")
        assert refreshed(folder, host) == []
        assert folder.notes() == ["stop b", "start c", "start b", "stop a"]
        assert host.registry.names() == ["b", "c"]
        assert list(host.specs) == ["b", "c"]
        assert host.specs["b"].requires == ("c",)
        assert refreshed(folder, host) == []
        assert folder.notes() == []


def test_what_is_adopted_touches_nothing(folder, host):
    with host:
        folder.notes()
        rewrite(folder, a='restart = "permanent"', b='requires = ["a"]')
        assert refreshed(folder, host) == []
        assert folder.notes() == []
        assert host.specs["a"].restart == "permanent"


def test_a_new_one_that_cannot_be_loaded_changes_nothing(folder, host):
    with host:
        specs = host.specs
        folder.notes()
        folder.write("c.py", "1 / 0")
        rewrite(folder, b="", c="")
        with pytest.raises(ConfigError, match="ZeroDivisionError"):
            refreshed(folder, host)
        assert (host.specs, host.registry.names(), folder.notes()) == (specs, ["a", "b"], [])


def test_one_that_cannot_change_goes_on_as_it_is_and_is_tried_again(folder, host):
    with host:
        good = Path(folder.path / "b.py").read_text()
        folder.write("b.py", "1 / 0")
        rewrite(folder, b="stop_timeout = 3")
        cannot_load, required = refresh(host, read_config(folder.config), Hands(host))
        assert "ZeroDivisionError" in str(cannot_load)
        assert isinstance(required, RequiredError)  # the old b goes on, and requires it
        assert host.specs["b"].stop_timeout is None
        assert list(host.specs) == ["a", "b"]
        assert {str(host.registry.state(name)) for name in host.registry} == {"running"}
        folder.write("b.py", good)
        assert refreshed(folder, host) == []
        assert list(host.specs) == ["b"]
        assert host.specs["b"].stop_timeout == 3


def test_one_that_does_not_start_is_told_and_the_others_go_on(folder, host):
    with host:
        folder.notes()
        folder.write("c.py", folder.path.joinpath("c.py").read_text().replace("...", "1 / 0", 1))
        rewrite(folder, a="", b='requires = ["a"]', c="")
        (error,) = refreshed(folder, host)
        assert "plugin 'c' failed to start: ZeroDivisionError" in error
        assert str(host.registry.state("c")) == "failed"
        assert str(host.registry.state("b")) == "running"


def test_plugins_registered_by_code_are_left_alone(folder, host):
    class Own:
        name = "own"

        def start(self): ...
        def stop(self): ...

    host.registry.register(Own())
    with host:
        rewrite(folder, a="")
        assert refreshed(folder, host) == []
        assert host.registry.names() == ["a", "own"]
