"""Which modules are a plugin's own.

The module that its source names is, and every submodule of that. So is the outermost package
around it, with all that is in it, if it is the plugin's alone: nothing had imported of it before
the plugin was loaded first, and no other plugin's source lies in it. A namespace package never
is, for its parts come from whoever they come from; nor is what a package has from outside of its
folder.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection
from contextlib import suppress
from importlib.machinery import ExtensionFileLoader
from typing import TYPE_CHECKING

from plugkeep.errors import LoadError
from plugkeep.loaders._source import Source

if TYPE_CHECKING:
    from types import ModuleType

    from plugkeep.spec import PluginSpec

#: For each module that a plugin was loaded from, the packages around it that were there already.
_earlier: dict[str, frozenset[str]] = {}


def note_first_import(module: str) -> None:
    """Remember what there is of the packages around `module`, which is about to be imported."""
    if module not in _earlier:
        _earlier[module] = frozenset(
            each for each in packages_around(module) if each in sys.modules
        )


def packages_around(module: str) -> list[str]:
    """Return the packages that hold `module`, the outermost first."""
    parts = module.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def module_of(spec: PluginSpec) -> str | None:
    """Return the module that a plugin's source names; None where it is not one in Python.

    A file has the name that it gets when it is executed. Raises LoadError where nobody knows.
    """
    source = Source.parse(spec)
    find = _MODULES.get(source.kind)
    return find(source) if find else None


def modules_of(specs: Collection[PluginSpec]) -> list[str]:
    """Return the modules that the sources of plugins name, as far as they do; and their files."""
    found: list[str | None] = []
    for spec in specs:
        with suppress(LoadError):  # it is another one's problem
            found.append(module_of(spec))
            found.append(_file_of(spec))
    return [each for each in found if each]


def own_root(module: str, others: Collection[str]) -> str:
    """Return `module`, or the package around it that belongs to its plugin alone.

    `others` are the modules, and the files, that the sources of the other plugins name.
    """
    earlier = _earlier.get(module)
    if earlier is not None:
        for package in packages_around(module):
            if package not in earlier and _is_regular(package) and not _any_in(package, others):
                return package
    return module


def own_modules(module: str, others: Collection[str]) -> dict[str, ModuleType]:
    """Return those of a plugin's own modules that have been imported, C extensions included."""
    root = own_root(module, others)
    foreign = [each for each in others if each != module and is_in(each, root)]
    folder = _folder(sys.modules.get(root))
    return {
        name: found
        for name, found in sys.modules.copy().items()
        if is_in(name, root)
        and name != "__main__"
        and not any(is_in(name, each) for each in foreign)
        and (name == root or (folder and _place(found).startswith(folder + os.sep)))
    }


def is_in(name: str, package: str) -> bool:
    """Say whether `name` is `package`, or a module in it."""
    return name == package or name.startswith(f"{package}.")


def is_extension(module: ModuleType) -> bool:
    """Say whether a module is of the kind that can be imported only once."""
    spec = getattr(module, "__spec__", None)
    loader = getattr(spec, "loader", None)
    return isinstance(loader, ExtensionFileLoader) or _origin(module) in ("built-in", "frozen")


def _any_in(package: str, modules: Collection[str]) -> bool:
    inside = f"{_folder(sys.modules.get(package))}{os.sep}"
    return any(is_in(each, package) or each.startswith(inside) for each in modules)


def _is_regular(package: str) -> bool:
    """Say whether a package has been imported, and is one with an ``__init__``."""
    module = sys.modules.get(package)
    return _folder(module) is not None and bool(_origin(module))


def _folder(module: ModuleType | None) -> str | None:
    """Return the folder of a package; None: it is none."""
    if module is None or not hasattr(module, "__path__"):
        return None
    return os.path.dirname(_origin(module)) or next(iter(module.__path__), None)  # noqa: PTH120


def _place(module: ModuleType) -> str:
    return _origin(module) or next(iter(getattr(module, "__path__", ())), "")


def _origin(module: ModuleType | None) -> str:
    return getattr(getattr(module, "__spec__", None), "origin", None) or ""


def _file_of(spec: PluginSpec) -> str | None:
    from plugkeep.loaders import file

    source = Source.parse(spec)
    return str(file.check(source)[0]) if source.kind == "file" else None


def _in_python(source: Source) -> str:
    from plugkeep.loaders import python

    return python.check(source)[0]


def _in_file(source: Source) -> str:
    from plugkeep.loaders import file
    from plugkeep.loaders._modules import unique_name

    return unique_name(file.check(source)[0])


def _of_entry_point(source: Source) -> str:
    from plugkeep.loaders import entry_point

    return entry_point.target(entry_point.find(source))[0]


_MODULES: dict[str, Callable[[Source], str]] = {
    "python": _in_python,
    "file": _in_file,
    "entry-point": _of_entry_point,
}
