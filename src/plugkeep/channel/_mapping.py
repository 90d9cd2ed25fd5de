"""Memory files as memory."""

from __future__ import annotations

import ctypes
import mmap
import os

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (
    *(ctypes.c_void_p, ctypes.c_size_t),
    *(ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long),
)
_MAP_FIXED = 0x10  # the same on every kind of machine that Linux runs on, but for two old ones


def mapped(descriptor: int, size: int) -> memoryview:
    """Return the file's content, which stays mapped for as long as anyone has a view of it.

    Raises MemoryError.
    """
    # `mmap.mmap` would keep a descriptor for each mapping: so it gets a mapping of nothing, and
    # the file is put in its place.
    try:
        mapping = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise MemoryError(str(error)) from error
    place = ctypes.addressof(ctypes.c_char.from_buffer(mapping))
    flags = mmap.MAP_SHARED | _MAP_FIXED
    if _libc.mmap(place, size, mmap.PROT_READ, flags, descriptor, 0) != place:
        raise MemoryError(os.strerror(ctypes.get_errno()))
    return memoryview(mapping).toreadonly()
