"""What takes the place of a caller where a plugin cannot be called."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from plugkeep.errors import MethodNotFoundError

if TYPE_CHECKING:
    from plugkeep.channel.prospects import Prospects
    from plugkeep.sandbox._life import Life


class Absent:
    """Refuses every call: of a plugin that does not run, or speaks level 0 in this `life`."""

    def __init__(self, plugin: str, prospects: Prospects, life: Life | None = None) -> None:
        self._plugin = plugin
        self._prospects = prospects
        self._life = life

    @property
    def is_silent(self) -> bool:
        """Whether it runs, and has no methods."""
        return self._life is not None and self._life.pid is not None

    def call(self, method: str, *_: Any) -> NoReturn:
        """Raises NotStartedError, or MethodNotFoundError: at level 0 there are no methods."""
        if not self.is_silent:
            raise self._prospects.refusal()
        raise MethodNotFoundError(
            f"plugin {self._plugin!r} has no method {method!r}: it speaks level 0 of the wire, "
            "which is ready and stop, without calls",
            plugin=self._plugin,
        )

    acall = stream = astream = map = amap = call
