"""From the text that says where a plugin comes from to a factory that makes it.

Each kind of source has a module here, named like it, with a function `load`. It is imported when
a source of its kind is loaded.
"""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from plugkeep.errors import LoadError
from plugkeep.loaders._source import Source
from plugkeep.spec import PluginSpec

if TYPE_CHECKING:
    from collections.abc import Callable

    from plugkeep.loaders._factory import LoadedFactory


def load(
    source: str | os.PathLike[str] | PluginSpec, *, base: str | os.PathLike[str] | None = None
) -> LoadedFactory:
    """Return the factory of the plugin that `source` names.

    | source                        | loads                                                     |
    |-------------------------------|-----------------------------------------------------------|
    | ``python:MODULE[:ATTRIBUTE]`` | a module that can be imported                             |
    | ``file:PATH[:ATTRIBUTE]``     | a Python file, executed afresh each time                  |
    | ``entry-point:GROUP/NAME``    | an entry point of an installed distribution               |
    | ``so:PATH``                   | a native library or a CPython extension module            |
    | ``exec:PROGRAM [ARGUMENTS]``  | a program, quoted as in a shell; its factory makes an     |
    |                               | `ExecSandbox`                                             |
    | a path                        | one of these, by suffix; another suffix, or none: a       |
    |                               | program, where the file is executable                     |

    ATTRIBUTE is ``PluginFactory`` unless given and may have dots. Relative paths start from
    `base`, the current folder by default; ``~`` is the home folder. With a `PluginSpec` its own
    `base` counts, and its name and time limits become those of a sandbox. Whatever its
    `isolation`, the plugin is loaded into this process.

    All that can go wrong before a plugin is made is raised here, and nothing is made yet:
    InvalidSourceError, SourceNotFoundError, UnusableSourceError, ImportFailedError,
    SymbolNotFoundError, WrongTypeError, NotALibraryError. Calling the factory raises
    FactoryFailedError and NoPluginError, and, where the library is a native one, WrongTypeError
    and AbiVersionError.
    """
    try:
        parsed = Source.parse(source, base)
        module = import_module(f"plugkeep.loaders.{parsed.kind.replace('-', '_')}")
        load_kind: Callable[[Source], LoadedFactory] = module.load
        return load_kind(parsed)
    except LoadError as error:
        if isinstance(source, PluginSpec):
            error.plugin = error.plugin or source.name
        raise


def kind_of(
    source: str | os.PathLike[str] | PluginSpec, *, base: str | os.PathLike[str] | None = None
) -> str:
    """Return which kind of source `source` is, such as ``"python"`` or ``"exec"``; load nothing.

    Raises InvalidSourceError for what is of no kind, and where a bare path leads to nothing.
    """
    return Source.parse(source, base).kind


def load_so(path: str | os.PathLike[str]) -> LoadedFactory:
    """Return the factory in the native library at `path`, whatever its suffix.

    It is either a CPython extension module with an attribute ``PluginFactory``, or a plain
    shared library that follows ``plugkeep.h``. Raises what `load` does.
    """
    from plugkeep.loaders import so

    return so.load(Source.of_path("so", path))


def get_include() -> str:
    """Return the folder that holds ``plugkeep.h``, to be given to a C compiler with ``-I``."""
    return str(Path(__file__).parent.parent / "include")
