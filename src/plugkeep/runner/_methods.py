"""Which methods of a plugin there are to be called."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from inspect import getattr_static
from typing import Any, Final

from plugkeep.channel.exposed import ExposedMethod, methods_of
from plugkeep.channel.failures import failure_of
from plugkeep.plugin import exposed
from plugkeep.wire.messages import RESERVED


class Methods(dict[str, ExposedMethod]):
    """The methods of a plugin that callers may reach, by the names that callers use."""

    def __init__(self, plugin: object) -> None:
        super().__init__(methods_of(plugin))
        self._plugin = plugin
        self._native_call = _native_call(plugin)

    @property
    def announced(self) -> list[dict[str, Any]] | None:
        """What the host is told of them; None: they are not known, any name may be tried."""
        if self._native_call is not None:
            return None
        return [method.announcement() for method in self.values()]

    @property
    def need_loop(self) -> bool:
        """Whether any of them is asynchronous."""
        return any(method.place == "loop" for method in self.values())

    def find(self, name: str) -> ExposedMethod | None:
        """Return the method of that name; None: there is none."""
        if self._native_call is None:
            return self.get(name)
        method = ExposedMethod(name, partial(self._native_call, name))
        method.failure = failure_of  # it says itself that there is no such method
        return method

    def hint(self, name: str) -> str:
        """Return why a method that the plugin has is none for callers; "" if it has no such.

        Nothing of the plugin runs: properties are not asked.
        """
        if name in _LIFE or name.startswith(("_", RESERVED)):
            return ""
        for called, (attribute, _) in exposed(self._plugin).items():
            if attribute == name:
                return f"callers call it {called!r}"
        found = getattr_static(self._plugin, name, None)
        function = found.__func__ if isinstance(found, (staticmethod, classmethod)) else found
        if callable(function) and not isinstance(function, type):
            return "the plugin has one, but does not mark it with @expose"
        return "" if self else "the plugin marks none with @expose"


#: Methods that are the host's to call, when it is time.
_LIFE: Final = ("start", "stop")


def _native_call(plugin: object) -> Callable[..., Any] | None:
    native = sys.modules.get("plugkeep.loaders.native")
    if native is not None and isinstance(plugin, native.NativePlugin):
        return plugin.call  # type: ignore[no-any-return]
    return None
