"""``so:PATH``: a native library of one of two kinds, told apart by what it exports.

A CPython extension module exports ``PyInit_NAME`` and has an attribute ``PluginFactory``. Any
other library exports the function ``PluginFactory`` as ``plugkeep.h`` describes it.
"""

from __future__ import annotations

import ctypes
from functools import partial
from importlib.machinery import ExtensionFileLoader
from typing import TYPE_CHECKING

from plugkeep.errors import NotALibraryError, SymbolNotFoundError, WrongTypeError, did_you_mean
from plugkeep.loaders import native
from plugkeep.loaders._elf import Symbol, exported
from plugkeep.loaders._factory import LoadedFactory
from plugkeep.loaders._files import check_file
from plugkeep.loaders._modules import factory_from, unique_name
from plugkeep.plugin import FACTORY_SYMBOL

if TYPE_CHECKING:
    from pathlib import Path

    from plugkeep.loaders._source import Source

_INIT = "PyInit_"


def load(source: Source) -> LoadedFactory:
    """Return the factory in the native library that `source` names.

    The symbols are read from the file first: a library that has not what it needs is refused
    before any of its code has run.
    """
    path, entry = check(source)
    library = _open(path, source)
    entry = entry or _entry(_probe(library, path), path, source)
    if entry.startswith(_INIT):
        return _load_extension(path, entry.removeprefix(_INIT), source)
    return LoadedFactory(source, partial(native.make, library, path, source.text))


def check(source: Source) -> tuple[Path, str | None]:
    """Return the library's path, and through which symbol it is entered, if the file tells.

    None of its code runs. Raises what can be known so.
    """
    path = source.path(source.rest)
    check_file(path, source.text)
    symbols = exported(path, source.text)
    return path, _entry(symbols, path, source) if symbols is not None else None


def _entry(symbols: dict[str, Symbol], path: Path, source: Source) -> str:
    """Return the symbol through which the library is entered."""
    inits = [name for name in symbols if name.startswith(_INIT)]
    if inits:
        own = _INIT + _stem(path)
        return own if own in inits else inits[0]
    symbol = symbols.get(FACTORY_SYMBOL)
    if symbol is None:
        near = did_you_mean(FACTORY_SYMBOL, symbols)
        mangled = '; C++ has to declare it extern "C", as plugkeep.h does' if "_Z" in near else ""
        raise SymbolNotFoundError(
            f"library {str(path)!r} exports no {FACTORY_SYMBOL}{near}{mangled}", source=source.text
        )
    if not symbol.is_code:
        raise WrongTypeError(
            f"{FACTORY_SYMBOL} has wrong type: {str(path)!r} exports it as {symbol.kind} of "
            f"{symbol.size} bytes, not as a function",
            source=source.text,
        )
    return FACTORY_SYMBOL


def _open(path: Path, source: Source) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        words = str(error).removeprefix(f"{path}: ")
        raise NotALibraryError(
            f"{str(path)!r} cannot be loaded as a library: {words}", source=source.text
        ) from error


def _probe(library: ctypes.CDLL, path: Path) -> dict[str, Symbol]:
    """Ask the system's loader, which knows no types, where the file cannot be read as ELF."""
    names = (_INIT + _stem(path), FACTORY_SYMBOL)
    return {name: Symbol("a symbol", 0, True) for name in names if hasattr(library, name)}


def _stem(path: Path) -> str:
    return path.name.split(".")[0]  # clock, of clock.cpython-311-x86_64-linux-gnu.so


def _load_extension(path: Path, module_name: str, source: Source) -> LoadedFactory:
    # The interpreter calls PyInit_ and what follows the last dot of the module's name.
    loader = ExtensionFileLoader(f"{unique_name(path)}.{module_name}", str(path))
    return factory_from(loader, path, FACTORY_SYMBOL, f"extension module {str(path)!r}", source)
