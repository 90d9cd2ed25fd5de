"""What a source text says, whatever its kind."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from plugkeep.errors import InvalidSourceError, LoadError, SourceNotFoundError
from plugkeep.loaders import load
from plugkeep.loaders._source import FORMS
from plugkeep.plugin import Plugin
from plugkeep.spec import PluginSpec

Write = Callable[[str, str], Path]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("", "is empty"),
        ("  ", "is empty"),
        ("file:a\0b.py", "NUL character"),
        ("fil:clock.py", r"unknown kind 'fil'; did you mean 'file'\?"),
        ("shop:PluginFactory", "unknown kind 'shop'"),
        ("shop.plugins:PluginFactory", "names no kind, and there is no file"),
        ("./nothing", "names no kind, and there is no file"),
        (".", "is no file"),
        ("python:", "stops short; it is written python:MODULE"),
        ("exec:  ", "stops short; it is written exec:PROGRAM"),
        ("~nobody-of-this-name/clock", "home directory"),
    ],
)
def test_texts_that_are_no_source(source: str, words: str) -> None:
    with pytest.raises(InvalidSourceError, match=words) as caught:
        load(source)
    assert isinstance(caught.value, ValueError)
    assert caught.value.source == source


@pytest.mark.parametrize("source", ["fil:clock.py", "./nothing", ""])
def test_the_error_lists_every_kind(source: str) -> None:
    with pytest.raises(InvalidSourceError) as caught:
        load(source)
    for form in FORMS.values():
        assert form in str(caught.value)


@pytest.mark.parametrize("value", [None, 3, ["file:a.py"]])
def test_values_that_are_no_source(value: object) -> None:
    with pytest.raises(InvalidSourceError, match="a source is a text, a path or a PluginSpec, not"):
        load(value)  # type: ignore[arg-type]


@pytest.mark.parametrize("source", ["wasm:clock.wasm", "./clock.wasm", Path("clock.wasm")])
def test_webassembly_is_refused_by_its_name(source: str | Path) -> None:
    with pytest.raises(InvalidSourceError, match="WebAssembly is not available in this version"):
        load(source)


def test_a_bare_path_that_is_neither_program_nor_known(write: Write) -> None:
    notes = write("notes.txt", "nothing")
    with pytest.raises(InvalidSourceError, match="neither executable nor has it a suffix"):
        load(str(notes))
    with pytest.raises(InvalidSourceError, match=r"did you mean 'notes.txt'\?"):
        load(str(notes.with_name("note.txt")))


CLOCK = "{PLUGIN}\nPluginFactory = Clock\n"


def test_a_bare_path_goes_by_its_suffix(write: Write) -> None:
    path = write("clock.py", CLOCK)
    for source in (str(path), path):
        factory = load(source)
        assert factory().name == "clock"
        assert factory.source == str(path)
        assert str(path) in repr(factory)


def test_a_path_object_may_hold_a_colon(write: Write, tmp_path: Path) -> None:
    write("exec:clock.py", CLOCK)
    assert load(Path("exec:clock.py"), base=tmp_path)().name == "clock"
    assert load("./exec:clock.py", base=tmp_path)().name == "clock"


@pytest.mark.parametrize(
    "name",
    ["clock.so", "libclock.so.1.2", "clock.cpython-311-x86_64-linux-gnu.so", "c.pyd", "c.dylib"],
)
def test_the_suffixes_of_native_libraries(name: str) -> None:
    with pytest.raises(SourceNotFoundError, match="there is no file"):
        load(f"./{name}")


def test_relative_paths_start_from_the_base_or_the_current_folder(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("plugins/clock.py", CLOCK)
    assert load("file:clock.py", base=tmp_path / "plugins")().name == "clock"
    with pytest.raises(SourceNotFoundError):
        load("file:plugins/clock.py", base=tmp_path / "plugins")
    monkeypatch.chdir(tmp_path)
    assert load("file:plugins/clock.py")().name == "clock"
    assert load("clock.py", base="plugins")().name == "clock"


def test_the_home_folder_is_expanded(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("home/clock.py", CLOCK)
    monkeypatch.setenv("HOME", str(path.parent))
    assert load("file:~/clock.py", base="/elsewhere")().name == "clock"
    assert load("~/clock.py")().name == "clock"
    assert load("clock.py", base="~")().name == "clock"


def test_a_spec_brings_its_own_base_and_its_name_into_errors(write: Write, tmp_path: Path) -> None:
    path = write("plugins/clock.py", CLOCK)
    spec = PluginSpec(name="ticker", source="file:clock.py", base=str(path.parent))
    assert load(spec, base="/elsewhere")().name == "clock"
    missing = PluginSpec(name="ticker", source="file:clok.py", base=str(path.parent))
    with pytest.raises(SourceNotFoundError, match=r"did you mean 'clock.py'\?") as caught:
        load(missing)
    assert caught.value.plugin == "ticker"
    assert caught.value.source == "file:clok.py"
    assert isinstance(caught.value, FileNotFoundError)


@pytest.mark.parametrize("source", ["fil:clock.py", "./absent", "exec:'", "python:no.such"])
def test_a_spec_that_cannot_be_loaded_is_named(source: str) -> None:
    with pytest.raises(LoadError) as caught:
        load(PluginSpec(name="ticker", source=source))
    assert caught.value.plugin == "ticker"


def test_the_spec_s_name_is_in_errors_of_the_factory_too(write: Write, tmp_path: Path) -> None:
    write("clock.py", "def PluginFactory(): return None")
    spec = PluginSpec(name="ticker", source="clock.py", base=str(tmp_path))
    factory = load(spec)
    with pytest.raises(LoadError) as caught:
        factory()
    assert caught.value.plugin == "ticker"


def test_a_base_given_serves_a_spec_without_one(write: Write, tmp_path: Path) -> None:
    write("clock.py", CLOCK)
    plugin = load(PluginSpec(name="ticker", source="clock.py"), base=tmp_path)()
    assert isinstance(plugin, Plugin)


def test_paths_that_are_not_utf8_load(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/cl\xff.py"))
    path.write_text("class PluginFactory:\n name = 'odd'\n start = stop = lambda self: None\n")
    assert load(path)().name == "odd"
