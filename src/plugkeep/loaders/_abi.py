"""``plugkeep.h`` in Python: its structs, read with care, and its numbers."""

from __future__ import annotations

import ctypes
import os
from typing import TYPE_CHECKING

from plugkeep.errors import AbiVersionError, NoPluginError, WrongTypeError
from plugkeep.plugin import FACTORY_SYMBOL

if TYPE_CHECKING:
    from pathlib import Path

MAGIC = 0x504B4550
ABI_VERSION = 1

OK = 0
NO_SUCH_METHOD = -32601


class Response(ctypes.Structure):
    """``plugkeep_response``."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("size", ctypes.c_size_t),
        ("release", ctypes.CFUNCTYPE(None, ctypes.c_void_p)),
    )


class _Head(ctypes.Structure):
    _fields_ = (
        ("magic", ctypes.c_uint32),
        ("abi_version", ctypes.c_uint32),
        ("size", ctypes.c_size_t),
    )


_Step = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)
_Call = ctypes.CFUNCTYPE(
    ctypes.c_int,
    ctypes.c_void_p,
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_size_t,
    ctypes.POINTER(Response),
)


class Functions(ctypes.Structure):
    """``plugkeep_plugin``; a function that is NULL is false."""

    _fields_ = (
        *_Head._fields_,
        ("name", ctypes.c_char_p),
        ("start", _Step),
        ("stop", _Step),
        ("call", _Call),
        ("last_error", ctypes.CFUNCTYPE(ctypes.c_char_p, ctypes.c_void_p)),
        ("destroy", ctypes.CFUNCTYPE(None, ctypes.c_void_p)),
        ("state", ctypes.c_void_p),
    )


def read(address: int | None, path: Path, source: str) -> tuple[str, Functions]:
    """Return the name and a copy of the struct at `address`, which ``PluginFactory`` returned.

    Raises WrongTypeError where there is no such struct, AbiVersionError where there is one of
    another version, NoPluginError where one lacks what is required; that one is destroyed.
    """
    _check_head(address, path, source)
    assert address is not None  # noqa: S101  # _check_head has seen to it
    functions = Functions.from_address(address)
    copy = Functions.from_buffer_copy(functions)
    name, problem = _name(copy)
    problem = problem or next(
        (f"{f} is NULL" for f in ("start", "stop") if not getattr(copy, f)), ""
    )
    if problem:
        if copy.destroy:
            copy.destroy(address)
        raise NoPluginError(f"library {str(path)!r} made no plugin: its {problem}", source=source)
    return name, copy


def _check_head(address: int | None, path: Path, source: str) -> None:
    head = _head(address)
    if isinstance(head, str):
        found = head
    elif head.magic != MAGIC:
        found = f"a struct that begins with {head.magic:#010x}, not with PLUGKEEP_MAGIC"
    elif head.abi_version != ABI_VERSION:
        raise AbiVersionError(
            f"library {str(path)!r} was built for version {head.abi_version} of plugkeep.h, and "
            f"this host knows version {ABI_VERSION}; build it with the header in "
            f"plugkeep.get_include()",
            source=source,
            found=head.abi_version,
            supported=ABI_VERSION,
        )
    elif head.size < ctypes.sizeof(Functions):
        found = (
            f"a struct whose size is {head.size} bytes, and version {ABI_VERSION} has "
            f"{ctypes.sizeof(Functions)}; PLUGKEEP_HEAD gives the right one"
        )
    else:
        return
    raise WrongTypeError(
        f"{FACTORY_SYMBOL} has wrong type: that of {str(path)!r} returned {found}", source=source
    )


def _head(address: int | None) -> _Head | str:
    """Return the head of the struct at `address`, or what is there instead.

    A function of another type returns anything. Reading where no memory is would end the
    process; asking the kernel to read there only fails.
    """
    if not address:
        return "NULL"
    size = ctypes.sizeof(_Head)
    try:
        memory = os.open("/proc/self/mem", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:  # not a Linux with /proc: trust it
        return _Head.from_buffer_copy(ctypes.string_at(address, size))
    try:
        data = os.pread(memory, size, address)
    except (OSError, OverflowError):
        data = b""
    finally:
        os.close(memory)
    return _Head.from_buffer_copy(data) if len(data) == size else f"{address:#x}, no address at all"


def _name(functions: Functions) -> tuple[str, str]:
    """Return the plugin's name, and what is wrong with it, if anything."""
    if functions.name is None:
        return "", "name is NULL"
    try:
        return functions.name.decode(), ""
    except UnicodeDecodeError:
        return "", f"name is {functions.name!r}, not UTF-8"
