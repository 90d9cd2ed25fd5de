from __future__ import annotations

import datetime
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

import msgspec
import pytest

from plugkeep.config.typed import set_config
from plugkeep.spec import PluginSpec


@dataclass
class Pool:
    size: int = 5
    ratio: float = 0.5


@dataclass
class Settings:
    url: str
    pool: Pool = field(default_factory=Pool)
    tags: list[str] = field(default_factory=list)
    mode: Literal["ro", "rw"] = "ro"

    def __post_init__(self):
        if self.url == "forbidden":
            raise ValueError("url is forbidden")


class Struct(msgspec.Struct, rename="kebab"):
    server_url: str
    retries: Annotated[int, msgspec.Meta(ge=1)] = 1
    pools: dict[str, Pool] = {}
    others: list[Pool] = []


class Typed(TypedDict, total=False):
    when: datetime.date


class Paths(msgspec.Struct):
    folder: Path
    maybe: Path | None = None


class Base:
    name = "base"

    def start(self): ...
    def stop(self): ...


def plugin_with(annotation):
    return type("Some", (Base,), {"__annotations__": {"config": annotation}})()


def spec(**config):
    return PluginSpec(name="some", source="file:x.py", base="/base", config=config)


def test_a_dataclass_with_another_inside():
    plugin = plugin_with(Settings)
    assert set_config(plugin, spec(url="x", pool={"size": 9, "ratio": 1}, mode="rw")) == []
    assert plugin.config == Settings("x", Pool(9, 1.0), [], "rw")
    assert isinstance(plugin.config.pool.ratio, float)


def test_a_struct_whose_keys_are_spelt_otherwise_in_files():
    plugin = plugin_with(Struct)
    assert set_config(plugin, spec(**{"server-url": "x", "pools": {"a": {"size": 1}}})) == []
    assert plugin.config == Struct(server_url="x", pools={"a": Pool(1)})


def test_a_typed_dict_and_a_plain_dict_and_anything():
    for annotation in (Typed, dict, dict[str, Any], Any, Typed | None):
        plugin = plugin_with(annotation)
        assert set_config(plugin, spec(when=datetime.date(2026, 1, 2))) == []
        assert plugin.config == {"when": datetime.date(2026, 1, 2)}


def test_paths_are_relative_to_the_file():
    plugin = plugin_with(Paths)
    assert set_config(plugin, spec(folder="docs", maybe="/etc")) == []
    assert plugin.config == Paths(Path("/base/docs"), Path("/etc"))


def test_annotations_written_as_text_are_found_in_the_module_of_the_class_that_has_them():
    class Child(Base):
        config: Settings
        other: NobodyImportedThis  # noqa: F821

    class Grandchild(Child):
        pass

    assert Child.__annotations__["config"] == "Settings"
    plugin = Grandchild()
    assert set_config(plugin, spec(url="x")) == []
    assert plugin.config == Settings("x")


def test_a_type_declared_inside_the_class():
    class Nested(Base):
        class Options(msgspec.Struct):
            level: int

        config: Options

    plugin = Nested()
    assert set_config(plugin, spec(level=3)) == []
    assert plugin.config.level == 3


def test_a_class_whose_module_is_not_to_be_found(monkeypatch):
    code = "class Lonely:\n  config: 'Size'\n  def start(self): ...\nclass Size(dict): ...\n"
    names = {"__name__": "nowhere_to_be_found"}
    exec(code, names)
    assert "nowhere_to_be_found" not in sys.modules
    plugin = names["Lonely"]()
    ((_, message),) = set_config(plugin, spec(a=1))
    assert "a Size cannot be made from a file's values" in message


def test_without_an_annotation_an_attribute_is_enough():
    class Plain(Base):
        config = None

    plugin = Plain()
    assert set_config(plugin, spec(a=1)) == []
    assert plugin.config == {"a": 1}


def test_what_the_plugin_has_already_stays_when_the_file_gives_nothing():
    class Defaults(Base):
        config: Settings = Settings("default")

    plugin = Defaults()
    assert set_config(plugin, spec()) == []
    assert plugin.config == Settings("default")


def test_what_is_required_is_required_of_a_file_that_gives_nothing():
    assert set_config(plugin_with(Settings), spec()) == [
        ((), "has no key 'url', which is required")
    ]


def test_defaults_are_made_where_the_file_gives_nothing():
    plugin = plugin_with(Pool)
    assert set_config(plugin, spec()) == []
    assert plugin.config == Pool()


def test_a_plugin_that_takes_no_configuration():
    plugin = Base()
    assert set_config(plugin, spec()) == []
    assert not hasattr(plugin, "config")
    ((key, message),) = set_config(plugin, spec(a=1))
    assert key == ()
    assert "takes no configuration" in message


MISFITS = {
    "wrong type": (Settings, {"url": 1}, ("url",), "expected a text, found a whole number"),
    "missing": (Settings, {}, (), "has no key 'url', which is required"),
    "unknown": (Settings, {"url": "", "pol": {}}, ("pol",), "unknown key; did you mean 'pool'?"),
    "nothing near": (Pool, {"xyz": 1}, ("xyz",), "unknown key; there are: size, ratio"),
    "inside": (
        Settings,
        {"url": "", "pool": {"size": "5"}},
        ("pool", "size"),
        "expected a whole number, found a text",
    ),
    "unknown inside": (
        Settings,
        {"url": "", "pool": {"siz": 5}},
        ("pool", "siz"),
        "unknown key; did you mean 'size'?",
    ),
    "in an array": (
        Settings,
        {"url": "", "tags": ["a", 1]},
        ("tags",),
        "expected a text, found a whole number (at $.tags[1])",
    ),
    "a choice": (Settings, {"url": "", "mode": "x"}, ("mode",), "'x' is none of the values"),
    "a bound": (
        Struct,
        {"server-url": "", "retries": 0},
        ("retries",),
        "expected a whole number >= 1",
    ),
    "missing and renamed": (Struct, {}, (), "has no key 'server-url', which is required"),
    "unknown in tables": (
        Struct,
        {"server-url": "", "pools": {"a": {"b": 1}}, "others": [{"c": 1}]},
        ("others", "c"),
        "unknown key; there are: size, ratio",
    ),
    "its own check": (Settings, {"url": "forbidden"}, (), "url is forbidden"),
    "a path": (Paths, {"folder": 1}, ("folder",), "expected a text, a path"),
    "no class of data": (Base, {"a": 1}, (), "a Base cannot be made from a file's values"),
    "an unknown name": ("Nowhere", {"a": 1}, (), "NameError: name 'Nowhere' is not defined"),
}


@pytest.mark.parametrize(("annotation", "config", "key", "message"), MISFITS.values(), ids=MISFITS)
def test_what_does_not_fit_is_told_with_its_key(annotation, config, key, message):
    plugin = plugin_with(annotation)
    misfits = set_config(plugin, spec(**config))
    assert any(found[0] == key and message in found[1] for found in misfits), misfits
    assert not hasattr(plugin, "config")


def test_all_that_does_not_fit_is_told_at_once():
    misfits = set_config(plugin_with(Settings), spec(pol=1, tags=1, mode="x", pool={"size": ""}))
    assert sorted(key for key, _ in misfits) == [
        (),
        ("mode",),
        ("pol",),
        ("pool", "size"),
        ("tags",),
    ]


def test_a_plugin_that_refuses_its_config():
    class Fixed(Base):
        @property
        def config(self): ...

    ((_, message),) = set_config(Fixed(), spec(a=1))
    assert "the plugin's config cannot be set: AttributeError" in message


def test_a_plugin_whose_attribute_raises():
    class Broken(Base):
        @property
        def config(self):
            raise RuntimeError("broken")

    ((_, message),) = set_config(Broken(), spec(a=1))
    assert "RuntimeError: broken" in message
