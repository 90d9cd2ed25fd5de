"""One life of a plugin's process: from its launch over ready, start and stop to its end."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
import weakref
from collections import deque
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple

from plugkeep.channel.ends import Ends
from plugkeep.channel.io_thread import borrow, give_back
from plugkeep.errors import (
    CallTimeoutError,
    ConfigError,
    NotStartedError,
    PluginError,
    ProcessExitedError,
    ProtocolViolationError,
    UnresponsiveError,
)
from plugkeep.sandbox._exit_watch import ExitWatch
from plugkeep.sandbox._handshake import (
    CLOSED_GRACE,
    QUOTED,
    Ear,
    FrameEar,
    Handshake,
    PrintedEar,
    Said,
)
from plugkeep.sandbox._launch import Launch
from plugkeep.sandbox._output import TAIL_LINES, Output, log_safely, with_tail
from plugkeep.sandbox._process import Exit
from plugkeep.sandbox.preimports import learn
from plugkeep.signals import SignalsHeld

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from plugkeep.channel.announcement import Announcement
    from plugkeep.sandbox._link import Link
    from plugkeep.sandbox.granting import Grants

STOP_MESSAGE = b'{"cmd":"stop"}\n'

_KILL_PATIENCE = 5.0  # SIGKILL takes effect at once, unless the process is stuck in the kernel


class Outcome(Enum):
    """What waiting for the ready message, starting, or stopping, came to."""

    READY = "ready"
    REFUSED = "refused"
    NO_READY = "no ready"  # in time
    EXITED = "exited"  # by itself
    LOST = "lost"  # it has broken a rule of the wire
    STARTED = "started"
    DIED = "died"  # by itself, in its own start
    RAISED = "raised"  # the plugin's own start or stop
    LATE = "late"  # its own start has not returned in time
    OBEYED = "obeyed"
    TERMINATED = "terminated"  # by SIGTERM, having ignored the stop message
    KILLED = "killed"  # by SIGKILL, having ignored SIGTERM, too


class Phase(NamedTuple):
    """A part of a start; times in seconds since the epoch."""

    name: str
    begin: float
    end: float


class Life:
    """A process that has been launched, with its pipes. `end` it, whatever happens."""

    def __init__(
        self,
        plugin: str,
        launch: Launch,
        deadline: float,
        *,
        offered: int = 0,
        frames_only: bool = False,
        grants: Grants | None = None,
    ) -> None:
        self.refused: Ear | None = None  # that which has heard no ready message, and says why
        self.received = b""  # what came as, or instead of, the ready message
        #: What it speaks level 1 or 2 over; None: it does not.
        self.link: Link | None = None
        #: What the plugin's own start or stop was answered with.
        self.error: PluginError | None = None
        self._host = os.getpid()
        self.plugin = plugin
        self._logger = logging.getLogger(f"plugkeep.plugin.{plugin}")
        self._offered, self._frames_only, self._grants = offered, frames_only, grants
        self._launched = time.time()
        self._ready: float | None = None  # when it has said so,
        self._started: float | None = None  # and when its own start had returned
        self._process = process = launch(deadline)
        self._stdin: int | None = process.stdin
        #: The last that it printed, and logged.
        self._recent: deque[str] = deque(maxlen=TAIL_LINES)
        self._stdout = Output(plugin, "stdout", process.stdout, self._recent)
        self._stderr = Output(plugin, "stderr", process.stderr, self._recent)
        self._exit_watch = ExitWatch(plugin, process, self._stdout, self._stderr)
        self._exit: Exit | None = None
        #: Why we have killed it, where its end was not asked for.
        self._cut: PluginError | None = None
        self._told_to_stop = self._stopping = False
        # The interpreter may end while another thread is at it.
        self._ending = threading.RLock()
        try:
            # Here and not later, for the thread comes up while the program is being loaded.
            self._thread = borrow(self)
        except BaseException:
            self._end_process()
            self._close_pipes()
            raise
        self._thread.watch(self._stderr)
        self._thread.watch(process)

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return None if self._exit or self._process.wait(0) else self._process.pid

    @property
    def has_ended(self) -> bool:
        """Whether it has ended by itself, or has broken a rule of the wire and been killed."""
        return self.is_ours and (self.pid is None or self._cut is not None)

    @property
    def is_ours(self) -> bool:
        """Whether this process launched it, rather than one that this was forked from."""
        return self._host == os.getpid()

    @property
    def stderr(self) -> tuple[str, ...]:
        """The last lines that it printed there."""
        return self._stderr.tail

    # --- beginning ------------------------------------------------------------------------

    def await_ready(self, deadline: float) -> Outcome:
        """Wait until `deadline`, on the monotonic clock, for the ready message."""
        handshake = Handshake(self._process, list(self._ears()), self._log_refused)
        said = handshake.wait(deadline)
        heard = handshake.heard
        if said is not Said.READY:
            self.refused, self.received = heard, heard.received[:QUOTED]
            return Outcome[said.name]
        self._ready = time.time()
        with SignalsHeld():
            for ear in handshake.unheard:
                self._log_refused(ear)
            self._settle(heard.announcement, heard.rest)
            self._exit_watch.begin()
            self._thread.watch(self._exit_watch)
        return Outcome.READY

    def start(self, config: Any, deadline: float) -> Outcome:
        """Have the plugin do its own start, where it speaks a level that has such a thing."""
        if self.link is None:
            if config:
                raise ConfigError(
                    f"plugin {self.plugin!r} has a configuration, which level 0 of the wire has no "
                    "way to tell it",
                    plugin=self.plugin,
                )
            return Outcome.STARTED
        try:
            self.error = self.link.start(config, deadline)
        except CallTimeoutError:
            return Outcome.LATE
        except (ProcessExitedError, ProtocolViolationError):
            return Outcome.LOST if self._cut else Outcome.DIED
        if not self.error:
            self._started = time.time()
        return Outcome.RAISED if self.error else Outcome.STARTED

    @property
    def phases(self) -> tuple[Phase, ...]:
        """What its start has consisted of so far."""
        launched, ready, started = self._launched, self._ready, self._started
        if ready is None:
            return ()
        began = None if self.link is None else self.link.announcement.began
        if began is None:
            return (Phase("launch", launched, ready),)
        began = min(max(began, launched), ready)  # whatever the plugin says, and the clock
        phases = Phase("launch", launched, began), Phase("import", began, ready)
        return phases if started is None else (*phases, Phase("start", ready, started))

    def _ears(self) -> Iterator[Ear]:
        if self._frames_only:
            self._thread.watch(self._stdout)
        else:
            yield PrintedEar(self._stdout, self._offered)
        if self._process.wire is not None:
            yield FrameEar(self._process.wire.read)

    def _log_refused(self, ear: Ear) -> None:
        """Where the ready message comes in a frame, what comes on stdout is log."""
        if isinstance(ear, PrintedEar):
            self._stdout.log(ear.received)
            self._thread.watch(self._stdout)

    def _settle(self, announcement: Announcement | None, rest: bytes) -> None:
        """Go on at the level that the plugin has chosen."""
        ends, wire = None, self._process.wire
        if announcement is not None and announcement.level == 2:
            assert wire is not None  # noqa: S101  # the announcement came from there
            ends = wire
            self._close_stdin()
        elif wire is not None:
            wire.close()
        if announcement is not None and announcement.level == 1:
            assert self._stdin is not None  # noqa: S101  # there is none where only frames count
            ends = Ends(self._stdout.give_away(), self._stdin)
            self._stdin = None
        if announcement is not None and ends is not None:
            self._connect(announcement, ends, rest)
            return
        if rest and not rest.isspace():
            self._stdout.log(rest)
        self._thread.watch(self._stdout)

    def _connect(self, announcement: Announcement, ends: Ends, rest: bytes) -> None:
        from plugkeep.sandbox._link import Link

        learn(self.plugin, announcement.imports)

        self.link = link = Link(
            self.plugin,
            announcement,
            ends,
            self,
            grants=self._grants,
            thread=self._thread,
            exit_fd=self._process.exit_fd,
            received=rest,
            recent=self._recent,
        )
        self._exit_watch.when_ended = link.settle
        _linked.add(link)

    def when_ended(self, tell: Callable[[], object]) -> None:
        """Have `tell` called, on any thread, when the process has ended by itself."""
        self._exit_watch.when_reported = tell
        if self._exit_watch.is_reported:  # before there was anybody to be told
            tell()

    # --- running --------------------------------------------------------------------------

    def explain(self) -> PluginError:
        """Return why nothing can be said to the plugin any more."""
        if self._cut is not None:
            return self._cut
        is_stopped = self._stopping or self._told_to_stop
        if (is_stopped and not self._exit_watch.is_reported) or not self.is_ours:
            whose = "has been stopped" if self.is_ours else "is another process's"
            return NotStartedError(f"plugin {self.plugin!r} {whose}", plugin=self.plugin)
        self._process.wait(CLOSED_GRACE)
        end = self._exit or self._process.peek() or Exit()
        self._stderr.drain()
        return self._with_log(
            ProcessExitedError(
                with_tail(f"plugin {self.plugin!r} ended by itself: it {end}", self.stderr),
                plugin=self.plugin,
                returncode=end.returncode,
                signal=end.signal,
                stderr=self.stderr,
            )
        )

    def _with_log(self, error: ProcessExitedError) -> ProcessExitedError:
        error.log = tuple(self._recent)
        return error

    def lost(self, error: ProtocolViolationError | None) -> None:
        """Take note that the channel is of no use any more; called by whoever reads it."""
        if error is not None:
            self._cut_off(self._violated(error))
        elif not self._process.wait(0):
            from plugkeep.channel.workers import run

            run(self._see_off)  # who reads may not wait

    def _see_off(self) -> None:
        """Kill what has closed the channel, and stays. What has been told to stop has more time."""
        if not self._process.wait(CLOSED_GRACE) and not self._told_to_stop:
            rule = ProtocolViolationError("it has closed its end, and goes on running")
            self._cut_off(self._violated(rule))

    def _violated(self, rule: ProtocolViolationError) -> ProtocolViolationError:
        return ProtocolViolationError(
            f"plugin {self.plugin!r} broke a rule of the wire and was killed: {rule}",
            plugin=self.plugin,
        )

    def kill(self) -> None:
        """Have it end now, whoever waits for that."""
        self._process.kill(signal.SIGKILL)

    def cut_off_hung(self, seconds: float) -> None:
        """Kill it, for it has not answered within so many seconds whether it lives."""
        if not self._stopping and not self._told_to_stop:
            text = f"plugin {self.plugin!r} has not answered for {seconds:g} s, and was killed"
            error = UnresponsiveError(
                with_tail(text, self.stderr),
                plugin=self.plugin,
                signal=signal.SIGKILL,
                stderr=self.stderr,
            )
            self._cut_off(self._with_log(error))

    def _cut_off(self, error: PluginError) -> None:
        self._cut = self._cut or error
        reported = not self._exit_watch.end()
        self._process.kill(signal.SIGKILL)
        if not reported:
            log_safely(self._logger, logging.ERROR, str(error), plugin=self.plugin, stream=None)
            self._exit_watch.tell()

    # --- ending ---------------------------------------------------------------------------

    def drain(self, seconds: float) -> None:
        """Let no more calls begin, and wait so long for the end of those that are under way."""
        if self.link is not None:
            self.link.retire()
            self.link.drain(seconds)

    def stop(self, timeout: float, grace: float) -> Outcome:
        """Ask it to end, wait `timeout` seconds, and insist: by SIGTERM, for `grace` seconds.

        To be followed by `end`, which does not ask any more.
        """
        deadline = time.monotonic() + timeout
        with SignalsHeld():
            if not self._end_watch():
                return Outcome.LOST if self._cut else Outcome.EXITED
            self._told_to_stop = True
            told = self._say(STOP_MESSAGE) if self.link is None else False
        if self.link is not None:
            told = self._ask_to_stop(self.link, deadline)
        if self._process.wait(deadline - time.monotonic()):
            if not told:
                return self._report()
            return Outcome.RAISED if self.error else Outcome.OBEYED
        self._process.kill(signal.SIGTERM)
        self._process.kill(signal.SIGCONT)  # a stopped one could not obey
        if self._process.wait(min(grace, timeout)):
            return Outcome.TERMINATED
        return Outcome.KILLED

    def end(self) -> Exit:
        """Leave nothing of it: kill what still runs, log what it still printed, close all."""
        with SignalsHeld(), self._ending:
            if self._exit is None:
                self._stopping = True
                self._end_watch()
                self._thread.forget(self._process)
                self._exit = self._end_process()
                for output in (self._stdout, self._stderr):
                    self._thread.forget(output)
                if self.link is not None:
                    self.link.close()
                elif self._process.wire is not None:
                    self._process.wire.close()
                self._close_pipes()
                give_back(self._thread, self)
            return self._exit

    def abandon(self) -> None:
        """End it on behalf of a sandbox that has been forgotten, or a host that exits."""
        if self.is_ours:
            self.end()

    def _ask_to_stop(self, link: Link, deadline: float) -> bool:
        """Have the plugin do its own stop; say whether it has answered."""
        try:
            self.error = link.stop(deadline)
        except (CallTimeoutError, NotStartedError, ProcessExitedError, ProtocolViolationError):
            return False  # without an answer: how it has ended is seen by its exit
        return True

    def _say(self, message: bytes) -> bool:
        """Write to its stdin and close it; say whether the message is on its way.

        A plugin that has closed its stdin must not kill a host that has restored the default
        action of SIGPIPE, hence the mask.
        """
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGPIPE})
        try:
            return self._stdin is not None and os.write(self._stdin, message) == len(message)
        except BlockingIOError:
            return False  # it has filled the pipe itself: nothing that we could wait for
        except BrokenPipeError:
            if signal.SIGPIPE not in mask:
                signal.sigtimedwait({signal.SIGPIPE}, 0)
            return False
        finally:
            self._close_stdin()
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def _end_watch(self) -> bool:
        """Return False where it has ended by itself; that has been reported, then."""
        self._thread.forget(self._exit_watch)
        return self._exit_watch.end()

    def _report(self) -> Outcome:
        """Report that it ended by itself after all, in the moment in which it was to be told."""
        with SignalsHeld():
            self._exit_watch.report()
        return Outcome.EXITED

    def _end_process(self) -> Exit:
        self._process.kill(signal.SIGKILL)  # if it has ended, what remains of its group
        self._process.wait(_KILL_PATIENCE)
        return self._process.collect()

    def _close_pipes(self) -> None:
        self._close_stdin()
        for output in (self._stdout, self._stderr):
            output.finish()

    def _close_stdin(self) -> None:
        if self._stdin is not None:
            os.close(self._stdin)
            self._stdin = None


#: The links that there are, so that the copies which a fork makes of them are not used.
_linked: weakref.WeakSet[Link] = weakref.WeakSet()


def _disown_copies() -> None:
    for link in list(_linked):
        link.channel.disown()


os.register_at_fork(after_in_child=_disown_copies)
