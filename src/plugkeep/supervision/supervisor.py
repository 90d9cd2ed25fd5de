"""Sees that plugins fail, and brings them back as their policies say.

It is a listener of the registry, which hears of every failure whatever its cause: a process that
has ended, a start that did not come up, a report of a plugin's own. What it decides on the spot is
done there (a failed plugin is *restarting* before anybody else looks); what takes a turn of the
registry is done on threads of its own, or in the host's event loop.
"""

from __future__ import annotations

import logging
import os
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from plugkeep.channel.workers import run
from plugkeep.errors import (
    AsyncPluginError,
    PluginError,
    ProcessExitedError,
    RequirementFailedError,
)
from plugkeep.events import (
    Event,
    Failed,
    Quarantined,
    Reloaded,
    ReloadFailed,
    Restarting,
    Started,
    StartFailed,
    StartSkipped,
    Stopped,
    Stopping,
    Unregistered,
)
from plugkeep.lifecycle import State
from plugkeep.restart import RestartPolicy, Verdict, decide
from plugkeep.sandbox import Sandbox
from plugkeep.supervision import timers
from plugkeep.supervision.outlook import Outlook
from plugkeep.supervision.watchdog import Kennel
from plugkeep.supervision.weakly import weakly
from plugkeep.units import format_duration

if TYPE_CHECKING:
    from plugkeep.health import Watchdog
    from plugkeep.registry import Registry
    from plugkeep.registry.recovery import Plan
    from plugkeep.sandbox._loops import Loop

log = logging.getLogger("plugkeep.supervisor")


class Supervisor:
    """Looks after the plugins in a registry; `policy` says what becomes of which.

    `watchdog` says how often each is asked how it is.

    `loop` gives the event loop that the plugins run on, if they do. `clock` is in seconds and
    never goes back; `luck` gives random numbers from 0 to 1.
    """

    def __init__(
        self,
        registry: Registry,
        policy: Callable[[str], RestartPolicy],
        *,
        watchdog: Callable[[str], Watchdog | None] = lambda _: None,
        loop: Callable[[], Loop | None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        luck: Callable[[], float] = lambda: int.from_bytes(os.urandom(4)) / 2**32,
    ) -> None:
        self._registry = registry
        self._policy = policy
        self._loop = loop
        self._kennel = Kennel(registry, watchdog, loop)
        self._clock, self._luck = clock, luck
        #: When each plugin was started again, as far as that still counts.
        self._restarts: dict[str, list[float]] = {}
        #: Those that are due.
        self._due: dict[str, timers.Timer] = {}
        weakref.finalize(self, timers.cancel_all, self._due)
        #: What those are told who wait to call a plugin.
        self.outlook = Outlook(registry, policy)

    def look_after(self, event: Event) -> None:
        """Deal with what happens to a plugin; for `Recovery.follow`."""
        task = _TASKS.get(type(event))
        if task is not None:
            task(self, event)
        self.outlook.tell(event.plugin)

    # --- what happens ---------------------------------------------------------------------

    def _started(self, event: Event) -> None:
        name = event.plugin
        self._cancel(name)
        plugin = self._registry.get(name)
        if isinstance(plugin, Sandbox):
            self._watch(name, plugin)
        self._kennel.watch(name)
        if self._restarts.get(name):
            log.info("plugin %r is up again", name, extra={"plugin": name})

    def _reloaded(self, event: Event) -> None:
        name = event.plugin
        plugin = self._registry.get(name)
        if isinstance(plugin, Sandbox):
            self._watch(name, plugin)
        self._kennel.watch(name)

    def _stopping(self, event: Event) -> None:
        self._kennel.leave(event.plugin)

    def _watch(self, name: str, sandbox: Sandbox) -> None:
        """Be told when its process has ended by itself, by the thread that watches all."""
        # Weak: that thread must not keep the whole host alive.
        ended, weak = weakref.WeakMethod(self._ended), weakref.ref(sandbox)
        sandbox.when_ended(lambda: run(_tell, ended, name, weak))

    def _ended(self, name: str, sandbox: Sandbox) -> None:
        """Deal with the end of a process."""
        with sandbox.burial:
            error = sandbox.explain_end()
            if error is None:
                return  # it has been stopped meanwhile, or has another process
            if self._registry.report_failure(name, error, plugin=sandbox, ended=True):
                sandbox.bury()

    def _failed(self, event: Event) -> None:
        """Decide what becomes of a plugin that has failed, running or starting."""
        name, error = event.plugin, event.error
        self._kennel.leave(name)
        if isinstance(error, _NO_FAILURES):
            return
        if isinstance(event, StartFailed) and _was_interrupted(error):
            self._registry.recovery.give_up_users(name, State.FAILED)
            return
        verdict = self._judge(name, error, is_start=isinstance(event, StartFailed))
        if self._registry.recovery.owes_stop(name):
            if verdict.action == "restart":
                self.outlook.promise(name)
            run(weakly(self._clear_up), name, verdict)
        else:
            self._settle(name, verdict)

    def _judge(self, name: str, error: BaseException | None, *, is_start: bool) -> Verdict:
        policy, now = self._policy(name), self._clock()
        earlier = self._restarts.setdefault(name, [])
        clean = isinstance(error, ProcessExitedError) and error.returncode == 0 and not is_start
        verdict = decide(policy, clean=clean, earlier=earlier, now=now, luck=self._luck())
        earlier[:] = [each for each in earlier if now - policy.period < each <= now]
        if verdict.action == "restart":
            earlier.append(now)
            log.warning(
                "plugin %r is started again in %s (restart %d of at most %d within %s): %s",
                name, format_duration(verdict.delay), len(earlier), policy.intensity,
                format_duration(policy.period), _brief(error),
                extra={"plugin": name},
            )  # fmt: skip
        elif verdict.action == "quarantine":
            earlier.clear()  # whoever starts it by hand begins anew
        return verdict

    def _skipped(self, event: Event) -> None:
        """Have a plugin wait for what it requires, if that is to come back."""
        name, error = event.plugin, event.error
        recovery = self._registry.recovery
        if isinstance(error, RequirementFailedError):
            if self._state(error.requirement) is State.RESTARTING:
                self._cancel(name)
                recovery.hold(name, error)
            else:
                recovery.give_up(name, error)
        elif isinstance(error, PluginError) and self._state(name) is State.RESTARTING:
            # It cannot even be tried, such as for a method that has not returned: it has failed.
            recovery.give_up(name, error)

    def _quarantined(self, event: Event) -> None:
        name = event.plugin
        self._cancel(name)
        if self._policy(name).dependents == "restart" and self._registry.recovery.has_users(name):
            run(weakly(self._carry_out), name, self._registry.recovery.take_down(name))
        said = getattr(event.error, "log", ())
        quoted = "\n    ".join(("; the last that it logged:", *said)) if said else ""
        log.error(
            "plugin %r has failed too often and is quarantined; restart it by hand when what "
            "made it fail has been mended. At last: %s%s",
            name, event.error, quoted, extra={"plugin": name},
        )  # fmt: skip

    def _restarting(self, event: Event) -> None:
        name, delay = event.plugin, getattr(event, "delay", None)
        if delay is None:
            log.info(
                "plugin %r comes back with what it requires: %s",
                name, event.error, extra={"plugin": name},
            )  # fmt: skip
            return
        due = self._clock() + delay
        if self._policy(name).dependents == "restart" and self._registry.recovery.has_users(name):
            # First, for when it is up they are to find it as it has just started.
            run(weakly(self._take_down), name, due)
        else:
            self._set_due(name, due)

    def _stopped(self, event: Event) -> None:
        self._cancel(event.plugin)

    def _unregistered(self, event: Event) -> None:
        self._cancel(event.plugin)
        self._restarts.pop(event.plugin, None)
        self._registry.recovery.give_up_users(event.plugin, "not registered any more")

    # --- what is done about it --------------------------------------------------------------

    def _clear_up(self, name: str, verdict: Verdict) -> None:
        """Have its stop called first, of one that runs in the host's process."""
        recovery = self._registry.recovery
        try:
            self._carry_out(name, recovery.clear_up(name, lambda: self._settle(name, verdict)))
        finally:
            if verdict.action == "restart":
                self.outlook.redeem(name)

    def _settle(self, name: str, verdict: Verdict) -> None:
        """Put a failed plugin where it belongs, unless somebody else has done something with it."""
        if verdict.action == "quarantine":
            self._registry.recovery.quarantine(name)
        elif verdict.action == "restart":
            self._registry.recovery.suspend(name, verdict.delay)

    def _take_down(self, name: str, due: float) -> None:
        """Stop those that require a plugin, which are to come back with it."""
        recovery = self._registry.recovery
        try:
            with self.outlook.returning(recovery.users_up(name)):
                self._carry_out(name, recovery.take_down(name))
        finally:
            self._set_due(name, due)

    def _set_due(self, name: str, due: float) -> None:
        self._cancel(name)
        bring_back, delay = weakly(self._bring_back), due - self._clock()
        if delay > 0:
            self._due[name] = timers.after(delay, lambda: bring_back(name))
            if self._state(name) is not State.RESTARTING:  # somebody came in between
                self._cancel(name)
        else:
            run(bring_back, name)

    def _cancel(self, name: str) -> None:
        if (timer := self._due.pop(name, None)) is not None:
            timer.cancel()

    def _bring_back(self, name: str) -> None:
        self._due.pop(name, None)
        self._carry_out(name, self._registry.recovery.bring_back(name))

    def _carry_out(self, name: str, plan: Plan) -> None:
        """Have the registry do it: here, or in the event loop that the plugins run on."""
        registry, loop = self._registry, self._loop()
        if loop is not None and registry.recovery.needs_loop(name):
            with suppress(RuntimeError):  # it has ended
                loop.run(lambda: registry.acarry_out(plan), lambda _cancel: None)
                return
        try:
            registry.carry_out(plan)
        except SystemExit as error:  # of a plugin's, which ends nobody but itself
            log.warning(
                "plugin %r, or one that requires it, has called sys.exit(%s)", name, error.code,
                extra={"plugin": name},
            )  # fmt: skip

    def _state(self, name: str) -> State | None:
        return self._registry.state(name) if name in self._registry else None


#: What says that a plugin cannot run, for a reason that no restart of it would change.
_NO_FAILURES: Final = (RequirementFailedError, AsyncPluginError)


def _was_interrupted(error: BaseException | None) -> bool:
    """Say whether it was no failure of the plugin's own, such as a Ctrl-C in its start."""
    cause = None if error is None else error.__cause__
    # That is asyncio's, which takes long to import.
    return isinstance(cause, KeyboardInterrupt) or type(cause).__name__ == "CancelledError"


def _brief(error: BaseException | None) -> str:
    """Return what an error says, without the lines of output that it quotes."""
    return str(error).partition("\n")[0].removesuffix("; the last of its stderr:")


def _tell(
    ended: weakref.WeakMethod[Callable[[str, Sandbox], None]],
    name: str,
    sandbox: weakref.ref[Sandbox],
) -> None:
    method, plugin = ended(), sandbox()
    if method is not None and plugin is not None:
        method(name, plugin)


_TASKS: Final[dict[type[Event], Callable[[Supervisor, Event], None]]] = {
    Started: Supervisor._started,
    Failed: Supervisor._failed,
    StartFailed: Supervisor._failed,
    StartSkipped: Supervisor._skipped,
    Reloaded: Supervisor._reloaded,
    # What has become of the old one's process meanwhile was told to the new one.
    ReloadFailed: Supervisor._reloaded,
    Restarting: Supervisor._restarting,
    Stopping: Supervisor._stopping,
    Quarantined: Supervisor._quarantined,
    Stopped: Supervisor._stopped,
    Unregistered: Supervisor._unregistered,
}
