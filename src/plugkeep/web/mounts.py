"""From the registry into the table: the web applications that plugins offer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from plugkeep.errors import AsyncPluginError
from plugkeep.events import Event, Stopped, Unregistered
from plugkeep.lifecycle import UP
from plugkeep.routing.mount import Mount
from plugkeep.sandbox.web import RemoteApplication
from plugkeep.web.application import Offered, offered_by

if TYPE_CHECKING:
    from plugkeep.registry import Registry
    from plugkeep.routing import RouteTable


def mount_applications(registry: Registry, table: RouteTable) -> Callable[[], None]:
    """Keep the applications in `table` up to date with `registry`; what is returned ends that.

    A plugin's application joins when the plugin starts, and leaves when that is unregistered;
    between a stop and a start it stays, to answer 503. Where its mount is another's already, or it
    is no application, the plugin's start fails, and the plugin is stopped again. So it does where
    the plugin is to run an ASGI application in this process, and is started by a plain form:
    there is no event loop for the application's lifespan, then.

    Raises InvalidApplicationError and RouteConflictError where one runs of which that is so.
    """
    mounts = _Mounts(registry, table)
    for name in registry:
        if registry.state(name) in UP:
            mounts.check(name, registry[name])
    undo = registry.admit(mounts.check), registry.attend(mounts), registry.subscribe(mounts.forget)

    def unfollow() -> None:
        for each in undo:
            each()

    return unfollow


class _Mounts:
    """Brings into a table what plugins offer, and runs the lifespans of what runs here."""

    def __init__(self, registry: Registry, table: RouteTable) -> None:
        self._registry = registry
        self._table = table
        #: What runs in this process, from a plugin's start to its stop: by the plugin, of which
        #: there may be two with one name, while one takes the other's place.
        self._running: dict[int, Offered] = {}

    async def started(self, name: str, plugin: object) -> None:
        """See `Attendant`. Raises InvalidApplicationError and LifespanError."""
        offered = _offered_here(name, plugin)
        if offered is not None:
            await offered.startup()
            self._running[id(plugin)] = offered

    async def stopping(self, _name: str, plugin: object) -> None:
        """See `Attendant`. Raises LifespanError."""
        offered = self._running.pop(id(plugin), None)
        if offered is not None:
            await offered.shutdown()

    def check(self, name: str, plugin: object) -> None:
        """Have the application of a plugin join, if it has one."""
        try:
            mount = self._mount(name, plugin)
            if mount is None:
                self._table.unmount(name)
            else:
                self._table.mount(mount)
        except Exception:
            self._table.unmount(name)  # what it had may be that of another instance
            raise

    def _mount(self, name: str, plugin: object) -> Mount | None:
        application: Any = getattr(plugin, "application", None)
        if isinstance(application, RemoteApplication):
            return Mount(name, application.mount, application)
        offered = self._running.get(id(plugin)) or _offered_here(name, plugin)
        if offered is None:
            return None
        if offered.needs_loop and id(plugin) not in self._running:
            raise AsyncPluginError(
                f"plugin {name!r} has an ASGI application, which needs an event loop; start it by "
                'astart_all(), astart() or "async with", or give it a process of its own: '
                'isolation = "process"',
                plugin=name,
            )
        self._running[id(plugin)] = offered
        return Mount(name, offered.mount, offered.serve)

    def forget(self, event: Event) -> None:
        """Have the application of a plugin leave that is no more."""
        if isinstance(event, Unregistered):
            if event.plugin not in self._registry:  # else another takes its place
                self._table.unmount(event.plugin)
        elif isinstance(event, Stopped):
            for key, offered in list(self._running.items()):
                if offered.plugin == event.plugin:
                    del self._running[key]
                    offered.abandon()  # it was stopped by a plain form


def _offered_here(name: str, plugin: object) -> Offered | None:
    """Return what a plugin offers that is to run in this process."""
    if isinstance(getattr(plugin, "application", None), RemoteApplication):
        return None
    return offered_by(name, plugin)
