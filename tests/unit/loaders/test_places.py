"""Where the code of a plugin is, and which compiled files are not to be trusted."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from importlib.util import cache_from_source
from pathlib import Path

import pytest

from plugkeep.loaders.caches import forget_doubtful
from plugkeep.loaders.places import Place, places_of
from plugkeep.spec import PluginSpec

Write = Callable[[str, str], Path]


@pytest.fixture(autouse=True)
def importable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    assert not {"shop", "shop.db", "alone"} & set(sys.modules)  # nothing has been imported


def places(tmp_path: Path, source: str, **more: object) -> set[tuple[str, bool, bool]]:
    spec = PluginSpec(name="a", source=source, base=str(tmp_path), **more)  # type: ignore[arg-type]
    return {
        (os.path.relpath(each.path, tmp_path), each.is_folder, each.stays)
        for each in places_of(spec)
    }


def test_each_kind_of_source_has_its_place(tmp_path: Path, write: Write) -> None:
    for name in ("a.py", "bell", "shop/__init__.py", "shop/db.py", "alone.py", "lib.so"):
        write(name, "#!/bin/sh").chmod(0o755)
    assert places(tmp_path, "file:a.py") == {("a.py", False, False)}
    assert places(tmp_path, "file:a.py:Clock") == {("a.py", False, False)}
    assert places(tmp_path, "exec:./bell --loud") == {("bell", False, False)}
    assert places(tmp_path, "python:alone") == {("alone.py", False, False)}
    assert places(tmp_path, "python:shop") == {("shop", True, False)}
    assert places(tmp_path, "so:lib.so") == {("lib.so", False, True)}
    assert places(tmp_path, "so:lib.so", isolation="process") == {("lib.so", False, False)}
    assert places(tmp_path, "python:shop.db", isolation="process") == {("shop", True, False)}
    assert places(tmp_path, "python:shop.nothing") == {("shop", True, True)}
    assert places(tmp_path, "python:nothing") == places(tmp_path, "file:nothing.py") == set()


def test_the_script_of_an_interpreter_is_watched_as_well(tmp_path: Path, write: Write) -> None:
    script = write("bell.sh", "")
    assert ("bell.sh", False, False) in places(tmp_path, f"exec:sh {script}")
    assert ("bell.sh", False, False) in places(tmp_path, "exec:sh bell.sh", cwd=".")


def test_a_folder_with_a_manifest_is_the_plugins_own(tmp_path: Path, write: Write) -> None:
    write("plugin.toml", "")
    write("a.py", "")
    origin = str(tmp_path / "plugin.toml")
    assert places(tmp_path, "file:a.py", origin=origin) == {
        ("a.py", False, False),
        (".", True, False),
    }


def test_only_code_is_watched_in_a_folder() -> None:
    place = Place("/p/shop", is_folder=True)
    assert [path for path in ("/p/shop/a.py", "/p/shop/x/y.so", "/p/shop", "/p/shop/data.db",
                              "/p/shopping/a.py", "/p/a.py") if place.holds(path)] == [
        "/p/shop/a.py", "/p/shop/x/y.so", "/p/shop"]  # fmt: skip


def test_what_was_compiled_when_the_text_changed_is_removed(tmp_path: Path, write: Write) -> None:
    now = 1_700_000_000
    for name, compiled_at in (("new", now), ("soon", now + 1), ("old", now + 60)):
        source = write(f"shop/{name}.py", "")
        os.utime(source, (now, now))
        compiled = Path(cache_from_source(str(source)))
        compiled.parent.mkdir(exist_ok=True)
        compiled.touch()
        os.utime(compiled, (compiled_at, compiled_at))
    write("shop/__init__.py", "")
    forget_doubtful(PluginSpec(name="a", source="python:shop.new", isolation="process"))
    left = [path.name.partition(".")[0] for path in (tmp_path / "shop/__pycache__").iterdir()]
    assert left == ["old"]
