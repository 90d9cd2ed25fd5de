"""What is logged where a plugin fails to answer a request."""

from __future__ import annotations

import logging

from starlette.requests import ClientDisconnect
from starlette.websockets import WebSocketDisconnect

from plugkeep.errors import PluginError, RemoteError

log = logging.getLogger("plugkeep.web")

#: How applications learn that the client has gone, here,
_DEPARTURES = (ClientDisconnect, WebSocketDisconnect)
#: and in processes of their own, where we know of an exception only its name.
_NAMES = tuple(f"{each.__module__}.{each.__qualname__}" for each in _DEPARTURES)


def _is_departure(error: BaseException) -> bool:
    """Say whether an application has only let through that its client has gone."""
    if isinstance(error, RemoteError):
        return error.type in _NAMES
    return isinstance(error, _DEPARTURES)


def tell(what: str, plugin: str | None, error: BaseException) -> bool:
    """Log a failure, with the traceback of the plugin's own code where there is such a thing.

    Return True where it is none, for the client has gone: there is nobody to be answered.
    """
    if _is_departure(error):
        log.debug("%s of plugin %r: the client has gone", what, plugin)
        return True
    if isinstance(error, RemoteError):
        log.error("%s of plugin %r failed\n%s", what, plugin, error.traceback.rstrip() or error)
    elif isinstance(error, PluginError):
        log.error("%s of plugin %r failed: %s", what, plugin, error)
    else:
        log.error("%s of plugin %r failed", what, plugin, exc_info=error)
    return False
