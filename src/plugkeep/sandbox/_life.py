"""One life of a plugin's process at level 0: from its launch over ready and stop to its end."""

from __future__ import annotations

import os
import select
import signal
import time
from enum import Enum

from plugkeep.sandbox._exit_watch import ExitWatch
from plugkeep.channel.io_thread import borrow, give_back
from plugkeep.sandbox._launch import Launch
from plugkeep.sandbox._output import Output
from plugkeep.sandbox._process import Exit, milliseconds
from plugkeep.signals import SignalsHeld
from plugkeep.wire.ready import ReadyParser, Verdict

STOP_MESSAGE = b'{"cmd":"stop"}\n'

#: Seconds that a process which ignored the stop message has after SIGTERM, at most.
TERM_GRACE = 1.0
_KILL_PATIENCE = 5.0  # SIGKILL takes effect at once, unless the process is stuck in the kernel
_QUOTED = 200  # bytes kept of what was received
_CLOSED_GRACE = 0.5  # a process whose stdout has ended is probably about to exit: wait to see how


class Outcome(Enum):
    """What waiting for the ready message, or stopping, came to."""

    READY = "ready"
    REFUSED = "refused"
    NO_READY = "no ready"  # in time
    EXITED = "exited"  # by itself
    OBEYED = "obeyed"
    TERMINATED = "terminated"  # by SIGTERM, having ignored the stop message
    KILLED = "killed"  # by SIGKILL, having ignored SIGTERM, too


_OF_VERDICT = {Verdict.READY: Outcome.READY, Verdict.REFUSED: Outcome.REFUSED}


class Life:
    """A process that has been launched, with its pipes. `end` it, whatever happens."""

    def __init__(self, plugin: str, launch: Launch) -> None:
        self.reason = ""  # why the ready message was refused
        self.received = b""  # what came as, or instead of, the ready message
        self._host = os.getpid()
        self._process = process = launch()
        self._stdin: int | None = process.stdin
        self._stdout = Output(plugin, "stdout", process.stdout)
        self._stderr = Output(plugin, "stderr", process.stderr)
        self._exit_watch = ExitWatch(plugin, process, self._stdout, self._stderr)
        self._exit: Exit | None = None
        try:
            # Here and not later, for the thread comes up while the program is being loaded.
            self._thread = borrow(self)
        except BaseException:
            self._end_process()
            self._close_pipes()
            raise
        self._thread.watch(self._stderr)

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return None if self._exit or self._process.wait(0) else self._process.pid

    @property
    def is_ours(self) -> bool:
        """Whether this process launched it, rather than one that this was forked from."""
        return self._host == os.getpid()

    @property
    def stderr(self) -> tuple[str, ...]:
        """The last lines that it printed there."""
        return self._stderr.tail

    def await_ready(self, deadline: float) -> Outcome:
        """Wait until `deadline`, on the monotonic clock, for the ready message."""
        parser = ReadyParser()
        outcome = self._read_ready(parser, deadline)
        if outcome is Outcome.READY:
            if parser.rest and not parser.rest.isspace():
                self._stdout.log(parser.rest)
            self._thread.watch(self._stdout)
            self._exit_watch.begin()
            self._thread.watch(self._exit_watch)
        else:
            self.reason, self.received = parser.reason, (parser.message + parser.rest)[:_QUOTED]
        return outcome

    def stop(self, timeout: float) -> Outcome:
        """Ask it to end, wait `timeout` seconds, and insist. To be followed by `end`."""
        with SignalsHeld():
            if not self._end_watch():
                return Outcome.EXITED
            told = self._say(STOP_MESSAGE)
        if self._process.wait(timeout):
            return Outcome.OBEYED if told else self._report()
        self._process.kill(signal.SIGTERM)
        self._process.kill(signal.SIGCONT)  # a stopped one could not obey
        if self._process.wait(min(TERM_GRACE, timeout)):
            return Outcome.TERMINATED
        return Outcome.KILLED

    def end(self) -> Exit:
        """Leave nothing of it: kill what still runs, log what it still printed, close all."""
        with SignalsHeld():
            if self._exit is None:
                self._end_watch()
                self._exit = self._end_process()
                for output in (self._stdout, self._stderr):
                    self._thread.forget(output)
                self._close_pipes()
                give_back(self._thread, self)
            return self._exit

    def abandon(self) -> None:
        """End it on behalf of a sandbox that has been forgotten, or a host that exits."""
        if self.is_ours:
            self.end()

    def _read_ready(self, parser: ReadyParser, deadline: float) -> Outcome:
        process, stdout, closed = self._process, self._stdout, False
        poller = select.poll()
        poller.register(stdout.descriptor, select.POLLIN)
        poller.register(process.exit_fd, select.POLLIN)
        while events := poller.poll(milliseconds(deadline - time.monotonic())):
            if any(descriptor == process.exit_fd for descriptor, _ in events):
                for data in stdout.read_rest():
                    if parser.feed(data) is not Verdict.MORE:
                        break  # what follows is not the parser's, and stays to be logged
                return _OF_VERDICT.get(parser.verdict, Outcome.EXITED)
            piece = stdout.read()
            if piece:
                if parser.feed(piece) is not Verdict.MORE:
                    return _OF_VERDICT[parser.verdict]
            elif piece == b"":
                poller.unregister(stdout.descriptor)
                closed, deadline = True, min(deadline, time.monotonic() + _CLOSED_GRACE)
        return _OF_VERDICT[parser.end()] if closed else Outcome.NO_READY

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
