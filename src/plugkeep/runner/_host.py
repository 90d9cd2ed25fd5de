"""Calling, from a plugin in a process of its own, what its host has granted it."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn

from plugkeep.channel.access import HostAccess
from plugkeep.channel.calling import PLAIN, Caller, Options
from plugkeep.errors import CallError, PluginError
from plugkeep.wire.messages import HOST, ErrorObject

if TYPE_CHECKING:
    from plugkeep.channel.channel import Channel


def host_access(channel: Channel, granted: tuple[str, ...]) -> HostAccess:
    """Return the way to the host at the other end of `channel`, which has `granted` so much."""
    return HostAccess(lambda prefix: _Granting(channel, prefix, granted), lambda: granted, _fail)


def _fail(error: BaseException) -> NoReturn:
    """End this process; what has been printed is not lost."""
    import traceback

    traceback.print_exception(error)
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit(1)


class _Granting(Caller):
    """Calls what the host has granted, under the names that it has on the wire."""

    def __init__(self, channel: Channel, prefix: str, granted: tuple[str, ...]) -> None:
        super().__init__(channel, "host", lambda: granted)
        self._prefix = HOST + prefix

    def call(self, method: str, args: Any, kwargs: Any, options: Options = PLAIN) -> Any:
        name = f"{self._prefix}{method}".removesuffix(".")  # "": the capability itself
        return super().call(name, args, kwargs, options)

    def acall(self, method: str, args: Any, kwargs: Any, options: Options = PLAIN) -> Any:
        return super().acall(self._prefix + method, args, kwargs, options)

    def stream(self, method: str, args: Any, kwargs: Any, options: Options = PLAIN) -> Any:
        return super().stream(self._prefix + method, args, kwargs, options)

    def astream(self, method: str, args: Any, kwargs: Any, options: Options = PLAIN) -> Any:
        return super().astream(self._prefix + method, args, kwargs, options)

    def map(self, method: str, iterables: Any, options: Options = PLAIN) -> Any:
        return super().map(self._prefix + method, iterables, options)

    def amap(self, method: str, iterables: Any, options: Options = PLAIN) -> Any:
        return super().amap(self._prefix + method, iterables, options)

    def named(self, error: CallError) -> CallError:
        """See `Caller.named`. What is called says whom it is about."""
        return error

    def error_of(self, error: ErrorObject, method: str, options: Options) -> PluginError:
        """See `Caller.error_of`. It is about the host, and in the host's own words."""
        raised = super().error_of(error, method, options)
        raised.plugin = None
        raised.message = f"{method!r}: {error.message}"
        raised.args = (raised.message,)
        return raised
