"""Compiled files that Python would take for those of another text."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import cache_from_source
from typing import TYPE_CHECKING, Final

from plugkeep.loaders.places import places_of

if TYPE_CHECKING:
    from plugkeep.spec import PluginSpec

#: Nanoseconds after a change in which the text may have been compiled as it was before.
_DOUBT: Final = 2 * 10**9


def forget_doubtful(spec: PluginSpec) -> None:
    """Remove what has been compiled of a plugin's own code at about the time when that changed.

    Python goes by whole seconds and by size: it would bring back the old code after a quick edit.
    It is for what is imported in another process, or has not been in this one; what is imported
    anew here is compiled anew as well.
    """
    for place in places_of(spec):
        for source in _sources(place.path) if place.is_folder else (place.path,):
            with suppress(OSError, NotImplementedError):  # there is none, or it is not ours
                compiled = cache_from_source(source)
                if os.stat(compiled).st_mtime_ns < os.stat(source).st_mtime_ns + _DOUBT:  # noqa: PTH116
                    os.unlink(compiled)  # noqa: PTH108


def _sources(folder: str) -> Iterator[str]:
    for path, _, names in os.walk(folder):
        yield from (os.path.join(path, name) for name in names if name.endswith(".py"))  # noqa: PTH118
