"""The plugin that the benchmarks call."""

from __future__ import annotations

import plugkeep


class PluginFactory:
    name = "bench"

    def start(self) -> None: ...
    def stop(self) -> None: ...

    @plugkeep.expose
    def echo(self, text: str) -> str:
        return text

    @plugkeep.expose
    def echo_bytes(self, data: bytes) -> bytes:
        return data

    @plugkeep.expose
    def echo_view(self, data: memoryview) -> memoryview:
        return data

    @plugkeep.expose
    def ends(self, data: memoryview) -> int:
        """Take large data, and look at both of its ends."""
        return data[0] + data[-1]
