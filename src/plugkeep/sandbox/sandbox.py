"""A plugin in a process of its own, and its life as a plugin."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self, TypeVar, cast

from plugkeep.channel.calls import Calls
from plugkeep.channel.entrance import Entrance
from plugkeep.deadlines import time_left
from plugkeep.errors import (
    AlreadyStartedError,
    CallError,
    NotStartedError,
    PluginError,
    SandboxError,
)
from plugkeep.lifecycle import State, check_timeout
from plugkeep.plugin import ApplicationProvider, RouteProvider
from plugkeep.sandbox._absent import Absent
from plugkeep.sandbox._failures import START, STOP, Table, failure
from plugkeep.sandbox._launch import Command
from plugkeep.sandbox._life import Life, Outcome, Phase
from plugkeep.sandbox._options import check_grants
from plugkeep.signals import SignalsHeld

if TYPE_CHECKING:
    from plugkeep.channel.announcement import Method
    from plugkeep.channel.calling import Options
    from plugkeep.plugin import ProtocolOf
    from plugkeep.routing.route import Route
    from plugkeep.sandbox._link import Link
    from plugkeep.sandbox.granting import Grants
    from plugkeep.sandbox.web import RemoteApplication

T = TypeVar("T")

#: Seconds that calls under way have to end before the plugin is told to stop, and that a process
#: has after SIGTERM which has not obeyed.
DRAIN_TIMEOUT: Final = 1.0
TERM_TIMEOUT: Final = 1.0

#: Where `start` and `stop` lead from each state: to another state, or to an error saying why not.
_START: dict[State, State | str] = {
    State.REGISTERED: State.STARTING,
    State.STOPPED: State.STARTING,
    State.FAILED: State.STARTING,
    State.STARTING: "is being started already",
    State.RUNNING: "has been started already; stop it first",
    State.STOPPING: "is still being stopped",
}
_STOP: dict[State, State | str] = {
    State.RUNNING: State.STOPPING,
    State.REGISTERED: "has not been started",
    State.STOPPED: "has been stopped already",
    State.FAILED: "is not running, its last start or stop failed",
    State.STARTING: "is still being started",
    State.STOPPING: "is being stopped already",
}


#: What sandboxes exchange in a trade: the process, and what says how to run it.
_TRADED: Final = (
    *("_command", "_config", "_grants", "_life", "_call_timeout", "wire"),
    *("_start_timeout", "_stop_timeout", "_drain_timeout", "_term_timeout"),
)


class Sandbox(Calls):
    """A plugin that runs in a process of its own. `ExecSandbox` and `isolate` make them."""

    def __init__(
        self,
        command: Command,
        *,
        start_timeout: float,
        stop_timeout: float,
        call_timeout: float | None,
        drain_timeout: float = DRAIN_TIMEOUT,
        term_timeout: float = TERM_TIMEOUT,
        config: Any = None,
        grants: Mapping[str, object] | Grants | None = None,
        max_calls: int | None = None,
        max_waiting: int | None = None,
    ) -> None:
        self.name = command.plugin
        self._entrance: Entrance = Entrance(self.name, max_calls, max_waiting)
        self._call_timeout = call_timeout
        self.wire = command.wire
        self._command = command
        self._start_timeout, self._stop_timeout = start_timeout, stop_timeout
        self._drain_timeout, self._term_timeout = drain_timeout, term_timeout
        self._config = config
        self._grants = _granted(command, grants)
        self._lock = threading.Lock()  # never held while anything is waited for
        #: Held by whoever is about to `bury`, from before anybody else can know of the end.
        self.burial = threading.RLock()
        self._state = State.REGISTERED
        #: Whose start or stop came last. An interrupted one must know whether it had begun at all.
        self._turn: object = None
        self._life: Life | None = None
        self._be_called_by(self._absent())

    @property
    def call_timeout(self) -> float | None:
        """Seconds that a call may take which does not say otherwise; None: no limit."""
        return self._call_timeout

    @call_timeout.setter
    def call_timeout(self, seconds: float | None) -> None:
        self._call_timeout = check_timeout(f"call_timeout of plugin {self.name!r}", seconds)
        self._be_called_by(self._caller)

    @property
    def methods(self) -> Mapping[str, Method] | None:
        """What the plugin has announced, by name; None: that is not known, or it does not run."""
        link = self._link
        return None if link is None else link.announcement.methods

    @property
    def version(self) -> str | None:
        """The plugin's version, where it has said which and runs."""
        link = self._link
        return None if link is None else link.announcement.version

    def implementing(self, protocol: ProtocolOf[T]) -> T | None:
        """See `Calls.implementing`; whether it fits is found out once, until the plugin ends."""
        link = self._link
        if link is None or not getattr(protocol, "_is_protocol", False):
            return None
        if protocol is RouteProvider:  # its routes are not methods that anybody calls
            return cast("T", self)
        if protocol is ApplicationProvider:
            return cast("T", self) if link.offer.mount is not None else None
        if link.announcement.methods is None:
            return None
        if protocol not in link.proxies:
            from plugkeep.channel.proxies import proxy_class_if_fit

            link.proxies[protocol] = proxy_class_if_fit(protocol, self)
        kind = link.proxies[protocol]
        return None if kind is None else cast("T", kind(self))

    def health(self, timeout: float | None = None) -> str | None:
        """Return why the plugin is degraded, as its own `health` says; None: it is well.

        Where it has no such method, that it answers at all is what can be said; at level 0 of the
        wire, that its process runs. `timeout` is in seconds. Raises CallTimeoutError where it does
        not answer in time, and NotStartedError or ProcessExitedError where it does not run.
        """
        life, link = self._life, self._link
        if life is None or self._state is not State.RUNNING or life.has_ended:
            raise self.explain_end() or NotStartedError(
                f"plugin {self.name!r} is not running", plugin=self.name
            )
        if link is None:
            return None
        try:
            return link.health(timeout)
        except CallError as error:
            raise link.caller.named(error) from None

    @property
    def is_mute(self) -> bool:
        """Whether it runs, and speaks level 0 of the wire: nothing can be asked of it."""
        return self._life is not None and self._link is None

    def cut_short(self) -> None:
        """Kill the process of a start or stop that nobody waits for any more, so that it ends."""
        if (life := self._life) is not None and self._state in (State.STARTING, State.STOPPING):
            life.kill()

    def kill_hung(self, seconds: float) -> None:
        """Kill the process, for it has not answered within so many seconds whether it lives.

        It has ended by itself, then: its calls fail with UnresponsiveError.
        """
        if (life := self._life) is not None:
            life.cut_off_hung(seconds)

    def when_ended(self, tell: Callable[[], object]) -> None:
        """Have `tell` called, on any thread, when the process that runs ends by itself."""
        if (life := self._life) is not None:
            life.when_ended(tell)

    def explain_end(self) -> PluginError | None:
        """Return what says how the process has ended by itself; None where it has not."""
        life = self._life
        if self._state is not State.RUNNING or life is None or not life.has_ended:
            return None
        return life.explain()

    def bury(self) -> None:
        """Leave nothing of a process that has ended by itself, so that another may be started.

        Does nothing where it has not, or somebody has seen to that.
        """
        turn = object()
        with self._lock:
            life = self._life
            if self._state is not State.RUNNING or life is None or not life.has_ended:
                return
            self._turn, self._state = turn, State.STOPPING
        self._leave(State.FAILED, turn)

    def trade(self, other: Sandbox, *, back: bool = False) -> None:
        """Exchange the processes that run with `other`, and all that says how to run them.

        Calls go to the other process from then on, also those that were just about to be made
        here. What is under way in the old one, which is now that of `other`, goes on.

        Raises NotStartedError where one of the two does not run, unless it goes `back`.
        """
        first, second = sorted((self, other), key=id)
        with SignalsHeld(), first.burial, second.burial, first._lock, second._lock:
            for each in (self, other):
                has_ended = each._life is None or (each._life.has_ended and not back)
                if each._state is not State.RUNNING or has_ended:
                    raise NotStartedError(
                        f"plugin {each.name!r} is {each._state}", plugin=each.name
                    )
                each._finalizer.detach()
            for attribute in _TRADED:
                mine, theirs = getattr(self, attribute), getattr(other, attribute)
                setattr(self, attribute, theirs)
                setattr(other, attribute, mine)
            for each in (self, other):
                assert each._life is not None  # noqa: S101  # it runs
                each._finalizer = weakref.finalize(each, each._life.abandon)
                link = each._link
                each._be_called_by(each._absent(each._life) if link is None else link.caller)
            if (mine := self._link) is not None:
                mine.take_again()
            if (theirs := other._link) is not None:
                theirs.retire(mine)

    def expect(
        self, hope: bool, state: State | None, cause: PluginError | None, by: object
    ) -> None:
        """Take note of whether it will run if it does not, for those who call it then.

        `by` is who sees to that: there is no hope any more once that is gone.
        """
        self._entrance.prospects.expect(hope, state, cause, by)

    def adopt(self, other: Sandbox) -> None:
        """Be what `other` says from the next start on; neither of the two runs.

        So whoever holds on to this one has what takes its place. Raises AlreadyStartedError.
        """
        with self._lock:
            if self._state in (State.STARTING, State.RUNNING, State.STOPPING):
                text = f"plugin {self.name!r} is {self._state}"
                raise AlreadyStartedError(text, plugin=self.name)
            for attribute in _TRADED:
                if attribute != "_life":
                    setattr(self, attribute, getattr(other, attribute))

    def routes(self) -> Iterable[Route]:
        """Return the plugin's routes, while it runs; they are answered in its process."""
        link = self._link
        if link is None or not link.offer.routes:
            return ()
        from plugkeep.sandbox.web import remote_routes

        return remote_routes(self)

    @property
    def application(self) -> RemoteApplication | None:
        """The plugin's whole application, an ASGI one; None: it has none, or does not run."""
        link = self._link
        if link is None or link.offer.mount is None:
            return None
        from plugkeep.sandbox.web import RemoteApplication

        return RemoteApplication(self, mount=link.offer.mount)

    @property
    def mount(self) -> str | None:
        """The path under which its application is to be found."""
        link = self._link
        return None if link is None else link.offer.mount

    @property
    def _link(self) -> Link | None:
        life = self._life
        return None if life is None else life.link

    @property
    def pid(self) -> int | None:
        """The process id while the process runs, else None."""
        life = self._life
        return life.pid if life is not None and life.is_ours else None

    @property
    def start_phases(self) -> tuple[Phase, ...]:
        """What the latest start has consisted of, in order, for a timeline.

        ``launch`` until the process came to work of its own (or was ready, where it does not say
        more), ``import`` until the plugin was there, ``start``, which is its own.
        """
        return () if self._life is None else self._life.phases

    def start(self) -> None:
        """Start the program and wait until it says that it is ready.

        Raises AlreadyStartedError; LaunchError or ProgramNotFoundError where it cannot be
        executed; ExitedBeforeReadyError, InvalidReadyError or ReadyTimeoutError where it does not
        become ready. After a failure nothing of it is left, and it may be started again.
        """
        turn = object()
        with self.burial:  # while somebody is at it, it is about to be startable
            pass
        try:
            self._enter(_START, AlreadyStartedError, turn)
            self._launch_and_await_ready()
            self._state = State.RUNNING
        except BaseException:
            self._leave(State.FAILED, turn)
            raise

    def stop(self) -> None:
        """Tell the program to stop and wait until it has; insist where it does not.

        Raises NotStartedError; ProcessExitedError where it had ended by itself, even with status
        0; ExitStatusError where its status is not 0; StopIgnoredError where it had to be ended by
        force. In any case nothing of it is left, and it may be started again.
        """
        turn = object()
        try:
            life = self._enter(_STOP, NotStartedError, turn)
            assert life is not None  # noqa: S101  # the table lets only a running sandbox through
            self._ask_and_insist(life)
            self._leave(State.STOPPED, turn)
        except BaseException:
            self._leave(State.FAILED, turn)
            raise

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.stop()
        except PluginError as stop_error:
            if error is None:
                raise
            error.add_note(str(stop_error))

    if not TYPE_CHECKING:  # which says so already where there is nothing

        async def __aenter__(self) -> NoReturn:
            raise TypeError(
                f"plugin {self.name!r} is not started by `async with`: use `with`; or, so that the "
                "event loop goes on meanwhile, register it and use `async with registry`"
            )

        async def __aexit__(self, *_: object) -> None: ...  # looked for before the other is called

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} {self._command.path} {self._state}>"

    def _enter(
        self, table: Mapping[State, State | str], kind: type[SandboxError], turn: object
    ) -> Life | None:
        """Go where `table` leads, or raise `kind` with what it says; return the life so far."""
        with self._lock:
            if self._life is not None and not self._life.is_ours:
                self._life, self._state = None, State.REGISTERED  # it is our parent's, not ours
            target = table[self._state]
            if isinstance(target, State):
                self._turn, self._state = turn, target
                return self._life
        raise kind(f"plugin {self.name!r} {target}", plugin=self.name)

    def _launch_and_await_ready(self) -> None:
        deadline = time.monotonic() + self._start_timeout
        self._entrance.prospects.is_starting = True
        with SignalsHeld():
            life = self._life = Life(
                self.name,
                self._command.launch,
                deadline,
                offered=self.wire,
                frames_only=self._command.frames_only,
                grants=self._grants,
            )
            self._finalizer = weakref.finalize(self, life.abandon)
        outcome = life.await_ready(deadline)
        if outcome is Outcome.READY:
            outcome = life.start(self._config, deadline)
        if outcome is not Outcome.STARTED:
            raise self._failure(START, outcome, life, self._start_timeout)
        self._be_called_by(self._absent(life) if life.link is None else life.link.caller)

    def _be_called_by(self, caller: Any) -> None:
        caller = self._entrance.admit(caller)
        self._caller, self._call = caller, caller.call
        self._options = None if isinstance(caller, Absent) else self._with(self._call_timeout)
        if (link := self._link) is not None:
            link.patience = self._call_timeout

    def _absent(self, life: Life | None = None) -> Absent:
        return Absent(self.name, self._entrance.prospects, life)

    def _idle_options(self) -> Options:
        return self._with(self._call_timeout)

    def _ask_and_insist(self, life: Life) -> None:
        # Where all has to be stopped by a certain time, a part of that is for SIGTERM.
        life.drain(min(self._drain_timeout, time_left() / 2))
        grace = min(self._term_timeout, time_left() / 2)
        timeout = min(self._stop_timeout, max(time_left() - grace, 0.0))
        outcome = life.stop(timeout, grace)
        if outcome is not Outcome.OBEYED or not life.end().clean:
            raise self._failure(STOP, outcome, life, timeout)

    def _leave(self, state: State, turn: object) -> None:
        """End what runs, if anything does, and go to `state`, unless it is somebody else's turn."""
        with SignalsHeld():
            if self._turn is turn:
                if self._life is not None:
                    self._life.end()
                    self._finalizer.detach()
                self._be_called_by(self._absent())
                self._life, self._state = None, state

    def _failure(self, table: Table, outcome: Outcome, life: Life, timeout: float) -> PluginError:
        return failure(table, outcome, life, self._command.path, timeout)


def _granted(command: Command, grants: Mapping[str, object] | Grants | None) -> Grants | None:
    if grants is None or grants == {}:
        return None
    check_grants(command.plugin, grants, command.wire)
    if not isinstance(grants, Mapping):
        return grants
    from plugkeep.sandbox.granting import Objects

    return Objects(command.plugin, grants)
