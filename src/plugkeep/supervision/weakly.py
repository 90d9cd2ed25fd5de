"""Calling methods of objects that may be gone by then."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any


def weakly(method: Callable[..., object]) -> Callable[..., None]:
    """Return what calls a method as long as its object is there, and does not keep it there."""
    weak = weakref.WeakMethod(method)

    def call(*args: Any) -> None:
        if (found := weak()) is not None:
            found(*args)

    return call
