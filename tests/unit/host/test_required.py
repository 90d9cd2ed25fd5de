"""How a plugin reaches what it requires, without any code of the host's."""

from __future__ import annotations

from pathlib import Path

import pytest

from plugkeep import Host

STORE = """
class PluginFactory:
    name = "store"
    def start(self): self.rows = ["tea"]
    def stop(self): del self.rows
"""
SHOP = """
from collections.abc import Mapping
from typing import Any

class PluginFactory:
    name = "shop"
    requires = ("store",)
    required: Mapping[str, Any]
    def start(self): self.first = self.required["store"].rows[0]
    def stop(self): ...
"""
CONFIG = """
[plugins.shop]
source = "file:shop.py"
[plugins.store]
source = "file:store.py"
[plugins.other]
source = "file:store.py"
"""


@pytest.fixture
def host(tmp_path: Path) -> Host:
    for name, text in {"shop.py": SHOP, "store.py": STORE, "plugkeep.toml": CONFIG}.items():
        (tmp_path / name).write_text(text)
    return Host.from_file(tmp_path / "plugkeep.toml")


def test_what_it_requires_is_there_when_it_starts(host: Host) -> None:
    with host:
        shop = host.registry["shop"]
        assert shop.first == "tea"
        assert dict(shop.required) == {"store": host.registry["store"]}
        assert len(shop.required) == 1


def test_what_it_does_not_require_is_out_of_reach(host: Host) -> None:
    shop = host.registry["shop"]
    with pytest.raises(KeyError, match="'shop' does not require 'other'; add it to its requires"):
        shop.required["other"]
    assert "other" not in shop.required


def test_after_a_reload_it_is_the_new_one(host: Host) -> None:
    with host:
        shop, before = host.registry["shop"], host.registry["store"]
        host.reload("store")
        assert host.registry["store"] is not before
        assert shop.required["store"] is host.registry["store"]
        host.reload("shop")
        assert host.registry["shop"].first == "tea"


def test_a_plugin_that_does_not_ask_is_left_alone(host: Host) -> None:
    assert not hasattr(host.registry["store"], "required")
