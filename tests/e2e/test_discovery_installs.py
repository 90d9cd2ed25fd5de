"""Real installers, in a real environment: what they do is seen by the very next scan, everywhere.

Each step is followed by scans in three processes: a new one, one that lives through all steps, and
a new one again, which finds the records that the first has left. Each scans twice: as it is, and
trusting stamps from the first moment, as is right only after a while, so that records are used.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

SCANNER = """if True:
    import json, os, sys, time
    from plugkeep.discovery import discover_entry_points, entry_points
    def scan(cache, clock):
        os.environ["PLUGKEEP_CACHE_DIR"] = os.path.join(sys.argv[1], cache)
        entry_points.time_ns = clock
        return {spec.name: spec.origin for spec in discover_entry_points()}
    for _ in sys.stdin:
        found = scan("as-it-is", time.time_ns), scan("trusting", lambda: 1 << 62)
        print(json.dumps(found), flush=True)
"""

Found = dict[str, str]


@dataclass
class Environment:
    """A virtual environment that sees this one's packages: pip, the build backends, plugkeep."""

    folder: Path
    scanner: Any = field(default=None)

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    @property
    def variables(self) -> dict[str, str]:
        return {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "PYTHON"))}

    def pip(self, *arguments: object) -> None:
        quiet = ("--disable-pip-version-check", "--no-input", "--quiet")
        command = [self.python, "-m", "pip", *quiet, *map(str, arguments)]
        subprocess.run(
            command, check=True, timeout=100, capture_output=True, text=True, env=self.variables
        )

    def install(self, *what: object) -> None:
        self.pip("install", "--no-index", "--no-deps", "--no-build-isolation", *what)

    def scans(self) -> list[Found]:
        """Scan in a new process, in the one that lives on, and in a new one."""
        return [*self.scan_anew(), *self.scan_in_the_old(), *self.scan_anew()]

    def scan_anew(self) -> list[Found]:
        result = subprocess.run(
            [self.python, "-c", SCANNER, self.cache],
            input="now\n",
            check=True,
            timeout=60,
            capture_output=True,
            text=True,
            env=self.variables,
        )
        return json.loads(result.stdout)

    def scan_in_the_old(self) -> list[Found]:
        self.scanner.stdin.write("now\n")
        self.scanner.stdin.flush()
        return json.loads(self.scanner.stdout.readline())


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[Environment]:
    folder = tmp_path / "environment"
    venv.create(folder, with_pip=False, symlinks=True)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    source = Path(__file__).parents[2] / "src"
    (site / "tools.pth").write_text(f"{sysconfig.get_path('purelib')}\n{source}\n")
    environment = Environment(folder)
    with subprocess.Popen(
        [environment.python, "-c", SCANNER, environment.cache],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment.variables,
    ) as environment.scanner:
        yield environment
        environment.scanner.stdin.close()


def wheel(folder: Path, version: str, *plugins: str) -> Path:
    """Write a wheel of the distribution "my-shop" by hand."""
    info = f"my_shop-{version}.dist-info"
    lines = "".join(f"{name} = my_shop:Plugin\n" for name in plugins)
    files = {
        "my_shop.py": "raise ImportError('discovery imports nothing')\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: my-shop\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[plugkeep.plugins]\n{lines}",
    }
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in (*files, f"{info}/RECORD"))
    path = folder / f"my_shop-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def project(folder: Path, backend: str, *plugins: str) -> None:
    """Write a project whose entry points are `plugins`."""
    requires, build_backend = {
        "hatchling": ("hatchling", "hatchling.build"),
        "setuptools": ("setuptools", "setuptools.build_meta"),
    }[backend]
    lines = "".join(f'{name} = "my_shop:Plugin"\n' for name in plugins)
    folder.mkdir(exist_ok=True)
    (folder / "my_shop.py").write_text("raise ImportError('discovery imports nothing')\n")
    (folder / "pyproject.toml").write_text(
        f'[build-system]\nrequires = ["{requires}"]\nbuild-backend = "{build_backend}"\n'
        '[project]\nname = "my-shop"\nversion = "5"\n'
        f'[project.entry-points."plugkeep.plugins"]\n{lines}'
    )


Seen = Callable[[Found], None]


@pytest.fixture
def seen(environment: Environment) -> Seen:
    def check(expected: Found) -> None:
        assert environment.scans() == [expected] * 6

    return check


def test_install_upgrade_reinstall_uninstall(
    environment: Environment, seen: Seen, tmp_path: Path
) -> None:
    seen({})
    environment.install(wheel(tmp_path, "1.0", "clock"))
    seen({"clock": "my-shop 1.0"})
    environment.install("--upgrade", wheel(tmp_path, "2.0", "clock", "till"))
    seen({"clock": "my-shop 2.0", "till": "my-shop 2.0"})
    environment.install("--force-reinstall", wheel(tmp_path, "2.0", "bell"))
    seen({"bell": "my-shop 2.0"})
    environment.pip("uninstall", "--yes", "my-shop")
    seen({})
    records = list((environment.cache / "trusting").glob("*/*"))
    assert records, "nothing was cached: this test proves nothing"


@pytest.mark.parametrize("backend", ["hatchling", "setuptools"])
def test_editable_installs(
    backend: str, environment: Environment, seen: Seen, tmp_path: Path
) -> None:
    environment.install(wheel(tmp_path, "1.0", "clock"))
    seen({"clock": "my-shop 1.0"})
    project(tmp_path / "project", backend, "till")
    environment.install("--editable", tmp_path / "project")
    seen({"till": "my-shop 5"})
    project(tmp_path / "project", backend, "till", "bell")
    environment.install("--editable", tmp_path / "project")
    seen({"till": "my-shop 5", "bell": "my-shop 5"})
    environment.pip("uninstall", "--yes", "my-shop")
    seen({})


def test_a_source_tree_on_the_path(environment: Environment, seen: Seen, tmp_path: Path) -> None:
    """As setuptools' older development mode leaves it: the metadata stands in the source tree."""
    tree = tmp_path / "project"
    project(tree, "setuptools", "clock")
    site = next(environment.folder.glob("lib/*/site-packages"))
    (site / "easy-install.pth").write_text(f"{tree}\n")

    def egg_info() -> None:
        subprocess.run(
            [sys.executable, "-c", "import setuptools; setuptools.setup()", "-q", "egg_info"],
            check=True,
            timeout=100,
            capture_output=True,
            cwd=tree,
        )

    egg_info()
    assert environment.scan_anew() == environment.scan_anew() == [{"clock": "my-shop 5"}] * 2
    project(tree, "setuptools", "clock", "till")
    egg_info()
    assert environment.scan_anew() == [{"clock": "my-shop 5", "till": "my-shop 5"}] * 2
