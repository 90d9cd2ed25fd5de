"""Reloading plugins that are modules: what is theirs is imported anew, or nothing has changed."""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import sys
import sysconfig
import threading
from collections.abc import Iterator
from pathlib import Path
from subprocess import run
from typing import Any

import pytest

from plugkeep import Host
from plugkeep.errors import PluginError
from plugkeep.loaders import load
from plugkeep.loaders.reloading import load_afresh
from plugkeep.spec import PluginSpec

PLUGIN = """
{more}
class PluginFactory:
    name = "any"
    version = {version!r}
    def start(self):
        {start}
    def stop(self): ...
"""

SOURCE = PluginSpec(name="shop", source="python:shop.db")


class Package:
    """A folder on the import path, in which modules are written."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, name: str, text: str = "") -> Path:
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def plugin(self, name: str, version: object, *, start: str = "...", more: str = "") -> Path:
        return self.write(name, PLUGIN.format(version=version, start=start, more=more))


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Package]:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("plugkeep.loaders.ownership._earlier", {})
    before, finders = set(sys.modules), list(sys.meta_path)
    yield Package(tmp_path)
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("shop", "prices", "company"):
            del sys.modules[name]
    sys.meta_path[:] = finders


@pytest.fixture
def shop(modules: Package) -> Package:
    """A package with a plugin, something that the plugin uses, and something that it may use."""
    modules.write("shop/__init__.py", "import prices")
    modules.write("shop/goods.py", "class Tea: version = 1")
    modules.write("shop/late.py", "version = 1")
    modules.write("prices.py", "TEA = 3")
    modules.plugin("shop/db.py", 1, more="from shop.goods import Tea\nimport prices")
    return modules


def host_of(*specs: PluginSpec) -> Host:
    host = Host()
    host.add(*specs)
    return host


def names(*roots: str) -> dict[str, Any]:
    """Return the modules there are in packages, and their attributes that are modules."""
    found: dict[str, Any] = {}
    for name, module in sys.modules.copy().items():
        if name.partition(".")[0] in roots:
            found[name] = module
            found |= {
                f"{name}: {key}": value
                for key, value in vars(module).items()
                if type(value) is type(sys)
            }
    return found


def version_of(host: Host, name: str = "shop") -> Any:
    plugin: Any = host.registry[name]
    return plugin.version


def test_its_package_is_imported_anew_and_nothing_else(shop):
    with host_of(SOURCE) as host:
        old, prices = names("shop"), sys.modules["prices"]
        shop.write("shop/goods.py", "class Tea: version = 2")
        shop.plugin("shop/db.py", 2, more="from shop.goods import Tea\nimport prices")
        host.reload("shop")
        new = names("shop")
        assert version_of(host) == 2
        assert new.keys() == old.keys()
        assert not {name for name in new if ": prices" not in name and new[name] is old[name]}
        assert sys.modules["prices"] is prices
        assert new["shop.db"].Tea.version == 2
        assert old["shop.db"].Tea().version == 1  # whoever holds on to it goes on with it


@pytest.mark.parametrize(
    ("more", "start", "overlap"),
    [
        ("import nothing_there", "...", True),
        ("import shop.late; 1 / 0", "...", False),
        ("", "1 / 0", True),
        ("import shop.late", "1 / 0", True),
    ],
    ids=["an import fails", "it raises", "its start raises", "more has been imported"],
)
@pytest.mark.parametrize("form", ["reload", "areload"])
def test_what_fails_changes_nothing(shop, more, start, overlap, form):
    with host_of(SOURCE) as host:
        old = names("shop")
        shop.plugin("shop/db.py", 2, more=more, start=start)
        with pytest.raises(PluginError):
            if form == "reload":
                host.reload("shop", overlap=overlap)
            else:
                asyncio.run(host.areload("shop", overlap=overlap))
        assert names("shop") == old
        assert version_of(host) == 1
        shop.plugin("shop/db.py", 3)
        host.reload("shop", overlap=overlap)
        assert version_of(host) == 3


def test_what_is_not_admitted_changes_nothing(shop):
    host = host_of(SOURCE)
    host.registry.admit(lambda _, plugin: 1 / (3 - plugin.version))
    with host:
        old = names("shop")
        shop.plugin("shop/db.py", 3)
        with pytest.raises(PluginError, match="ZeroDivisionError"):
            host.reload("shop")
        assert names("shop") == old


def test_a_new_one_that_is_there_has_its_modules_whatever_comes_after(shop):
    with host_of(SOURCE) as host:
        shop.plugin("shop/db.py", 2, start="1 / 0")
        with pytest.raises(PluginError, match="it is the new 'shop' that is there"):
            host.reload("shop", overlap=False)
        assert sys.modules["shop.db"].PluginFactory is type(host.registry["shop"])


def test_an_edit_of_the_same_size_within_the_same_second_is_seen(shop):
    file = shop.plugin("shop/db.py", 1)
    os.utime(file, (1, 1))
    with host_of(SOURCE) as host:
        for version in (2, 3, 2):
            shop.plugin("shop/db.py", version)
            shop.write("shop/late.py", f"version = {version}")
            os.utime(file, (1, 1))
            os.utime(shop.path / "shop/late.py", (1, 1))
            host.reload("shop")
            assert version_of(host) == version
            assert importlib.import_module("shop.late").version == version


@pytest.mark.parametrize("kind", ["python:shop.api", "file:{}/shop/api.py"])
def test_what_two_plugins_have_in_common_stays(shop, kind):
    shop.plugin("shop/api.py", 1, more="from shop import goods")
    api = PluginSpec(name="api", source=kind.format(shop.path))
    with host_of(SOURCE, api) as host:
        old = names("shop")
        shop.plugin("shop/db.py", 2, more="import prices")
        host.reload("shop")
        new = names("shop")
        assert version_of(host) == 2
        assert {name for name in old if new.get(name) is not old[name]} == {"shop.db", "shop: db"}


def test_a_package_that_the_host_knows_stays(shop):
    importlib.import_module("shop")
    with host_of(SOURCE) as host:
        old = names("shop")
        shop.plugin("shop/db.py", 2, more="from shop.goods import Tea\nimport prices")
        host.reload("shop")
        new = names("shop")
        assert version_of(host) == 2
        assert {name for name in old if new[name] is not old[name]} == {"shop.db", "shop: db"}


def test_what_another_plugin_has_within_it_stays(shop):
    shop.plugin("shop/__init__.py", 1, more="import shop.db")
    whole = PluginSpec(name="whole", source="python:shop")
    with host_of(SOURCE, whole) as host:
        db = sys.modules["shop.db"]
        shop.plugin("shop/__init__.py", 2)
        host.reload("whole")
        assert version_of(host, "whole") == 2
        assert sys.modules["shop.db"] is db
        assert sys.modules["shop"].db is db
        package = sys.modules["shop"]
        shop.plugin("shop/db.py", 2)
        host.reload("shop")
        assert sys.modules["shop"] is package
        assert version_of(host) == 2


def test_two_plugins_of_one_module_have_a_copy_each_after_a_reload(shop):
    other = PluginSpec(name="other", source="python:shop.db")
    with host_of(SOURCE, other) as host:
        shop.plugin("shop/db.py", 2)
        host.reload("shop")
        assert (version_of(host), version_of(host, "other")) == (2, 1)
        host.reload("other")
        assert version_of(host, "other") == 2


def test_the_parts_of_a_namespace_stay(modules):
    modules.write("company/tools/__init__.py")
    modules.plugin("company/shop/db.py", 1, more="import company.tools")
    modules.write("company/shop/__init__.py")
    with host_of(PluginSpec(name="shop", source="python:company.shop.db")) as host:
        old = names("company")
        modules.plugin("company/shop/db.py", 2, more="import company.tools")
        host.reload("shop")
        new = names("company")
        assert version_of(host) == 2
        assert {name for name in old if type(old[name]) and new[name] is old[name]} == {
            "company",
            "company: tools",
            "company.tools",
        } | {name for name in old if name.startswith("company.shop.db: company")}


def test_what_a_package_has_under_the_name_of_a_module_stays(shop):
    shop.write("shop/__init__.py", "from shop.db import PluginFactory as db")
    importlib.import_module("shop")
    with host_of(SOURCE) as host:
        attribute = sys.modules["shop"].db
        for text, start in ((2, "..."), (3, "1 / 0")):
            shop.plugin("shop/db.py", text, start=start)
            try:
                host.reload("shop")
            except PluginError:
                assert text == 3
            assert sys.modules["shop"].db is attribute


def test_an_entry_point_and_a_file_go_back_as_well(shop):
    shop.write("shop-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: shop\nVersion: 1\n")
    shop.write("shop-1.dist-info/entry_points.txt", "[shop]\ndb = shop.db:PluginFactory\n")
    file = shop.plugin("alone.py", 1)
    entry = PluginSpec(name="shop", source="entry-point:shop/db")
    with host_of(entry, PluginSpec(name="alone", source=f"file:{file}")) as host:
        for name, path in (("shop", "shop/db.py"), ("alone", "alone.py")):
            before = dict(sys.modules)
            shop.plugin(path, 2, start="1 / 0")
            with pytest.raises(PluginError):
                host.reload(name)
            assert dict(sys.modules) == before
            shop.plugin(path, 3)
            host.reload(name)
            assert version_of(host, name) == 3


@pytest.mark.skipif(
    not Path(sysconfig.get_path("include"), "Python.h").exists(), reason="there is no Python.h"
)
def test_a_c_extension_stays_and_is_told_of(shop, caplog):
    source = shop.write(
        "fast.c",
        """#include <Python.h>
        static struct PyModuleDef def = {PyModuleDef_HEAD_INIT, "_fast", NULL, -1, NULL};
        PyMODINIT_FUNC PyInit__fast(void) { return PyModule_Create(&def); }""",
    )
    library = shop.path / "shop/_fast.so"
    include = sysconfig.get_path("include")
    run(["cc", "-shared", "-fPIC", f"-I{include}", source, "-o", library], check=True)
    use = "import shop._fast\nfast = shop._fast"
    shop.plugin("shop/db.py", 1, more=use)
    with host_of(SOURCE) as host:
        fast = sys.modules["shop._fast"]
        shop.plugin("shop/db.py", 2, more=use)
        with caplog.at_level(logging.INFO):
            host.reload("shop")
        assert version_of(host) == 2
        assert sys.modules["shop._fast"] is sys.modules["shop"]._fast is fast
    (told,) = (each.getMessage() for each in caplog.records if "_fast" in each.getMessage())
    assert told == (
        "plugin 'shop': not imported anew, for C extensions can be imported only once: shop._fast"
    )


@pytest.mark.parametrize(
    ("ends", "left"),
    [
        ("1 undo, 2 undo", 0), ("2 undo, 1 undo", 0), ("1 undo, 2 keep", 2), ("2 keep, 1 undo", 2),
        ("1 keep, 2 undo", 1), ("2 undo, 1 keep", 1), ("1 keep, 2 keep", 2),
    ],
)  # fmt: skip
def test_of_two_reloads_at_a_time_each_takes_back_its_own(shop, ends, left):
    load(SOURCE)
    loaded = [names("shop")]
    renewals: dict[str, Any] = {}
    for number in ("1", "2"):
        renewals[number] = load_afresh(SOURCE, ())[1]
        loaded.append(names("shop"))
    for end in ends.split(", "):
        number, verb = end.split()
        getattr(renewals[number], verb)()
    assert names("shop") == loaded[left]


def test_other_threads_import_meanwhile(shop):
    """They find modules, old ones or new ones, and no half."""
    shop.write("shop/goods.py", "class Tea: version = 1\n" + "x = [0]\n" * 200 + "whole = True")
    with host_of(SOURCE) as host:
        over, wrong = threading.Event(), []

        def import_all():
            while not over.is_set():
                try:
                    for name in ("shop.goods", "shop.db", "prices", "shop"):
                        importlib.import_module(name)
                    assert importlib.import_module("shop.goods").whole
                except BaseException as error:
                    wrong.append(error)
                    return

        threads = [threading.Thread(target=import_all) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            for round_ in range(30):
                bad = round_ % 3 == 2
                shop.plugin("shop/db.py", round_, start="1 / 0" if bad else "...")
                try:
                    host.reload("shop")
                except PluginError:
                    assert bad
        finally:
            over.set()
            for thread in threads:
                thread.join()
        assert wrong == []
        assert version_of(host) == 28
