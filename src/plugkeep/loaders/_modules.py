"""Executing a module from a file that is on nobody's import path."""

from __future__ import annotations

import re
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from typing import TYPE_CHECKING

from plugkeep.loaders._factory import factory_in, import_for

if TYPE_CHECKING:
    from importlib.machinery import ExtensionFileLoader
    from pathlib import Path
    from types import CodeType, ModuleType

    from plugkeep.loaders._factory import LoadedFactory
    from plugkeep.loaders._source import Source

    FileLoader = ExtensionFileLoader | SourceFileLoader


_not_in_names = re.compile(r"\W").sub


class FreshLoader(SourceFileLoader):
    """Compiles what the file says now.

    The cache of compiled files goes by whole seconds of mtime and by size: it would bring back
    the old code after a quick edit. Nor is anything to be written into a plugin's folder.
    """

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


def unique_name(path: Path) -> str:
    """Return a module name for the file at `path`: its stem, and what tells it from its like.

    The same path has the same name in every process, so what is pickled in one can be read in
    another that has loaded the same file.
    """
    from hashlib import blake2s

    digest = blake2s(bytes(path), digest_size=6).hexdigest()
    stem = _not_in_names("_", path.name.split(".")[0])
    return f"plugkeep_{stem}_{digest}"


def factory_from(
    loader: FileLoader, path: Path, attribute: str, what: str, source: Source
) -> LoadedFactory:
    """Execute the file at `path` as the module that `loader` names; return the factory in it.

    When anything fails ``sys.modules`` is left as it was: what was loaded from the file before
    goes on.
    """
    before = sys.modules.get(loader.name)
    try:
        module = import_for(source, what, lambda: _execute(loader, path))
        return factory_in(module, attribute, what, source)
    except BaseException:
        if before is None:
            sys.modules.pop(loader.name, None)
        else:
            sys.modules[loader.name] = before
        raise


def _execute(loader: FileLoader, path: Path) -> ModuleType:
    spec = spec_from_file_location(loader.name, path, loader=loader)
    assert spec is not None  # noqa: S101  # it is None only where no loader is given
    # Entered before it is executed, for dataclasses and type hints look their module up.
    module = sys.modules[loader.name] = module_from_spec(spec)
    loader.exec_module(module)
    return module
