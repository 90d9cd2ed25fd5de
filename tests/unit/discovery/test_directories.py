"""Folders with a plugin.toml: what they become, and how what does not fit is reported."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from plugkeep.discovery import discover_directory
from plugkeep.errors import ConfigError, PluginError
from plugkeep.spec import PluginSpec

Manifest = Callable[..., Path]


@pytest.fixture
def plugins(tmp_path: Path) -> Path:
    folder = tmp_path / "plugins"
    folder.mkdir()
    return folder


@pytest.fixture
def manifest(plugins: Path) -> Manifest:
    """Return a function that writes the manifest of the plugin in a folder."""

    def write(folder: str, text: str | bytes = 'source = "file:./plugin.py"\n') -> Path:
        path = plugins / folder / "plugin.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def problems(plugins: Path) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        discover_directory(plugins)
    assert caught.value.path == str(plugins)
    for problem in caught.value.problems:
        assert problem in str(caught.value)
    return caught.value.problems


# --- what fits --------------------------------------------------------------------------------


def test_a_manifest_needs_no_more_than_a_source(plugins: Path, manifest: Manifest) -> None:
    path = manifest("clock")
    (spec,) = discover_directory(plugins)
    assert spec == PluginSpec(
        name="clock", source="file:./plugin.py", base=str(plugins / "clock"), origin=str(path)
    )


def test_every_key(plugins: Path, manifest: Manifest) -> None:
    path = manifest(
        "some-folder",
        """
        name = "clock"
        source = "exec:./clock --utc"
        version = "1.2"
        description = "Tells the time"
        requires = ["database", "till"]
        isolation = "process"
        restart = "permanent"
        start_timeout = "1m"
        stop_timeout = 2.5
        [config]
        zone = "UTC"
        """,
    )
    assert discover_directory(str(plugins)) == [
        PluginSpec(
            name="clock",
            source="exec:./clock --utc",
            version="1.2",
            description="Tells the time",
            requires=("database", "till"),
            base=str(plugins / "some-folder"),
            origin=str(path),
            config={"zone": "UTC"},
            isolation="process",
            restart="permanent",
            start_timeout=60.0,
            stop_timeout=2.5,
        )
    ]


def test_the_order_is_that_of_the_folders(plugins: Path, manifest: Manifest) -> None:
    for folder in ("b", "a", "c", "B", "10", "9"):
        manifest(folder)
    assert [spec.name for spec in discover_directory(plugins)] == ["10", "9", "B", "a", "b", "c"]


def test_only_folders_with_a_manifest_directly_in_it_count(
    plugins: Path, manifest: Manifest
) -> None:
    manifest("clock")
    manifest(".hidden", "nonsense")
    manifest("group/deep", "nonsense")
    (plugins / "plugin.toml").write_text("nonsense")
    (plugins / "__pycache__").mkdir()
    (plugins / "readme.txt").touch()
    assert [spec.name for spec in discover_directory(plugins)] == ["clock"]


def test_an_empty_folder_holds_no_plugins(plugins: Path) -> None:
    assert discover_directory(plugins) == []


def test_a_relative_path_is_one_from_here(
    plugins: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest("clock")
    monkeypatch.chdir(plugins.parent)
    (spec,) = discover_directory("plugins")
    assert spec.origin == "plugins/clock/plugin.toml"
    monkeypatch.chdir("/")
    assert spec.base == str(plugins / "clock")


def test_a_folder_may_be_a_link(tmp_path: Path, plugins: Path, manifest: Manifest) -> None:
    manifest("clock")
    (plugins / "clock").rename(tmp_path / "elsewhere")
    (plugins / "clock").symlink_to(tmp_path / "elsewhere")
    assert [spec.name for spec in discover_directory(plugins)] == ["clock"]


def test_a_mark_and_line_ends_of_other_systems_do_no_harm(
    plugins: Path, manifest: Manifest
) -> None:
    manifest("clock", b'\xef\xbb\xbfsource = "python:clock"\r\nversion = "1"\r\n')
    assert [spec.version for spec in discover_directory(plugins)] == ["1"]


@pytest.mark.parametrize(
    "source",
    [
        "file:clock.py",
        "file:./sub/../clock.py:Clock",
        "file:sub/link.py",
        "so:./libclock.so",
        "exec:./clock ../data /etc/clock",
        "exec:clock",
        "exec:python3 ../clock.py",
        "exec:'./the clock' --utc",
        "./clock.py",
        "python:shop.clock:Clock",
        "entry-point:shop/clock",
    ],
)
def test_sources_that_stay_in_their_folder(source: str, plugins: Path, manifest: Manifest) -> None:
    path = manifest("clock", f'source = "{source}"')
    (path.parent / "sub").mkdir()
    (path.parent / "sub" / "link.py").symlink_to("../clock.py")
    assert [spec.source for spec in discover_directory(plugins)] == [source]


# --- what does not ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source",
    [
        "file:../clock.py",
        "file:/etc/passwd",
        "file:sub/../../clock.py",
        "file:link.py",
        "file:link.py:Clock",
        "file:away/clock.py",
        "file:~/clock.py",
        "so:../libclock.so",
        "so:/usr/lib/libclock.so",
        "exec:../till",
        "exec:/bin/sh -c true",
        "exec:'/bin/sh' -c true",
        "exec:sub/../../till --utc",
        "wasm:../clock.wasm",
        "../clock.py",
        "/etc/clock.so",
        "~/clock.py",
        "../odd:name/clock.py",
    ],
)
def test_a_source_that_leads_out_of_its_folder(
    source: str, tmp_path: Path, plugins: Path, manifest: Manifest
) -> None:
    path = manifest("clock", f'source = "{source}"')
    (path.parent / "link.py").symlink_to(tmp_path / "outside.py")
    (path.parent / "away").symlink_to("/tmp")
    (problem,) = problems(plugins)
    assert problem.startswith(f"{path}: source: {source!r} leads out of the plugin's folder, to /")


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ('name = ""', "name: plugin name is empty"),
        ("name = 3", "name: expected a text in quotes, found 3"),
        ('name = "two words"', "name: plugin name is 'two words'; a name begins with"),
        ('name = "a/b"', "name: plugin name is 'a/b'"),
        ("source = 3", "source: expected a text in quotes, found 3"),
        ('source = " "', "source: source of plugin 'clock' is ' ', not a source"),
        ('source = "exec:\\"unclosed"', "source: No closing quotation"),
        ('source = "file:a\\u0000b"', "source: "),
        ("version = 1.0", "version: expected a text in quotes, found 1.0"),
        ("description = []", "description: expected a text in quotes, found []"),
        ('requires = "db"', 'requires: expected an array of names, such as ["database"]'),
        ('requires = ["a b"]', "requires: a name in requires of plugin 'clock' is 'a b'"),
        ('config = "x"', "config: expected a table, found 'x'"),
        (
            'isolation = "jail"',
            "isolation: isolation of plugin 'clock' is 'jail'; it can be: 'none'",
        ),
        ("restart = true", "restart: expected a text in quotes, found True"),
        ('start_timeout = "soon"', "start_timeout: 'soon' is not a duration"),
        ("start_timeout = 0", "start_timeout: expected a duration above 0, found 0"),
        ("stop_timeout = -1", "stop_timeout: -1 is not a duration"),
        ('sorce = "x"', "sorce: unknown key; did you mean 'source'?"),
        ("zebra = 1", "zebra: unknown key; there are: name, source, version,"),
        ("[plugin]\nname = 'x'", "plugin: unknown key"),
    ],
)
def test_a_key_that_does_not_fit(
    line: str, complaint: str, plugins: Path, manifest: Manifest
) -> None:
    source = "" if line.startswith("source") else 'source = "python:m"\n'
    path = manifest("clock", source + line)
    (problem,) = problems(plugins)
    assert problem.startswith(f"{path}: {complaint}")


def test_a_folder_name_that_no_plugin_can_have(plugins: Path, manifest: Manifest) -> None:
    path = manifest("two words")
    (problem,) = problems(plugins)
    assert problem.startswith(f"{path}: name: plugin name is 'two words'")
    manifest("two words", 'name = "two-words"\nsource = "python:m"')
    assert [spec.name for spec in discover_directory(plugins)] == ["two-words"]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "source: is missing"),
        (b"source = ", "line 1 is not TOML: "),
        (b"a = 1\nsource = ~\n", "line 2 is not TOML: Invalid value"),
        (b'source = "a"\nsource = "b"\n', "line 2 is not TOML: a key or table is given a second"),
        (b'a = 1\nsource = "caf\xe9"\n', "line 2 is not UTF-8: found byte 0xe9"),
        (b"a = " + b"[" * 100_000, "line 1 is nested too deeply"),
        (b"a = " + b"9" * 10_000, "holds a number of too many digits"),
        (b"#" * (2**20 + 1), "is larger than 1MiB"),
    ],
)
def test_a_file_that_is_no_manifest(
    content: bytes, complaint: str, plugins: Path, manifest: Manifest
) -> None:
    path = manifest("clock", content)
    (problem,) = problems(plugins)
    assert problem.startswith(f"{path}: {complaint}")


def test_what_is_no_file(plugins: Path) -> None:
    for name in ("a-folder", "a-link", "a-pipe"):
        (plugins / name).mkdir()
    (plugins / "a-folder" / "plugin.toml").mkdir()
    (plugins / "a-link" / "plugin.toml").symlink_to("nowhere")
    os.mkfifo(plugins / "a-pipe" / "plugin.toml")
    assert problems(plugins) == (
        f"{plugins}/a-folder/plugin.toml: is a directory; expected a TOML file",
        f"{plugins}/a-link/plugin.toml: is a link to nothing",
        f"{plugins}/a-pipe/plugin.toml: is a pipe; expected a TOML file",
    )


def test_every_problem_of_every_manifest_is_listed(plugins: Path, manifest: Manifest) -> None:
    first = manifest("a", 'nam = "x"\nversion = 1\n')
    manifest("b")
    last = manifest("c", "nonsense")
    found = problems(plugins)
    places = [problem.partition(": ")[0] for problem in found]
    assert places == [str(first)] * 3 + [str(last)]
    with pytest.raises(ConfigError, match=f"^4 problems with the plugins in {plugins}:\n"):
        discover_directory(plugins)


def test_a_name_that_two_folders_claim(plugins: Path, manifest: Manifest) -> None:
    first = manifest("clock")
    second = manifest("till", 'name = "clock"\nsource = "python:m"')
    assert problems(plugins) == (f"{second}: name: 'clock' is taken by {first}",)


@pytest.mark.parametrize("missing", ["nowhere", "file", "file/below"])
def test_a_folder_that_does_not_exist(missing: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        FileNotFoundError, match=r"a folder of folders, each with a plugin\.toml"
    ) as e:
        discover_directory(tmp_path / missing)
    assert isinstance(e.value, PluginError)
    assert str(tmp_path / missing) in str(e.value)
    assert ("is not a folder" in str(e.value)) == (missing == "file")


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming an ordinary user takes root")
def test_what_may_not_be_read(everybodys: Path) -> None:
    for folder in ("closed", "open"):
        (everybodys / folder / "clock").mkdir(parents=True)
        (everybodys / folder / "clock" / "plugin.toml").touch(0o000)
    (everybodys / "closed").chmod(0)
    program = """if True:
        import os, sys, tomllib
        from plugkeep.discovery import discover_directory
        os.setgroups([]), os.setgid(65534), os.setuid(65534)
        for path in sys.argv[1:]:
            try:
                discover_directory(path)
            except ValueError as error:
                print(error)
    """
    result = subprocess.run(
        [sys.executable, "-c", program, everybodys / "closed", everybodys / "open"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert result.stdout.splitlines() == [
        f"{everybodys}/closed cannot be read: Permission denied",
        f"{everybodys}/open/clock/plugin.toml: cannot be read: Permission denied",
    ]
