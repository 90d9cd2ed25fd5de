"""From the registry into the table: the web applications that plugins offer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from plugkeep.events import Event, Unregistered
from plugkeep.lifecycle import UP
from plugkeep.routing.mount import Mount
from plugkeep.sandbox.web import RemoteApplication
from plugkeep.web.application import offered_by

if TYPE_CHECKING:
    from plugkeep.registry import Registry
    from plugkeep.routing import RouteTable


def mount_applications(registry: Registry, table: RouteTable) -> Callable[[], None]:
    """Keep the applications in `table` up to date with `registry`; what is returned ends that.

    A plugin's application joins when the plugin starts, and leaves when that is unregistered.
    Where its mount is another's already, or it is no application, the plugin's start fails, and
    the plugin is stopped again.

    Raises InvalidApplicationError and RouteConflictError where that is so of one that runs.
    """
    mounts = _Mounts(registry, table)
    for name in registry:
        if registry.state(name) in UP:
            mounts.check(name, registry[name])
    undo = (registry.admit(mounts.check), registry.subscribe(mounts.forget))

    def unfollow() -> None:
        for each in undo:
            each()

    return unfollow


class _Mounts:
    def __init__(self, registry: Registry, table: RouteTable) -> None:
        self._registry = registry
        self._table = table

    def check(self, name: str, plugin: object) -> None:
        """Have the application of a plugin join, if it has one."""
        application: Any = getattr(plugin, "application", None)
        try:
            if application is None:
                self._table.unmount(name)
            elif isinstance(application, RemoteApplication):
                self._table.mount(Mount(name, application.mount, application))
            else:
                offered = offered_by(name, plugin)
                assert offered is not None  # noqa: S101  # there is one
                self._table.mount(Mount(name, offered.mount, offered.application))
        except Exception:
            self._table.unmount(name)  # what it had may be that of another instance
            raise

    def forget(self, event: Event) -> None:
        """Have the application of a plugin leave that is no more."""
        if isinstance(event, Unregistered):
            self._table.unmount(event.plugin)
