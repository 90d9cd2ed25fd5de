"""What sets up .venv knows a usable environment from one that is not, and is not led astray."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import venv
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "requirements" / "install.py"


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module, at work in an empty folder."""
    monkeypatch.chdir(tmp_path)
    spec = importlib.util.spec_from_file_location("install", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """A .venv with something that can be imported as pip."""
    venv.create(tmp_path / ".venv", symlinks=True)
    site = next(tmp_path.glob(".venv/lib/python*/site-packages"))
    (site / "pip.py").touch()
    return tmp_path / ".venv"


def test_an_environment_without_a_stamp_is_used_if_it_works(install, environment):
    assert install.usable()


def test_one_without_pip_is_not_used(install, environment):
    next(environment.rglob("pip.py")).unlink()
    assert not install.usable()


def test_one_whose_python_is_gone_is_not_used(install, environment):
    (environment / "bin" / "python").unlink()
    assert not install.usable()


def test_one_of_another_version_is_not_used(install, environment, monkeypatch):
    monkeypatch.setattr(install.sys, "version_info", (3, 99, 0))
    assert not install.usable()


@pytest.mark.parametrize("stamp", [{"unfinished": True}, {"root": "/where/it/was/before"}])
def test_an_unfinished_or_moved_one_is_not_used(install, environment, stamp):
    (environment / "installed.json").write_text(json.dumps(stamp))
    assert not install.usable()


def test_whatever_is_in_its_place_is_removed(install, tmp_path):
    place = tmp_path / ".venv"
    place.write_text("a file")
    install.remove()
    place.symlink_to(tmp_path)
    install.remove()
    place.mkdir()
    (place / "bin").touch()
    install.remove()
    install.remove()
    assert not place.exists()
    assert tmp_path.exists()


def test_pip_hears_where_packages_come_from_but_not_where_else_to_put_them(install, monkeypatch):
    kept = {"PIP_INDEX_URL", "PIP_FIND_LINKS", "PIP_CERT", "PIP_PROXY", "HOME", "LANG"}
    dropped = {"PIP_USER", "PIP_TARGET", "PIP_REQUIRE_HASHES", "PIP_CONSTRAINT", "PYTHONPATH"}
    for name in kept | dropped:
        monkeypatch.setenv(name, "1")
    seen = set(install.environment())
    assert kept <= seen
    assert not dropped & seen


def test_a_python_that_is_too_old_is_told_with_what_to_do(install, monkeypatch):
    monkeypatch.setattr(install, "OLDEST", (3, 99))
    with pytest.raises(SystemExit) as caught:
        install.main("run")
    message = str(caught.value)
    assert "needs Python 3.99 or newer" in message
    assert sys.executable in message
    assert "PYTHON=" in message


def test_an_unknown_kind_gets_the_usage():
    result = subprocess.run(
        [sys.executable, str(SCRIPT), "everything"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert "install.py run" in result.stderr
