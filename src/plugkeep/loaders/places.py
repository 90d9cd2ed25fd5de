"""Where the code of a plugin is, found without importing anything.

Of most of it another instance is made when the plugin is reloaded. Some stays with the process that
has it: modules that are not the plugin's alone, and libraries, which can be loaded only once.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from itertools import islice
from typing import Final

from plugkeep.errors import LoadError
from plugkeep.loaders._source import Source
from plugkeep.loaders.ownership import module_of, modules_of, own_root, packages_around
from plugkeep.spec import PluginSpec

#: What is code in a folder; of other files nobody knows whether the plugin writes them itself.
SUFFIXES: Final = (".py", ".so")


@dataclass(frozen=True, slots=True)
class Place:
    """A file, or the code in a folder at any depth."""

    path: str
    is_folder: bool = False
    #: Whether what is there stays as it is until the process ends.
    stays: bool = False

    def holds(self, path: str) -> bool:
        """Say whether the file at `path` is meant."""
        if path == self.path or not self.is_folder:
            return path == self.path
        return path.startswith(self.path + os.sep) and path.endswith(SUFFIXES)


def places_of(spec: PluginSpec, others: Collection[PluginSpec] = ()) -> list[Place]:
    """Return where the code of a plugin is, as far as it is to be found.

    `others` are the other plugins of its host.
    """
    try:
        source = Source.parse(spec)
        find = _PLACES.get(source.kind, _of_module)
        found = [*find(source, spec, others)]
    except LoadError:  # there is nothing to be watched, and whoever loads it says why
        found = []
    if spec.base and os.path.dirname(spec.origin) == spec.base:  # noqa: PTH120  (a folder of its own)
        found.append(Place(spec.base, is_folder=True))
    return list(dict.fromkeys(found))


def _of_file(source: Source, _spec: PluginSpec, _others: object) -> Iterator[Place]:
    from plugkeep.loaders import file

    yield Place(str(file.check(source)[0]))


def _of_library(source: Source, spec: PluginSpec, _others: object) -> Iterator[Place]:
    yield Place(str(source.path(source.rest)), stays=spec.isolation == "none")


def _of_program(source: Source, spec: PluginSpec, _others: object) -> Iterator[Place]:
    """Yield the program, and the files among its arguments: it may be an interpreter of them."""
    from plugkeep.loaders import exec as program

    name, *arguments = program.check(source)
    found = shutil.which(name, path=spec.env.get("PATH"))
    if found:
        yield Place(os.path.abspath(found))  # noqa: PTH100  (links are left alone)
    folder = os.path.join(spec.base or "", spec.cwd) if spec.cwd is not None else ""  # noqa: PTH118
    for each in arguments:
        path = os.path.abspath(os.path.join(folder, each))  # noqa: PTH100, PTH118
        if os.path.isfile(path):  # noqa: PTH113
            yield Place(path)


def _of_module(source: Source, spec: PluginSpec, others: Collection[PluginSpec]) -> Iterator[Place]:
    """Yield what is the plugin's own; and what is around it, which may be another one's, too."""
    del source
    module = module_of(spec)
    if module is None:
        return
    found = dict(_module_specs(module))
    around = next((each for each in found if _is_regular(found[each])), module)
    if spec.isolation != "none":  # a process of its own imports all of it anew
        yield from _place(found.get(around))
        return
    root = own_root(module, modules_of(others))
    yield from _place(found.get(root))
    if root != around:
        yield from _place(found.get(around), stays=True)


def _place(spec: ModuleSpec | None, *, stays: bool = False) -> Iterator[Place]:
    if spec is None or not spec.origin or not os.path.exists(spec.origin):  # noqa: PTH110
        return
    path = os.path.abspath(spec.origin)  # noqa: PTH100
    if spec.submodule_search_locations is None:
        yield Place(path, stays=stays)
    else:
        yield Place(os.path.dirname(path), is_folder=True, stays=stays)  # noqa: PTH120


def _is_regular(spec: ModuleSpec) -> bool:
    return bool(spec.submodule_search_locations is not None and spec.origin)


def _module_specs(module: str) -> Iterator[tuple[str, ModuleSpec]]:
    """Yield the packages around a module, the outermost first, and itself, as far as they are."""
    path = None
    for name in (*packages_around(module), module):
        spec = _find(name, path)
        if spec is None:
            return
        yield name, spec
        path = spec.submodule_search_locations
        if path is None:
            return


def _find(name: str, path: Collection[str] | None) -> ModuleSpec | None:
    loaded: ModuleSpec | None = getattr(sys.modules.get(name), "__spec__", None)
    if loaded is not None:
        return loaded
    finders = (getattr(each, "find_spec", None) for each in sys.meta_path)
    specs = (find(name, path, None) for find in finders if find)
    found: list[ModuleSpec] = list(islice(filter(None, specs), 1))
    return found[0] if found else None


_PLACES: Final[
    dict[str, Callable[[Source, PluginSpec, Collection[PluginSpec]], Iterator[Place]]]
] = {"file": _of_file, "so": _of_library, "exec": _of_program}
