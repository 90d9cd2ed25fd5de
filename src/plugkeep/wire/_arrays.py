"""NumPy arrays on the wire: the items as a buffer, in C order, and what they are as text."""

from __future__ import annotations

import re
import sys
from typing import Any, NamedTuple

#: Types of items that a text describes fully and that hold no Python objects.
_DTYPE = re.compile(r"[<>|][biufcmMSUV]\d{1,9}(\[\w{1,20}\])?")


class Flat(NamedTuple):
    """An array as it travels."""

    items: memoryview
    dtype: str
    shape: list[int]


def flat(value: Any) -> Flat | None:
    """Return `value` as it travels if it is an array, else None.

    It is copied only where it is not in C order. Raises ValueError for one that cannot travel.
    """
    numpy = sys.modules.get("numpy")
    if numpy is None or not isinstance(value, numpy.ndarray):
        return None
    dtype = value.dtype
    if isinstance(value, numpy.ma.MaskedArray):
        raise ValueError("is a masked array, and the mask would be lost; send both by themselves")  # noqa: TRY004
    if dtype.hasobject or not _DTYPE.fullmatch(dtype.str) or numpy.dtype(dtype.str) != dtype:
        raise ValueError(f"is an array of dtype {dtype}, which the wire has no name for")
    items = numpy.ascontiguousarray(value).reshape(-1)
    # Some types, such as dates, export no buffer themselves.
    view = memoryview(items.view(numpy.uint8)) if items.nbytes else memoryview(b"")
    return Flat(view, dtype.str, list(value.shape))


def plain_scalar(value: Any) -> Any:
    """Return a NumPy scalar as Python's own, and anything else as it is.

    Raises ValueError for one that Python has no number for.
    """
    numpy = sys.modules.get("numpy")
    if numpy is None or not isinstance(value, numpy.generic):
        return value
    if value.dtype.kind not in "biufSU" or type(item := value.item()) is type(value):
        raise ValueError(f"is a NumPy scalar of type {value.dtype}; use an array, or a Python type")
    return item


def array(reference: dict[Any, Any], buffer: Any) -> Any:
    """Return the array that `reference` describes, over `buffer` itself.

    A memoryview of the bytes where NumPy is not installed. Raises ValueError where it does not fit.
    """
    dtype, shape = reference.get("dtype"), reference.get("shape")
    if type(dtype) is not str or not _DTYPE.fullmatch(dtype):
        raise ValueError(f"an array of dtype {dtype!r:.80} cannot be received")
    if type(shape) is not list or not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError(f"an array cannot have the shape {shape!r:.80}")
    try:
        import numpy as np
    except ImportError:
        return memoryview(buffer)
    try:
        return np.frombuffer(buffer, dtype=np.dtype(dtype)).reshape(shape)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"an array of dtype {dtype!r}, shape {shape!r:.80}: {error}") from None
