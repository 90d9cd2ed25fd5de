"""What users get: the wheel alone, with what it requires and no extra, away from the source."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
#: What the extras bring; without them none of it is there to be imported.
EXTRAS = (
    "a2wsgi",
    "click",
    "jinja2",
    "markdown_it",
    "pygments",
    "rich",
    "starlette",
    "watchfiles",
    "uvicorn",
)


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*map(str, command)],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the sdist, and the wheel that was built from it and not from the checkout."""
    folder = tmp_path_factory.mktemp("dist")
    build = run(
        sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, cwd=folder
    )
    assert build.returncode == 0, build.stdout + build.stderr
    return folder


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    return next(dist.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel and, copied from ours, the distributions it requires."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    pip = (sys.executable, "-m", "pip", "--python", folder / "bin" / "python")
    quiet = ("--quiet", "--no-deps", "--no-index", "--disable-pip-version-check")
    install = run(*pip, "install", *quiet, wheel, cwd=folder)
    assert install.returncode == 0, install.stderr
    site = next(folder.glob("lib/python*/site-packages"))
    ours = importlib.metadata.distributions(name="plugkeep", path=[str(site)])
    for name in sorted(set(required_by(next(iter(ours))))):
        copy_distribution(name, site)
    return folder


def required_by(distribution: importlib.metadata.Distribution) -> Iterator[str]:
    """Yield the names of all that the distribution requires without any extra."""
    for text in distribution.requires or ():
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield requirement.name
            yield from required_by(importlib.metadata.distribution(requirement.name))


def copy_distribution(name: str, site: Path) -> None:
    for file in importlib.metadata.distribution(name).files or ():
        source, target = Path(str(file.locate())), site / file
        if ".." not in file.parts and source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)


def python(environment: Path, program: str) -> subprocess.CompletedProcess[str]:
    interpreter = environment / "bin" / "python"
    return run(interpreter, "-I", "-W", "error", "-c", program, cwd=environment)


# --- What is shipped --------------------------------------------------------------------------


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    source = ROOT / "src"
    files = {path.relative_to(source) for path in source.rglob("*") if path.is_file()}
    ours = {name for name in names if ".dist-info/" not in name}
    assert ours == {str(path) for path in files if "__pycache__" not in path.parts}
    assert {"plugkeep/py.typed", "plugkeep/include/plugkeep.h"} <= ours


def test_the_source_distribution_holds_no_junk(dist):
    with tarfile.open(next(dist.glob("*.tar.gz"))) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]
    expected = {"LICENSE", "README.md", "pyproject.toml", "src/plugkeep/py.typed", "Makefile"}
    assert expected <= set(names)
    junk = (".venv", "__pycache__", ".pyc", ".so", "_cache/", ".hypothesis", ".demo", ".egg-info")
    assert [name for name in names if any(part in name for part in junk)] == []


def test_the_metadata_says_what_is_required(wheel):
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith("/METADATA"))
        metadata = importlib.metadata.PathDistribution(zipfile.Path(archive, name).parent)
        assert metadata.metadata["Requires-Python"] == ">=3.11"
        assert metadata.metadata["License-Expression"] == "MIT"
        extras = set(metadata.metadata.get_all("Provides-Extra") or ())
        assert {"all", "cli", "reload", "serve", "web"} <= extras
        base = {Requirement(text).name for text in metadata.requires or () if "extra" not in text}
    assert base == {"anyio", "msgspec"}


# --- What works without extras ----------------------------------------------------------------


def test_every_public_name_is_there_without_any_extra(installed):
    program = f"""
import sys, plugkeep
from pathlib import Path
assert Path(plugkeep.__file__).is_relative_to({str(installed)!r}), plugkeep.__file__
for name in plugkeep.__all__:
    getattr(plugkeep, name)
assert (Path(plugkeep.get_include()) / "plugkeep.h").is_file()
print([name for name in {EXTRAS!r} if name in sys.modules])
"""
    result = python(installed, program)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "[]\n"


def test_plugins_run_without_any_extra(installed):
    program = """
import asyncio
from plugkeep import Registry

class Clock:
    name = "clock"
    def start(self): print("start")
    def stop(self): print("stop")

registry = Registry()
registry.register(Clock())
with registry:
    print(registry.state("clock"))

async def main():
    async with registry:
        print(registry.state("clock"))

asyncio.run(main())
"""
    result = python(installed, program)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["start", "running", "stop"] * 2


def test_the_command_without_its_extra_says_what_to_install(installed):
    result = run(installed / "bin" / "plugkeep", "--help", cwd=installed)
    assert result.returncode > 0
    assert "plugkeep[cli]" in result.stderr
    assert "Traceback" not in result.stderr
