"""Asks plugins how they are, each as often as it is to be asked.

One that says that something is wrong is degraded. One in a process of its own that says nothing in
time is killed, which its supervisor deals with as with any other end. Of one in the host's own
process nothing can be killed, so it is degraded as long as it says nothing.
"""

from __future__ import annotations

import logging
import time
import weakref
from collections.abc import Callable
from inspect import iscoroutinefunction
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final

from plugkeep.channel.workers import run
from plugkeep.errors import CallTimeoutError, PluginError
from plugkeep.health import Watchdog, reason_of, reason_of_error
from plugkeep.lifecycle import UP
from plugkeep.plugin import HealthReporter
from plugkeep.sandbox import Sandbox
from plugkeep.supervision import timers
from plugkeep.supervision.weakly import weakly

if TYPE_CHECKING:
    from plugkeep.registry import Registry
    from plugkeep.sandbox._loops import Loop

log = logging.getLogger("plugkeep.supervisor")

#: A wait that takes so much longer than it should was no wait for the plugin: this process was
#: stopped meanwhile (SIGSTOP, a debugger), or had no processor.
_OVERSLEPT: Final = 1.25
_SLACK: Final = 0.2


class Kennel:
    """The watchdogs of a registry's plugins; `of` says how each is to be watched, if at all."""

    def __init__(
        self,
        registry: Registry,
        of: Callable[[str], Watchdog | None],
        loop: Callable[[], Loop | None],
    ) -> None:
        self._registry = registry
        self._of = of
        self._loop = loop
        self._watched: dict[str, timers.Timer] = {}
        weakref.finalize(self, timers.cancel_all, self._watched)

    def watch(self, name: str) -> None:
        """Watch a plugin from now on, if it is to be watched."""
        self.leave(name)
        watchdog = self._of(name)
        plugin: Any = self._registry.get(name)
        if watchdog is None or not isinstance(plugin, HealthReporter):
            return
        if isinstance(plugin, Sandbox) and plugin.is_mute:
            log.warning(
                "plugin %r has a watchdog, and speaks level 0 of the wire: it cannot be asked",
                name, extra={"plugin": name},
            )  # fmt: skip
            return
        ask = weakly(self._ask)
        self._watched[name] = timers.after(watchdog.period, lambda: ask(name, watchdog))

    def leave(self, name: str) -> None:
        """Watch a plugin no more."""
        if (timer := self._watched.pop(name, None)) is not None:
            timer.cancel()

    def _is_up(self, name: str) -> bool:
        return name in self._registry and self._registry.state(name) in UP

    def _ask(self, name: str, watchdog: Watchdog) -> None:
        """Ask a plugin how it is, on a thread that may wait for the answer."""
        plugin = self._registry.get(name)
        if plugin is None or not self._is_up(name):
            return
        if isinstance(plugin, Sandbox):
            self._ask_sandbox(name, plugin, watchdog)
        elif isinstance(plugin, HealthReporter):
            self._ask_here(name, plugin, watchdog)
        if self._is_up(name):
            self.watch(name)
        if not self._is_up(name):  # it has been stopped in between
            self.leave(name)

    def _ask_sandbox(self, name: str, sandbox: Sandbox, watchdog: Watchdog) -> None:
        patience, pid = watchdog.patience, sandbox.pid
        began = time.monotonic()
        try:
            reason = sandbox.health(patience)
        except CallTimeoutError:
            took = time.monotonic() - began
            if took > patience * _OVERSLEPT + _SLACK:
                log.info("plugin %r is asked again: the host itself was held up", name)
            elif sandbox.pid == pid:  # else another process has taken its place meanwhile
                sandbox.kill_hung(patience)
        except PluginError:
            return  # it has ended, or is being stopped, as others have seen
        else:
            self._note(name, sandbox, reason)

    def _ask_here(self, name: str, plugin: HealthReporter, watchdog: Watchdog) -> None:
        text = f"health() has not returned for {watchdog.patience:g} s"
        late = timers.after(watchdog.patience, lambda: self._note(name, plugin, text))
        try:
            reason = ask_here(plugin, self._loop())
        finally:
            late.cancel()
        self._note(name, plugin, reason)

    def _note(self, name: str, plugin: object, reason: str | None) -> None:
        self._registry.recovery.degrade(name, plugin, reason)


def ask_here(plugin: HealthReporter, loop: Loop | None) -> str | None:
    """Return why a plugin in this process is degraded; None: it is well."""
    try:
        if not iscoroutinefunction(plugin.health):
            return reason_of(plugin.health())
        if loop is None:
            return "health() is asynchronous, and there is no event loop to run it in"
        return reason_of(loop.run(plugin.health, lambda _cancel: None))
    except BaseException as error:  # also a sys.exit(), which would end a thread of ours
        return reason_of_error(error)


def ask(name: str, plugin: object, timeout: float | None, loop: Loop | None) -> str | None:
    """Return why a plugin is degraded; None: it is well, or does not say.

    `timeout` is in seconds; None: no limit. Raises CallTimeoutError, and what `Sandbox.health`
    raises.
    """
    if not isinstance(plugin, HealthReporter):
        return None
    if isinstance(plugin, Sandbox):
        return plugin.health(timeout)
    answers: SimpleQueue[str | None] = SimpleQueue()
    run(lambda: answers.put(ask_here(plugin, loop)))
    try:
        return answers.get(timeout=timeout)
    except Empty:
        text = f"health() of plugin {name!r} has not returned within {timeout:g} s"
        raise CallTimeoutError(text, timeout=timeout or 0.0, plugin=name) from None
