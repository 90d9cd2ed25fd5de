"""The plugin's way to its host: what has been granted to it, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from plugkeep.channel.calling import PLAIN, Caller, Options
from plugkeep.channel.calls import Calls
from plugkeep.errors import PluginError, did_you_mean
from plugkeep.wire.messages import HOST, ErrorObject

if TYPE_CHECKING:
    from plugkeep.channel.channel import Channel


class _Granting(Caller):
    """Calls what the host has granted, under the names that it has on the wire."""

    def __init__(self, channel: Channel, prefix: str, granted: tuple[str, ...]) -> None:
        super().__init__(channel, "host", lambda: granted)
        self._prefix = prefix

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

    def error_of(self, error: ErrorObject, method: str, options: Options) -> PluginError:
        """See `Caller.error_of`. It is about the host, and in the host's own words."""
        raised = super().error_of(error, method, options)
        raised.plugin = None
        raised.message = f"{method!r}: {error.message}"
        raised.args = (raised.message,)
        return raised


class _Access(Calls):
    """Something of the host's that can be called."""

    def __init__(self, channel: Channel, prefix: str, granted: tuple[str, ...]) -> None:
        self._prefix = prefix
        self._granted = granted
        self._channel = channel
        self._caller = _Granting(channel, prefix, granted)
        self._call = self._caller.call
        self._options = PLAIN

    @property
    def methods(self) -> None:
        """Not known: a host tells the names that it has granted, and no more."""


class HostAccess(_Access):
    """The host, as far as it has granted anything: ``self.host.library.read(x)``.

    ``call("library.read", x)`` and the other ways to call, as sandboxes have them, are here, too.
    """

    def __init__(self, channel: Channel, granted: tuple[str, ...]) -> None:
        super().__init__(channel, HOST, granted)

    def __getattr__(self, name: str) -> Capability:
        if name.startswith("_"):
            raise AttributeError(name)
        return self.capability(name)

    def capability(self, name: str) -> Capability:
        """Return what is granted as `name`; calling it says whether it is."""
        return Capability(self._channel, f"{HOST}{name}.", self._granted)

    def __iter__(self) -> Iterator[str]:
        """Return the names of what has been granted."""
        return iter(self._granted)

    def __contains__(self, name: object) -> bool:
        return name in self._granted

    def __repr__(self) -> str:
        return f"<host that grants {', '.join(self._granted) or 'nothing'}>"


class Capability(_Access):
    """Something that the host has granted: to be called, or with methods to be called."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it, where it is a function."""
        return self._caller.call("", args, kwargs)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)
        return partial(self.call, name)

    def __repr__(self) -> str:
        return f"<{self._prefix.removesuffix('.')}>"


class Granted(Mapping[str, Capability]):
    """What a plugin requires, by name."""

    def __init__(self, plugin: str, host: HostAccess) -> None:
        self._plugin = plugin
        self._host = host

    def __getitem__(self, name: str) -> Capability:
        if name in self._host:
            return self._host.capability(name)
        raise KeyError(
            f"plugin {self._plugin!r} has not been granted {name!r}"
            f"{did_you_mean(name, self._host)}; add it to its requires to reach it"
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self._host)

    def __len__(self) -> int:
        return len(tuple(self._host))
