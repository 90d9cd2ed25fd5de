"""Asking a plugin how it is; whatever comes of that is an answer."""

from __future__ import annotations

from inspect import iscoroutinefunction
from typing import Any

from plugkeep.channel.exposed import ExposedMethod
from plugkeep.health import reason_of, reason_of_error
from plugkeep.plugin import exposed


def health_of(plugin: Any) -> ExposedMethod | None:
    """Return what asks `plugin`: None where it is well, or why it is not. None: it has no health().

    It runs on the main thread, or where `expose` says.
    """
    if not callable(getattr(plugin, "health", None)):
        return None
    asked: Any = plugin.health
    _, exposure = exposed(plugin).get("health", ("", None))

    def plainly() -> str | None:
        try:
            return reason_of(asked())
        except Exception as error:
            return reason_of_error(error)

    async def asynchronously() -> str | None:
        try:
            return reason_of(await asked())
        except Exception as error:
            return reason_of_error(error)

    function = asynchronously if iscoroutinefunction(asked) else plainly
    return ExposedMethod("health", function, threaded=exposure is not None and exposure.threaded)
