"""A plugin that nobody calls. A zygote loads it once, so that forks find done what that takes.

What Python does for the first time takes memory and time, in each fork anew: regular expressions
are compiled, code is made ready to run, types are looked up.
"""

from __future__ import annotations

from collections.abc import Iterator

from plugkeep.plugin import expose


class PluginFactory:
    """Has a little of what plugins have."""

    name = "rehearsal"
    version = "1"

    def __init__(self) -> None:
        self.values: dict[str, int] = {}

    def start(self) -> None:
        """See `Plugin`."""

    def stop(self) -> None:
        """See `Plugin`."""

    @expose
    def get(self, key: str, default: int | None = None, *, again: bool = False) -> int | None:
        """Return a value."""
        return self.values.get(key, default) if not again else None

    @expose(threaded=True)
    def each(self, *keys: str) -> Iterator[int]:
        """Yield values."""
        yield from map(self.values.__getitem__, keys)

    @expose
    async def later(self, value: list[dict[str, float]]) -> None:
        """Take a value."""


def rehearse() -> None:
    """Load that plugin, in the way of all others, and leave nothing of it but what is at hand."""
    import sys

    from msgspec import json

    from plugkeep.loaders import load
    from plugkeep.runner._methods import Methods
    from plugkeep.wire.connection import Connection
    from plugkeep.wire.frames import Frames

    modules = set(sys.modules)
    plugin = load(f"file:{__file__}")()
    connection = Connection(Frames())
    json.encode({"ready": True, "methods": Methods(plugin).announced})
    number, (frame, _) = connection.request("get", ["a"], {"again": True}, None)
    connection.receive(bytes(frame))
    connection.give_up(number)
    for name in sys.modules.keys() - modules:
        if name.startswith("plugkeep_"):
            del sys.modules[name]
