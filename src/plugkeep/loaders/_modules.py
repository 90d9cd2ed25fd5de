"""Executing a module from a file that is on nobody's import path."""

from __future__ import annotations

import re
import sys
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec, spec_from_file_location
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.abc import Loader
    from pathlib import Path
    from types import ModuleType


def unique_name(path: Path) -> str:
    """Return a module name for the file at `path`: its stem, and what tells it from its like.

    The same path has the same name in every process, so what is pickled in one can be read in
    another that has loaded the same file.
    """
    from hashlib import blake2s

    digest = blake2s(bytes(path), digest_size=6).hexdigest()
    stem = re.sub(r"\W", "_", path.name.split(".")[0])
    return f"plugkeep_{stem}_{digest}"


def execute(name: str, path: Path, loader: Loader) -> ModuleType:
    """Execute the file at `path` and return the module, which is ``sys.modules[name]`` then.

    When that raises, ``sys.modules`` is left as it was: what was loaded from the file before
    goes on.
    """
    spec = spec_from_file_location(name, path, loader=loader)
    assert isinstance(spec, ModuleSpec)  # noqa: S101  # None only without a loader
    before = sys.modules.get(name)
    try:
        module = sys.modules[name] = module_from_spec(spec)
        loader.exec_module(module)
    except BaseException:
        _put_back(name, before)
        raise
    return module


def _put_back(name: str, before: ModuleType | None) -> None:
    if before is None:
        sys.modules.pop(name, None)
    else:
        sys.modules[name] = before
