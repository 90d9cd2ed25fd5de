"""The first line of a user's program pays for what it uses and nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SRC = Path(__file__).parents[2] / "src"

#: What costs milliseconds to import (asyncio alone 67), and so is imported where it is used.
EXPENSIVE = frozenset(
    {"anyio", "asyncio", "concurrent.futures", "dataclasses", "importlib.metadata", "inspect"}
    | {"json", "logging", "msgspec", "subprocess", "tomllib", "typing_extensions", "uuid"}
)


def modules_after(statement: str) -> set[str]:
    """Return what a fresh interpreter without site packages has imported after `statement`."""
    program = f"import sys; sys.path.insert(0, {str(SRC)!r}); {statement}; print(*sys.modules)"
    result = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return set(result.stdout.split())


def test_registry_is_imported_without_anything_expensive():
    assert modules_after("from plugkeep import Registry") & EXPENSIVE == set()


def test_the_package_alone_imports_none_of_its_modules():
    ours = {name for name in modules_after("import plugkeep") if name.startswith("plugkeep")}
    assert ours == {"plugkeep", "plugkeep._version"}


def test_plain_plugins_live_and_die_without_anything_expensive():
    program = """
from plugkeep import Registry

class Quiet:
    name = "quiet"
    def start(self): ...
    def stop(self): ...

registry = Registry()
registry.register(Quiet())
assert registry.start_all() == registry.stop_all() == []
"""
    modules = modules_after(f"exec({program!r})")
    assert "plugkeep.registry.registry" in modules
    assert modules & EXPENSIVE == set()
