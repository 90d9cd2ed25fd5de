"""What a shared library exports, read from the file.

The system's loader tells an address and no type, and calling data would end the process. It also
maps a truncated library without a word and dies of it, and says "no such file" of one that was
built for another processor. So the file is read first: System V ABI, chapters 4 and 5, 64 bits.
"""

from __future__ import annotations

import os
import struct
import sys
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from plugkeep.errors import NotALibraryError

if TYPE_CHECKING:
    from collections.abc import Iterator

_FILE = struct.Struct("=16sHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("=IIQQQQQQ")
_SECTION = struct.Struct("=IIQQQQIIQQ")
_SYMBOL = struct.Struct("=IBBHQQ")

_IDENT = b"\x7fELF\x02" + (b"\x01" if sys.byteorder == "little" else b"\x02")
_SHARED = 3  # ET_DYN
_LOADED = 1  # PT_LOAD
_EXECUTABLE = 1  # PF_X
_EXPORTS = 11  # SHT_DYNSYM
_GLOBAL, _WEAK, _UNIQUE = 1, 2, 10  # STB_...
_NO_TYPE, _FUNCTION, _CHOSEN_FUNCTION = 0, 2, 10  # STT_NOTYPE, STT_FUNC, STT_GNU_IFUNC

_FILES = {1: "an object file that is not linked yet", 2: "a program", 4: "a core dump"}
_KINDS = {_NO_TYPE: "an untyped symbol", 1: "a data symbol", 6: "a thread-local data symbol"}
_MACHINES = {3: "x86", 8: "MIPS", 21: "PowerPC 64", 22: "S/390", 40: "ARM", 62: "x86-64"} | {
    183: "AArch64",
    243: "RISC-V",
    258: "LoongArch",
}


class Symbol(NamedTuple):
    """One symbol that a library exports."""

    #: What it is, for people.
    kind: str
    #: In bytes; 0 where the library does not say.
    size: int
    is_code: bool


class _Segment(NamedTuple):
    type: int
    flags: int
    offset: int
    address: int
    physical: int
    size_in_file: int
    size: int
    alignment: int


class _Section(NamedTuple):
    name: int
    type: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    alignment: int
    entry_size: int


def exported(path: Path, source: str) -> dict[str, Symbol] | None:
    """Return what the library at `path` exports, or None where it is no 64-bit ELF file.

    Raises NotALibraryError where it is one that is damaged, built for another processor, or
    no library.
    """
    with path.open("rb") as file:
        try:
            return _exported(file)
        except (ValueError, struct.error) as error:
            raise NotALibraryError(
                f"{str(path)!r} cannot be loaded as a library: {error}", source=source
            ) from None


def _exported(file: BinaryIO) -> dict[str, Symbol] | None:
    head = file.read(_FILE.size)
    if not head.startswith(_IDENT) or len(head) < _FILE.size:
        return None
    _, kind, machine, _, _, segments_at, sections_at, _, _, _, segments, _, sections, _ = (
        _FILE.unpack(head)
    )
    _check_machine(machine)
    if kind != _SHARED:
        raise ValueError(f"it is {_FILES.get(kind, f'of type {kind}')}, not a shared library")
    loaded = [_Segment(*row) for row in _rows(file, _SEGMENT, segments_at, segments)]
    _check_whole(file, loaded)
    if not sections_at:  # stripped of what is not needed to run
        return None
    table = [_Section(*row) for row in _rows(file, _SECTION, sections_at, sections)]
    return dict(_symbols(file, table, loaded))


def _check_machine(machine: int) -> None:
    try:
        with Path("/proc/self/exe").open("rb") as program:
            own = _FILE.unpack(program.read(_FILE.size))[2]
    except OSError:
        return  # the system's loader will tell
    if machine != own:
        built_for, this = (_MACHINES.get(m, f"machine {m}") for m in (machine, own))
        raise ValueError(f"it is built for {built_for}, and this is {this}")


def _check_whole(file: BinaryIO, segments: list[_Segment]) -> None:
    end = max((s.offset + s.size_in_file for s in segments if s.type == _LOADED), default=0)
    size = os.fstat(file.fileno()).st_size
    if end > size:
        raise ValueError(f"it is cut off: it should have at least {end} bytes and has {size}")


def _symbols(
    file: BinaryIO, sections: list[_Section], segments: list[_Segment]
) -> Iterator[tuple[str, Symbol]]:
    for section in sections:
        if section.type != _EXPORTS:
            continue
        if section.link >= len(sections):
            raise ValueError("it is damaged: its symbols have no names")
        strings = sections[section.link]
        names = _bytes(file, strings.offset, strings.size)
        rows = _rows(file, _SYMBOL, section.offset, section.size // _SYMBOL.size)
        for name_at, info, _, defined_in, address, size in rows:
            if defined_in and info >> 4 in (_GLOBAL, _WEAK, _UNIQUE):
                name = names[name_at : names.find(b"\0", name_at)].decode(errors="replace")
                is_code = _is_code(info & 15, address, segments)
                yield name, Symbol(_KINDS.get(info & 15, "a symbol"), size, is_code)


def _is_code(kind: int, address: int, segments: list[_Segment]) -> bool:
    """Assembly often leaves the type out; then it is code if it lies where code is."""
    return kind in (_FUNCTION, _CHOSEN_FUNCTION) or (
        kind == _NO_TYPE
        and any(
            s.flags & _EXECUTABLE and s.address <= address < s.address + s.size
            for s in segments
            if s.type == _LOADED
        )
    )


def _rows(file: BinaryIO, row: struct.Struct, offset: int, count: int) -> Iterator[tuple[int, ...]]:
    return row.iter_unpack(_bytes(file, offset, count * row.size))


def _bytes(file: BinaryIO, offset: int, count: int) -> bytes:
    size = os.fstat(file.fileno()).st_size
    if offset + count > size:
        raise ValueError(
            f"it is cut off: it should have at least {offset + count} bytes and has {size}"
        )
    file.seek(offset)
    return file.read(count)
