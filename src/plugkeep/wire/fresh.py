"""New bytes that are filled in place, so that what comes as bytes is never copied to become bytes.

Only imported where there is something large, for ctypes takes its time.
"""

from __future__ import annotations

import ctypes
import mmap
from ctypes import PYFUNCTYPE, c_int, c_size_t, c_ssize_t, c_void_p, py_object, pythonapi
from typing import Final

#: From this size on malloc asks the system for memory each time, instead of giving what it has.
LARGE: Final = 32 * 1024 * 1024

# The one thing that Python's C interface lets be changed in bytes is what nobody else has seen.
_new = PYFUNCTYPE(py_object, c_void_p, c_ssize_t)(("PyBytes_FromStringAndSize", pythonapi))
_address = PYFUNCTYPE(c_void_p, py_object)(("PyBytes_AsString", pythonapi))
_view = PYFUNCTYPE(py_object, c_void_p, c_ssize_t, c_int)(("PyMemoryView_FromMemory", pythonapi))
_WRITABLE = 0x200  # PyBUF_WRITE

_libc = ctypes.CDLL(None)
_libc.madvise.argtypes = (c_void_p, c_size_t, c_int)


def fresh(size: int) -> tuple[bytes, memoryview]:
    """Return new bytes, holding anything, and a view to fill them by.

    The view must be released before anyone else sees the bytes. Raises MemoryError.
    """
    content: bytes = _new(None, size)
    address: int = _address(content)
    if size >= LARGE:
        _use_large_pages(address, size)
    return content, _view(address, size, _WRITABLE)


def copied(view: memoryview) -> bytes:
    """Return a copy of `view`, which lies in one piece."""
    if view.nbytes < LARGE:
        return bytes(view)
    content, target = fresh(view.nbytes)
    with target:
        target[:] = view
    return content


def _use_large_pages(address: int, size: int) -> None:
    """Let the system give 2 MiB at a time, where it does: 4 KiB each cost more than the copy."""
    start = -(-address // mmap.PAGESIZE) * mmap.PAGESIZE
    _libc.madvise(start, address + size - start, mmap.MADV_HUGEPAGE)
