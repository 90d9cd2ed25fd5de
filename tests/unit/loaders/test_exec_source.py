"""``exec:``: programs, and the sandboxes that are made for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from plugkeep.errors import InvalidSourceError, SourceNotFoundError
from plugkeep.loaders import load
from plugkeep.spec import PluginSpec

Write = Callable[[str, str], Path]


class FakeSandbox:
    """Remembers what it was made with; what a sandbox does is told elsewhere."""

    def __init__(self, path: str, *args: str, **options: object) -> None:
        self.name = options.get("name") or Path(path).stem
        self.made_with = (path, args, options)

    def start(self) -> None: ...
    def stop(self) -> None: ...


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plugkeep.loaders.exec.ExecSandbox", FakeSandbox)


@pytest.fixture
def clock(write: Write) -> Path:
    path = write(
        "my clock",
        """\
        #!/bin/sh
        test "$1" = "--zone=a b" || exit 9
        echo '{"ready": true}'
        read command
        """,
    )
    path.chmod(0o755)
    return path


def _made_with(source: Any, base: Path | None = None) -> Any:
    sandbox: Any = load(source, base=base)()
    return sandbox.made_with


@pytest.mark.usefixtures("fake")
def test_a_program_is_split_as_in_a_shell_and_starts_from_the_base(clock: Path) -> None:
    path, args, options = _made_with("exec:'./my clock' --utc '--zone=a b' \"\"", clock.parent)
    assert path == str(clock)
    assert args == ("--utc", "--zone=a b", "")
    assert options == {}, "what nobody said is for the sandbox to decide"


@pytest.mark.usefixtures("fake")
def test_a_bare_name_is_left_for_the_path_of_the_sandbox(tmp_path: Path) -> None:
    assert _made_with("exec:no-such-program -v", tmp_path) == ("no-such-program", ("-v",), {})


@pytest.mark.usefixtures("fake")
def test_a_bare_path_to_an_executable_is_a_program_as_it_stands(clock: Path) -> None:
    assert _made_with(str(clock)) == (str(clock), (), {})
    assert _made_with(clock.name, clock.parent) == (str(clock), (), {})


@pytest.mark.usefixtures("fake")
def test_a_spec_gives_its_name_and_its_limits(clock: Path) -> None:
    spec = PluginSpec(
        name="ticker", source="exec:'./my clock'", base=str(clock.parent), stop_timeout=2
    )
    assert _made_with(spec) == (str(clock), (), {"name": "ticker", "stop_timeout": 2})
    unlimited = PluginSpec(name="ticker", source=str(clock))
    assert _made_with(unlimited) == (str(clock), (), {"name": "ticker"})


@pytest.mark.usefixtures("fake")
def test_each_call_makes_a_sandbox_of_its_own(clock: Path) -> None:
    factory = load(clock)
    assert factory() is not factory()


@pytest.mark.parametrize(
    ("rest", "words"),
    [
        ("./clock 'open", "cannot be split into words as a shell does: No closing quotation"),
        ("''", "names no program"),
        ("'' --flag", "names no program"),
    ],
)
def test_texts_that_name_no_program(rest: str, words: str) -> None:
    with pytest.raises(InvalidSourceError, match=words):
        load(f"exec:{rest}")


def test_a_missing_program_is_found_out_at_once(clock: Path) -> None:
    with pytest.raises(SourceNotFoundError, match="did you mean 'my clock'"):
        load("exec:'./my clok'", base=clock.parent)


def test_the_sandbox_is_a_real_one(clock: Path) -> None:
    spec = PluginSpec(
        name="ticker", source="exec:'./my clock' '--zone=a b'", base=str(clock.parent)
    )
    plugin = load(spec)()
    assert plugin.name == "ticker"
    plugin.start()
    plugin.stop()
