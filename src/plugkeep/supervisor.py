"""Sees that a plugin's process has ended by itself, and brings the plugin back where it is to be.

It is told by the thread that watches all processes, and does the rest on threads of its own.
"""

from __future__ import annotations

import logging
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from plugkeep.channel.workers import run
from plugkeep.errors import PluginError, PluginNotFoundError, ProcessExitedError
from plugkeep.events import Event, Started
from plugkeep.restart import INTENSITY, PERIOD, again
from plugkeep.sandbox import Sandbox

if TYPE_CHECKING:
    from plugkeep.registry import Registry
    from plugkeep.spec import Restart

log = logging.getLogger("plugkeep.supervisor")


class Supervisor:
    """Looks after the sandboxes in a registry; `policy` says what becomes of which plugin."""

    def __init__(self, registry: Registry, policy: Callable[[str], Restart]) -> None:
        self._registry = registry
        self._policy = policy
        #: When each plugin was started again, as far as that still counts.
        self._restarts: dict[str, deque[float]] = {}

    def look_after(self, event: Event) -> None:
        """Watch a plugin that has started; for `Registry.subscribe`."""
        name = event.plugin
        plugin = self._registry.get(name) if isinstance(event, Started) else None
        if isinstance(plugin, Sandbox):
            # Weak: the thread that tells it must not keep the whole host alive.
            ended = weakref.WeakMethod(self._ended)
            sandbox = weakref.ref(plugin)

            def tell() -> None:
                run(_tell, ended, name, sandbox)

            plugin.when_ended(tell)

    def _ended(self, name: str, sandbox: Sandbox) -> None:
        """Deal with the end of a process."""
        error = sandbox.explain_end()
        if error is None:
            return  # it has been stopped meanwhile
        earlier = self._restarts.setdefault(name, deque(maxlen=INTENSITY))
        policy, now = self._policy(name), time.monotonic()
        clean = isinstance(error, ProcessExitedError) and error.returncode == 0
        is_wanted = again(policy, clean=clean, earlier=earlier, now=now)
        with sandbox.burial:
            if not self._registry.report_failure(name, error, plugin=sandbox, restarting=is_wanted):
                return  # somebody stops it just now, or has put another in its place
            sandbox.bury()
        if is_wanted:
            earlier.append(now)
            self._start_again(name)
        elif again(policy, clean=clean, earlier=(), now=now):
            log.error(
                "plugin %r has ended %d times within %g s and is not started again",
                name, INTENSITY + 1, PERIOD, extra={"plugin": name},
            )  # fmt: skip

    def _start_again(self, name: str) -> None:
        try:
            self._registry.start_again(name)
        except PluginNotFoundError:
            return  # it has been unregistered meanwhile
        except PluginError as error:
            log.error(  # noqa: TRY400  # its traceback says nothing more
                "plugin %r ended, and could not be started again: %s", name, error,
                extra={"plugin": name},
            )  # fmt: skip
        else:
            log.info("plugin %r was started again", name, extra={"plugin": name})


def _tell(
    ended: weakref.WeakMethod[Callable[[str, Sandbox], None]],
    name: str,
    sandbox: weakref.ref[Sandbox],
) -> None:
    method, plugin = ended(), sandbox()
    if method is not None and plugin is not None:
        method(name, plugin)
