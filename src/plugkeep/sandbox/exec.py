"""A plugin that is a program: any executable that speaks the wire on its stdin and stdout."""

from __future__ import annotations

import math
import os
import threading
import time
import weakref
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

from plugkeep.errors import (
    AlreadyStartedError,
    ExitedBeforeReadyError,
    ExitStatusError,
    InvalidNameError,
    InvalidReadyError,
    MethodNotFoundError,
    NotStartedError,
    PluginError,
    ProcessExitedError,
    ReadyTimeoutError,
    SandboxError,
    StopIgnoredError,
)
from plugkeep.lifecycle import State, check_timeout
from plugkeep.names import check_name
from plugkeep.sandbox._launch import Command
from plugkeep.sandbox._life import Life, Outcome
from plugkeep.sandbox._output import with_tail
from plugkeep.signals import SignalsHeld
from plugkeep.wire.messages import Message

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
#: What a start, and a stop, that did not go well are reported as.
_START_ERRORS: dict[Outcome, tuple[type[SandboxError], str]] = {
    Outcome.NO_READY: (ReadyTimeoutError, "did not say within {timeout:g} s that it was ready"),
    Outcome.EXITED: (ExitedBeforeReadyError, "{exit} before it said that it was ready"),
    Outcome.REFUSED: (
        InvalidReadyError,
        "printed {received!r}, which is no ready message: it {reason}; all else goes to stderr",
    ),
    Outcome.LATE: (
        ReadyTimeoutError,
        "said that it was ready, but its own start has not returned within {timeout:g} s",
    ),
}
_STOP_ERRORS: dict[Outcome, tuple[type[SandboxError], str]] = {
    Outcome.EXITED: (ProcessExitedError, "was not there to be stopped: by itself, it {exit}"),
    Outcome.OBEYED: (ExitStatusError, "was stopped, and {exit}"),
    Outcome.TERMINATED: (
        StopIgnoredError,
        "did not end within {timeout:g} s of being told to stop; sent SIGTERM, it {exit}",
    ),
    Outcome.KILLED: (
        StopIgnoredError,
        "did not end within {timeout:g} s of being told to stop, nor soon after SIGTERM; it {exit}",
    ),
}


class ExecSandbox:
    """A plugin that runs as a program of its own, in a session and process group of its own.

    `path` is the program: a bare name is looked up on the host's ``PATH``, anything else starts
    from the host's working directory, whatever `cwd` is. `args` are its arguments. `name` is the
    plugin's name, by default the file's stem.

    `start_timeout` is how many seconds the program has to say that it is ready; `stop_timeout`
    how many it has to end when it is told to, before it is ended by force; None is without limit.
    `env` is its whole environment (not an addition to the host's), None the host's; `cwd` its
    working directory. `wire` is the highest level of the wire that the host may speak with it, 0
    or 1, and `call_timeout` how long calls may take; at level 0 there are none.

    What it prints is logged, line by line, by the logger ``plugkeep.plugin.<name>``: stdout (what
    follows the ready message) as INFO, stderr as WARNING. Where it ends by itself while it should
    be running, that is logged there at once, as ERROR; nothing starts it again.

    All methods are safe from any thread. A sandbox that is garbage-collected while it runs, or
    that runs when the host exits, is killed without being told to stop.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *args: str | os.PathLike[str],
        name: str | None = None,
        start_timeout: float | None = 5.0,
        stop_timeout: float | None = 5.0,
        call_timeout: float | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        wire: int = 1,
    ) -> None:
        """Nothing runs yet. Raises InvalidNameError, TypeError or ValueError for what cannot be."""
        path = _text("path", path)
        self.name = _stem(path) if name is None else check_name(name)
        of = f"of plugin {self.name!r}"
        self._start_timeout = _seconds(f"start_timeout {of}", start_timeout)
        self._stop_timeout = _seconds(f"stop_timeout {of}", stop_timeout)
        self.call_timeout = check_timeout(f"call_timeout {of}", call_timeout)
        self.wire = _level(f"wire {of}", wire)
        self._command = Command(
            plugin=self.name,
            path=str(Path(path).absolute()) if "/" in path else path,
            args=tuple(_text(f"argument {each!r} {of}", each) for each in args),
            env=None if env is None else _environment(of, env),
            cwd=None if cwd is None else str(Path(_text(f"cwd {of}", cwd)).absolute()),
            wire=self.wire,
        )
        self._lock = threading.Lock()  # never held while anything is waited for
        self._state = State.REGISTERED
        #: Whose start or stop came last. An interrupted one must know whether it had begun at all.
        self._turn: object = None
        self._life: Life | None = None
        self._call = partial(_refuse_call, self.name, None)

    @property
    def pid(self) -> int | None:
        """The process id while the process runs, else None."""
        life = self._life
        return life.pid if life is not None and life.is_ours else None

    def start(self) -> None:
        """Start the program and wait until it says that it is ready.

        Raises AlreadyStartedError; LaunchError or ProgramNotFoundError where it cannot be
        executed; ExitedBeforeReadyError, InvalidReadyError or ReadyTimeoutError where it does not
        become ready. After a failure nothing of it is left, and it may be started again.
        """
        turn = object()
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

    def call(self, method: str, /, *args: Any, timeout: float | None = None, **kwargs: Any) -> Any:
        """Raises NotStartedError, or MethodNotFoundError: at level 0 there are no methods."""
        answer = self._call(method, args, kwargs, timeout)
        if type(answer) is Message:
            return answer.result
        if answer.error is not None:
            raise RuntimeError(answer.error)
        return answer.result

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

    def __repr__(self) -> str:
        return f"<ExecSandbox {self.name!r} {self._command.path} {self._state}>"

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
        with SignalsHeld():
            life = self._life = Life(
                self.name, self._command.launch, offered=self.wire, frames_only=self._command.frames_only
            )
            self._finalizer = weakref.finalize(self, life.abandon)
        outcome = life.await_ready(deadline)
        if outcome is Outcome.READY:
            outcome = life.start(None, [], deadline)
        if outcome is not Outcome.STARTED:
            raise self._error(_START_ERRORS[outcome], life, self._start_timeout)
        self._call = (
            partial(_refuse_call, self.name, life) if life.link is None else life.link.channel.call
        )

    def _ask_and_insist(self, life: Life) -> None:
        outcome = life.stop(self._stop_timeout)
        if outcome is not Outcome.OBEYED or not life.end().clean:
            raise self._error(_STOP_ERRORS[outcome], life, self._stop_timeout)

    def _leave(self, state: State, turn: object) -> None:
        """End what runs, if anything does, and go to `state`, unless it is somebody else's turn."""
        with SignalsHeld():
            if self._turn is turn:
                if self._life is not None:
                    self._life.end()
                    self._finalizer.detach()
                self._call = partial(_refuse_call, self.name, None)
                self._life, self._state = None, state

    def _error(
        self, failure: tuple[type[SandboxError], str], life: Life, timeout: float
    ) -> SandboxError:
        """End `life` and return the error that says how it went."""
        kind, sentence = failure
        end = life.end()
        told = sentence.format(
            exit=end, timeout=timeout, received=life.received, reason=life.reason
        )
        message = with_tail(f"plugin {self.name!r} ({self._command.path}) {told}", life.stderr)
        facts: dict[str, Any] = {}
        if issubclass(kind, TimeoutError):
            facts["timeout"] = timeout
        if kind is InvalidReadyError:
            facts["received"] = life.received
        return kind(
            message,
            plugin=self.name,
            returncode=end.returncode,
            signal=end.signal,
            stderr=life.stderr,
            **facts,
        )


def _refuse_call(plugin: str, life: Life | None, method: str, *_: Any) -> NoReturn:
    """Stand in for a channel where there is none."""
    if life is None or life.pid is None:
        raise NotStartedError(f"plugin {plugin!r} is not running", plugin=plugin)
    raise MethodNotFoundError(
        f"plugin {plugin!r} has no method {method!r}: it speaks level 0 of the wire, "
        "which is ready and stop, without calls",
        plugin=plugin,
    )


def _stem(path: str) -> str:
    try:
        return check_name(Path(path).stem)
    except InvalidNameError as error:
        raise InvalidNameError(f"{error}; {path!r} gives no such name, so pass name=") from None


def _text(what: str, value: object) -> str:
    if not isinstance(value, (str, bytes, os.PathLike)):
        raise TypeError(f"{what} is {value!r}; it takes a string or a path")
    text = os.fsdecode(value)
    if "\0" in text:
        raise ValueError(f"{what} is {text!r}; the system takes no NUL character there")
    return text


def _environment(of: str, env: Mapping[str, str]) -> dict[str, str]:
    for key, value in env.items():
        if not (isinstance(key, str) and isinstance(value, str)):
            raise TypeError(f"env {of} has {key!r}: {value!r}; it takes strings")
        if not key or "=" in key or "\0" in key + value:
            raise ValueError(f"env {of} has {key!r}: {value!r}, which the system does not take")
    return dict(env)


def _seconds(what: str, value: float | None) -> float:
    seconds = check_timeout(what, value)
    return math.inf if seconds is None else seconds


def _level(what: str, value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value in (0, 1, 2):
        return value
    raise ValueError(f"{what} is {value!r}; it can be 0, 1 or 2")
