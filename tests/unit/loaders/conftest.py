from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from plugkeep.loaders import get_include

PLUGIN = """\
class Clock:
    name = "clock"
    def start(self): ...
    def stop(self): ...
"""


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    """Write a file below the test's folder, with the class `Clock` at hand as ``{PLUGIN}``."""

    def write_file(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text).replace("{PLUGIN}", PLUGIN))
        return path

    return write_file


def run_command(*command: str | Path, **options: Any) -> str:
    """Run a program and return what it printed; the test fails with what it says."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, **options)
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stderr}"
    return str(done.stdout)


def tool(name: str) -> str:
    """Return the path of a program, or skip the test that needs it."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


@pytest.fixture(scope="session", name="run")
def run_fixture() -> Callable[..., str]:
    return run_command


@pytest.fixture(scope="session", name="tool")
def tool_fixture() -> Callable[[str], str]:
    return tool


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Compile C into a shared library in a folder of its own and return the library's path."""
    compiler = tool("cc")

    def build_library(text: str, *flags: str, name: str = "libclock.so") -> Path:
        folder = tmp_path_factory.mktemp("native")
        source = folder / "source.c"
        source.write_text(text)
        library = folder / name
        include = f"-I{get_include()}"
        run_command(compiler, "-shared", "-fPIC", include, "-o", library, source, *flags)
        return library

    return build_library


@pytest.fixture(scope="session")
def counting(build: Callable[..., Path]) -> Path:
    """Build the library that counts what the host does with its plugins."""
    text = (Path(__file__).parent / "counting.c").read_text()
    return build(text, "-Wall", "-Wextra", "-Werror")
