"""What takes the place of a caller where a plugin cannot be called."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from plugkeep.errors import MethodNotFoundError, NotStartedError

if TYPE_CHECKING:
    from plugkeep.sandbox._life import Life


class Absent:
    """Refuses every call: of a plugin that does not run, or speaks level 0 in this `life`."""

    def __init__(self, plugin: str, life: Life | None = None) -> None:
        self._plugin = plugin
        self._life = life

    def call(self, method: str, *_: Any) -> NoReturn:
        """Raises NotStartedError, or MethodNotFoundError: at level 0 there are no methods."""
        if self._life is None or self._life.pid is None:
            raise NotStartedError(f"plugin {self._plugin!r} is not running", plugin=self._plugin)
        raise MethodNotFoundError(
            f"plugin {self._plugin!r} has no method {method!r}: it speaks level 0 of the wire, "
            "which is ready and stop, without calls",
            plugin=self._plugin,
        )

    acall = stream = astream = map = amap = call
