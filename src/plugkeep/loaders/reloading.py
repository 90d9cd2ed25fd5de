"""Importing a plugin's own modules anew, so that what there was before can be had back.

Python has one table of modules for all. What is imported anew takes the place of what there was,
for whoever imports it from then on; whoever holds on to the old modules, or to anything in them,
goes on with that.
"""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from importlib.machinery import ModuleSpec, SourceFileLoader
from typing import TYPE_CHECKING, Any, Final

from plugkeep.loaders import load
from plugkeep.loaders._modules import FreshLoader
from plugkeep.loaders.ownership import (
    is_extension,
    is_in,
    module_of,
    modules_of,
    own_modules,
    own_root,
)

if TYPE_CHECKING:
    from types import ModuleType

    from plugkeep.loaders._factory import LoadedFactory
    from plugkeep.spec import PluginSpec

_MISSING: Final = object()

#: Held while modules change places, and never while any of their code runs.
_lock = threading.Lock()


class Renewal:
    """Some modules of one plugin, which have been taken away to be imported anew."""

    def __init__(
        self, root: str, before: dict[str, ModuleType], foreign: Collection[str] = ()
    ) -> None:
        self._root = root
        self._before = before
        #: What is in `root`, and another plugin's own.
        self._foreign = foreign
        self._kept: Collection[str] = ()
        self._kept = self._present().keys() - before.keys()
        parent, _, self._child = root.rpartition(".")
        self._parent = sys.modules.get(parent)
        # Not always the module: a package may have something else under the name of a part of it.
        self._attribute = self._around().get(self._child, _MISSING)
        self._after: dict[str, ModuleType] = {}

    def take_away(self) -> None:
        """From now on each of the modules is imported anew, when it is next imported."""
        _finder.roots.add(self._root)
        if _finder not in sys.meta_path:
            sys.meta_path.insert(0, _finder)
        importlib.invalidate_caches()  # or files that have been added may not be seen
        with _lock:
            _open.append(self)
            for name, module in self._before.items():
                if sys.modules.get(name) is module:
                    del sys.modules[name]

    def settle(self) -> None:
        """All has been imported anew."""
        with _lock:
            self._after = self._present()
            for name in sys.modules.copy():
                if is_in(name, self._root) and name not in self._after:
                    _attach(name)
            if self._attribute not in (_MISSING, self._before.get(self._root)):
                self._set_attribute()

    def keep(self) -> None:
        """What has been imported anew stays."""
        with _lock, suppress(ValueError):
            _open.remove(self)

    def undo(self) -> None:
        """Have things as they were, unless somebody has imported them anew once more."""
        with _lock:
            if self not in _open:  # nothing has been taken away
                return
            later = _open[_open.index(self) + 1 :]
            _open.remove(self)
            successor = next((each for each in later if each._root == self._root), None)
            if successor is not None:  # if that is undone, too, then back to what was before both
                successor._before, successor._attribute = self._before, self._attribute
            elif self._after.items() <= self._present().items():
                present = self._present()
                sys.modules.update(self._before)  # at once: who imports a part of it needs it there
                for name in present.keys() - self._before.keys():
                    if not _is_under_way(present[name]):
                        sys.modules.pop(name, None)
                self._set_attribute()

    def _present(self) -> dict[str, ModuleType]:
        """Return what has taken the place of the modules, and what has come with it."""
        return {
            name: module
            for name, module in sys.modules.copy().items()
            if is_in(name, self._root)
            and name not in self._kept
            and not any(is_in(name, each) for each in self._foreign)
        }

    def _around(self) -> dict[str, object]:
        """Return the names in the package that holds the root."""
        return {} if self._parent is None else vars(self._parent)

    def _set_attribute(self) -> None:
        if self._attribute is _MISSING:
            self._around().pop(self._child, None)
        else:
            self._around()[self._child] = self._attribute


#: Those of which nobody knows yet whether they stay, the oldest first.
_open: list[Renewal] = []


def load_afresh(
    spec: PluginSpec, others: Collection[PluginSpec]
) -> tuple[LoadedFactory, Renewal | None]:
    """Return the factory of a plugin, its own modules imported anew, and what takes that back.

    None: there is nothing to be taken back. `others` are the other plugins; of their modules none
    is touched. Nor is any C extension: it can be imported only once. Raises what `load` does, with
    everything as it was.
    """
    module = module_of(spec)
    if module is None or module not in sys.modules:
        return load(spec), None
    theirs = modules_of(others)
    own = _settled(module, theirs)
    renewed = {name: each for name, each in own.items() if not is_extension(each)}
    root = own_root(module, theirs)
    _tell_of_extensions(spec, own.keys() - renewed.keys())
    renewal = Renewal(root, renewed, [each for each in theirs if each != module])
    with _others_waiting(renewed):
        try:
            renewal.take_away()
            factory = load(spec)
            renewal.settle()
        except BaseException:
            renewal.undo()
            raise
    return factory, renewal


@contextmanager
def _others_waiting(modules: Collection[str]) -> Iterator[None]:
    """Have other threads that import any of the modules wait until they are there again.

    They would do so by themselves, but in between they could find a module and not its package.
    These locks are Python's own, and have no public name; without them it is as it would be.
    """
    make_lock: Any = getattr(sys.modules["importlib._bootstrap"], "_ModuleLockManager", None)
    with ExitStack() as locks:
        for name in sorted(modules) if make_lock else ():
            locks.enter_context(make_lock(name))
        yield


def _settled(module: str, others: Sequence[str]) -> dict[str, ModuleType]:
    """Return a plugin's own modules, when none is in the middle of being imported by a thread."""
    own = own_modules(module, others)
    while True:
        for name in own:
            with suppress(Exception):  # to import what is being imported is to wait for it
                importlib.import_module(name)
        now = own_modules(module, others)
        if now.keys() <= own.keys():
            return now
        own = now


def _is_under_way(module: ModuleType) -> bool:
    return bool(getattr(getattr(module, "__spec__", None), "_initializing", False))


def _attach(name: str) -> None:
    """Make a module that has stayed an attribute of the package that holds it, a new one."""
    package, _, child = name.rpartition(".")
    parent = sys.modules.get(package)
    if parent is not None and child not in vars(parent):
        setattr(parent, child, sys.modules[name])


def _tell_of_extensions(spec: PluginSpec, names: Collection[str]) -> None:
    if names:
        import logging

        logging.getLogger("plugkeep.loaders").info(
            "plugin %r: not imported anew, for C extensions can be imported only once: %s",
            spec.name, ", ".join(sorted(names)), extra={"plugin": spec.name},
        )  # fmt: skip


class _Loader(FreshLoader):
    """Also gives a package back those of its modules that have stayed, before it is executed."""

    def exec_module(self, module: ModuleType) -> None:
        package = f"{module.__name__}."
        for name in [each for each in sys.modules.copy() if each.startswith(package)]:
            if "." not in name.removeprefix(package):
                _attach(name)
        super().exec_module(module)


class _Finder:
    """Finds the modules that have been renewed, from now on by what their files say.

    It stays, for modules may be imported late, by functions. Whatever it is not about, it passes
    over.
    """

    def __init__(self) -> None:
        self.roots: set[str] = set()

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """See `importlib.abc.MetaPathFinder`."""
        if not any(is_in(name, root) for root in self.roots.copy()):
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else _asked(finder, name, path, target)
            if spec is not None:
                if type(spec.loader) is SourceFileLoader:
                    spec.loader = _Loader(name, spec.loader.path)
                return spec
        return None


def _asked(
    finder: object, name: str, path: Sequence[str] | None, target: ModuleType | None
) -> ModuleSpec | None:
    find = getattr(finder, "find_spec", None)
    found: ModuleSpec | None = find(name, path, target) if find else None
    return found


_finder: Final = _Finder()
