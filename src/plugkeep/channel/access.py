"""The way from a plugin to what its host has granted it: ``self.host.library.read(x)``.

The same where the plugin runs in a process of its own and where it runs in the host's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from plugkeep.channel.calling import PLAIN
from plugkeep.channel.calls import Calls
from plugkeep.errors import did_you_mean

if TYPE_CHECKING:
    from plugkeep.channel.calling import Caller

#: Makes what calls the methods whose names begin with a prefix, "" or the name of a capability
#: and a dot. Called with "" it calls the capability itself.
MakeCaller = Callable[[str], "Caller"]
#: Gives the names of what is granted.
Names = Callable[[], Collection[str]]


class _Access(Calls):
    """Something of the host's that can be called."""

    def __init__(self, make: MakeCaller, prefix: str) -> None:
        self._make = make
        self._prefix = prefix
        self._caller = make(prefix)
        self._call = self._caller.call
        self._options = PLAIN

    @property
    def methods(self) -> None:
        """Not known: a host tells the names that it has granted, and no more."""


class HostAccess(_Access):
    """The host, as far as it has granted anything.

    ``call("library.read", x)`` and the other ways to call, as sandboxes have them, are here, too.
    """

    def __init__(
        self, make: MakeCaller, names: Names, fail: Callable[[BaseException], object]
    ) -> None:
        super().__init__(make, "")
        self._names = names
        self._fail = fail

    def report_failure(self, error: BaseException) -> None:
        """Say that the plugin cannot go on, for the reason given; may be called on any thread.

        It has failed, then, and its host does what it does about that. In a process of its own
        this does not return: the process ends, with the traceback on stderr and status 1.
        """
        self._fail(error)

    def __getattr__(self, name: str) -> Capability:
        if name.startswith("_"):
            raise AttributeError(name)
        return self.capability(name)

    def capability(self, name: str) -> Capability:
        """Return what is granted as `name`; calling it says whether it is."""
        return Capability(self._make, f"{name}.")

    def __iter__(self) -> Iterator[str]:
        """Return the names of what has been granted."""
        return iter(self._names())

    def __contains__(self, name: object) -> bool:
        return name in self._names()

    def __repr__(self) -> str:
        return f"<host that grants {', '.join(self) or 'nothing'}>"


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
        return f"<host.{self._prefix.removesuffix('.')}>"


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
