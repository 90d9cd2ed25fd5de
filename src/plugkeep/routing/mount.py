"""One whole application in the table, under a prefix that is its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from plugkeep.errors import InvalidApplicationError


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class Mount:
    """An ASGI application, and the plugin whose it is; `path` is ``/shop``, or empty for all."""

    plugin: str | None
    path: str
    application: Callable[..., Any]


def check_mount(plugin: str, mount: object) -> str:
    """Return where the application of `plugin` is mounted: without a slash at the end.

    By default under its name. Raises InvalidApplicationError.
    """
    if mount is None:
        return f"/{plugin}"
    if isinstance(mount, str) and mount.startswith("/") and not _odd(mount):
        return mount.rstrip("/")
    raise InvalidApplicationError(
        f"mount of plugin {plugin!r} is {mount!r:.200}; it takes a path such as '/{plugin}', "
        "without parameters, or '/' for all that no route answers",
        plugin=plugin,
    )


def _odd(mount: str) -> bool:
    parts = mount.strip("/").split("/")
    return (
        "" in parts[1:]
        or not {".", "..", ""}.isdisjoint(parts[1:])
        or any(character in mount for character in "{}?#\\\0\r\n")
    )
