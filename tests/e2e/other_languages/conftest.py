"""The reference plugin in several languages, and what plays the transcripts to it."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

PROTOCOL = Path(__file__).parents[3] / "protocol"
REFERENCE = PROTOCOL / "reference"


@pytest.fixture
def replay(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(PROTOCOL)
    return importlib.import_module("replay")


@pytest.fixture
def play(replay: ModuleType) -> Callable[..., None]:
    """Play transcripts, in one life of the plugin, and fail with what went wrong."""

    def play(names: list[str], command: list[str], level: int) -> None:
        try:
            replay.play(replay.together(names), replay.launcher(command, level))
        except replay.MismatchError as error:
            pytest.fail(str(error), pytrace=False)

    return play


@pytest.fixture(scope="session")
def go_plugin(tmp_path_factory: pytest.TempPathFactory) -> str:
    go = shutil.which("go")
    if not go:
        pytest.skip("needs go")
    folder = tmp_path_factory.mktemp("go")
    own = {
        "GOCACHE": str(tmp_path_factory.getbasetemp().parent / "go-cache"),  # for the next time
        "GOPATH": str(folder / "path"),
        "GOPROXY": "off",
        "GO111MODULE": "off",
        "GOTOOLCHAIN": "local",
        "CGO_ENABLED": "0",
    }
    program = folder / "reference"
    built = subprocess.run(
        [go, "build", "-o", program, *sorted(REFERENCE.glob("go/*.go"))],
        env={**os.environ, **own},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    return str(program)


@pytest.fixture
def plugin(request: Any) -> Callable[[str], list[str]]:
    """Return the command of a reference plugin."""

    def command(name: str) -> list[str]:
        if name == "go":
            return [request.getfixturevalue("go_plugin")]
        if name == "runner":
            source = f"file:{Path(__file__).with_name('reference_plugin.py')}"
            return [sys.executable, "-m", "plugkeep.runner", source]
        if name.endswith(".awk"):
            return [shutil.which("awk") or pytest.skip("needs awk"), "-f", str(REFERENCE / name)]
        return [sys.executable, "-I", "-S", str(REFERENCE / name)]

    return command
