"""What a sandbox is made of, and programs that cannot be executed."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import plugkeep
from plugkeep.errors import (
    CallError,
    InvalidNameError,
    LaunchError,
    MethodNotFoundError,
    NotStartedError,
    ProgramNotFoundError,
)
from plugkeep.plugin import Plugin, is_plugin
from plugkeep.sandbox import ExecSandbox

Script = Callable[..., Path]


@pytest.fixture
def script(tmp_path: Path) -> Script:
    """Return a function that writes an executable file, by default a plugin, and its path."""

    def write(text: str = "", name: str = "clock.sh", mode: int = 0o755) -> Path:
        path = tmp_path / name
        path.write_bytes((text or "#!/bin/sh\nprintf '{\"ready\":true}'; read line\n").encode())
        path.chmod(mode)
        return path

    return write


def test_it_is_a_plugin_named_after_its_file() -> None:
    sandbox = ExecSandbox("./plugins/clock.sh")
    assert sandbox.name == "clock"
    assert is_plugin(sandbox)
    assert isinstance(sandbox, Plugin)
    assert plugkeep.ExecSandbox is ExecSandbox
    assert ExecSandbox("clock").name == "clock"
    assert ExecSandbox(Path("/usr/bin/env"), "x", name="other").name == "other"
    assert repr(ExecSandbox("clock")) == "<ExecSandbox 'clock' clock registered>"


@pytest.mark.parametrize("path", ["./my plugin", "./.hidden", "", "/", "-x"])
def test_a_file_whose_stem_is_no_name_needs_one(path: str) -> None:
    with pytest.raises(InvalidNameError, match="pass name="):
        ExecSandbox(path)


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({"name": "a b"}, InvalidNameError, "'a b'"),
        ({"start_timeout": 0}, ValueError, "start_timeout of plugin 'clock' is 0"),
        ({"start_timeout": "5s"}, TypeError, "start_timeout of plugin 'clock' is '5s'"),
        ({"stop_timeout": -1}, ValueError, "stop_timeout of plugin 'clock' is -1"),
        ({"stop_timeout": float("nan")}, ValueError, "stop_timeout of plugin 'clock' is nan"),
        ({"call_timeout": True}, TypeError, "call_timeout of plugin 'clock' is True"),
        ({"wire": 3}, ValueError, "wire of plugin 'clock' is 3; it can be 0, 1 or 2"),
        ({"wire": True}, ValueError, "wire of plugin 'clock' is True"),
        ({"env": {"A": 1}}, TypeError, "env of plugin 'clock' has 'A': 1"),
        ({"env": {"A=B": "1"}}, ValueError, "env of plugin 'clock' has 'A=B'"),
        ({"env": {"A": "\0"}}, ValueError, "env of plugin 'clock' has 'A'"),
        ({"cwd": 5}, TypeError, "cwd of plugin 'clock' is 5"),
        ({"cwd": "a\0b"}, ValueError, "NUL"),
    ],
)
def test_what_cannot_be_is_refused_at_once(
    options: dict[str, Any], error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told):
        ExecSandbox("clock", **options)


def test_arguments_are_text_or_paths() -> None:
    with pytest.raises(TypeError, match="argument 5 of plugin 'clock'"):
        ExecSandbox("clock", "--port", 5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="path is 5"):
        ExecSandbox(5)  # type: ignore[arg-type]


def test_no_limit_and_endless_limits_are_the_same(script: Script) -> None:
    for limit in (None, float("inf"), 1e300):
        with ExecSandbox(script(), start_timeout=limit, stop_timeout=limit) as sandbox:
            assert sandbox.pid


def test_calls_are_beyond_level_0(script: Script) -> None:
    sandbox = ExecSandbox(script(), call_timeout=2)
    assert (sandbox.call_timeout, sandbox.wire) == (2.0, 1)
    with pytest.raises(NotStartedError, match="'clock' is not running"):
        sandbox.call("now")
    with sandbox, pytest.raises(MethodNotFoundError, match=r"'now': it speaks level 0") as caught:
        sandbox.call("now", 1, timeout=0.5, zone="utc")
    assert isinstance(caught.value, CallError)


def test_arguments_environment_and_folder_reach_the_program(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = script(
        "#!/bin/sh\n"
        '{ pwd; echo "$@"; echo "$FROM_HOST/$OWN"; } > said\n'
        "printf '{\"ready\":true}'; read line\n"
    )
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.setenv("FROM_HOST", "host")
    said = []
    for env in (None, {"OWN": "own"}, {}):
        with ExecSandbox(program, "a b", Path("c"), env=env, cwd=folder):
            said.append((folder / "said").read_text().splitlines())
    assert said == [[str(folder), "a b c", environment] for environment in ("host/", "/own", "/")]


def test_a_relative_path_starts_from_the_hosts_folder(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script()
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path)
    sandbox = ExecSandbox("./clock.sh", cwd="work")
    monkeypatch.chdir("/")
    with sandbox:
        assert sandbox.pid
        assert Path(f"/proc/{sandbox.pid}/cwd").readlink() == tmp_path / "work"


def test_a_bare_name_is_looked_up_on_the_hosts_path(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "first" / "clock").mkdir(parents=True)  # a folder is no program
    second = tmp_path / "second"
    second.mkdir()
    script(name="second/clock")
    script(name="clock", mode=0o644)  # nor is what is not executable
    path = [tmp_path / "first", tmp_path, second, os.environ["PATH"]]
    monkeypatch.setenv("PATH", os.pathsep.join(map(str, path)))
    with ExecSandbox("clock", env={}) as sandbox:
        assert str(second / "clock").encode() in Path(f"/proc/{sandbox.pid}/cmdline").read_bytes()


def test_a_missing_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = tmp_path / "clock"
    for path in (missing, tmp_path / "no" / "folder" / "clock", Path(sys.executable, "clock")):
        with pytest.raises(ProgramNotFoundError, match=f"'clock' cannot start: '{path}'") as caught:
            ExecSandbox(path).start()
        assert isinstance(caught.value, FileNotFoundError)
        assert caught.value.filename == str(path)
    with pytest.raises(ProgramNotFoundError, match=r"no program 'no-such-clock' on PATH$"):
        ExecSandbox("no-such-clock").start()
    missing.touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ProgramNotFoundError, match=r"on PATH; .* write './clock'"):
        ExecSandbox("clock").start()


@pytest.mark.parametrize(
    ("text", "mode", "told"),
    [
        ("#!/bin/sh\n", 0o644, r"is not executable; run: chmod \+x .*clock.sh"),
        ("echo hello\n", 0o755, "begins with a line such as #!/bin/sh"),
        ("\0\1\2\3", 0o755, "begins with a line such as #!/bin/sh"),
        ("\x7fELF but not really", 0o755, "another kind of machine"),
        ("#!/no/such/interpreter -x\n", 0o755, "does not exist: #!/no/such/interpreter -x"),
        ("#!/bin/sh\r\nread line\r\n", 0o755, "save it with Unix line endings"),
        (f"#!{os.devnull}\n", 0o755, "its #! interpreter is not executable"),
    ],
)
def test_a_file_that_cannot_be_executed(script: Script, text: str, mode: int, told: str) -> None:
    sandbox = ExecSandbox(script(text, mode=mode))
    with pytest.raises(LaunchError, match=told) as caught:
        sandbox.start()
    assert isinstance(caught.value, OSError)
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.plugin == "clock"
    assert sandbox.pid is None


def test_an_empty_file_a_folder_a_device_and_a_missing_folder(
    script: Script, tmp_path: Path
) -> None:
    empty = script()
    empty.write_bytes(b"")
    for path, told in (
        (empty, "is an empty file"),
        (tmp_path, "is a directory; name the program in it"),
        (Path(os.devnull), "is no regular file"),
    ):
        with pytest.raises(LaunchError, match=told) as caught:
            ExecSandbox(path, name="odd").start()
        assert not isinstance(caught.value, ProgramNotFoundError)
    with pytest.raises(LaunchError, match="its working directory '/no/such' does not exist"):
        ExecSandbox(script(), cwd="/no/such").start()


def test_a_file_that_is_still_being_written(script: Script) -> None:
    path = script()
    with path.open("ab"), pytest.raises(LaunchError, match="is being written") as caught:
        ExecSandbox(path).start()
    assert caught.value.errno == errno.ETXTBSY


def test_arguments_beyond_the_systems_limit(script: Script) -> None:
    with pytest.raises(LaunchError, match="Argument list too long"):
        ExecSandbox(script(), "x" * 4_000_000).start()


def test_it_can_start_once_the_program_is_there(script: Script, tmp_path: Path) -> None:
    sandbox = ExecSandbox(tmp_path / "clock.sh")
    with pytest.raises(ProgramNotFoundError):
        sandbox.start()
    script()
    with sandbox:
        assert sandbox.pid
