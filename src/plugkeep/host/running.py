"""Running a registry until a signal says to stop: the part of a host that owns the process."""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain, repeat
from typing import TYPE_CHECKING, Protocol

from plugkeep.errors import LifecycleError, PluginError
from plugkeep.events import Failed, LateReturn, Started, StartFailed, StartSkipped, StopFailed
from plugkeep.host.drivers import Driver, driving
from plugkeep.lifecycle import UP, State
from plugkeep.supervision import timers

if TYPE_CHECKING:
    from types import FrameType

    from plugkeep.events import Event
    from plugkeep.registry import Registry

_FAILURES = (Failed, StartFailed, StartSkipped, StopFailed)
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


#: Seconds in which several signals count as one. Whoever ends a process often signals both it and
#: its group (`timeout`, shells, service managers); a person who insists takes longer.
SETTLE = 0.5
#: Seconds that stopping all may take, unless the configuration says otherwise.
SHUTDOWN_TIMEOUT = 30.0
#: Seconds that it may take from a second signal on; and, after a third, without waiting at all.
HURRY = 1.0
#: States in which a plugin runs, or may do so soon without anybody's doing.
_TO_COME = (*UP, State.STARTING, State.STOPPING, State.RESTARTING)
#: What a stop is said to be interrupted by, where it is no signal.
TIME_IS_UP = "the end of the time for stopping all"
#: Seconds that a start or stop which was given up has left for returning after all, at the end.
LATE = 2.0
#: At least so long, also where the time for stopping all is over.
_LAST_LOOK = 0.2


class Duty(Protocol):
    """Something to be done now and then while all plugins run."""

    def fileno(self) -> int:
        """Return a descriptor that can be read from when there is something to be done."""
        ...

    def attend(self, driver: Driver, /) -> None:
        """Do it, on the main thread; a signal may raise Interrupted anywhere."""
        ...


class Interrupted(KeyboardInterrupt):
    """Raised on the main thread by the signals that end a run."""


class Interrupts:
    """Raises `Interrupted` for each signal, but only while `armed`, and once for each arming.

    So a signal ends what is going on at the moment (a start, the waiting, a stop that hangs) and
    never the code that clears up after it.
    """

    def __init__(self) -> None:
        self.armed = False
        self.received: signal.Signals | None = None
        #: Those that are heeded; the first will do for `hurry`.
        self.heeded: list[signal.Signals] = []
        self._latest = -SETTLE
        self._is_late = False

    def hurry(self) -> None:
        """Do on the main thread, from any other, what a further signal would: the time is up."""
        main = threading.main_thread().ident
        if self.heeded and main is not None:
            self._is_late = True
            signal.pthread_kill(main, self.heeded[0])

    def arrived(self, number: int, _frame: FrameType | None) -> None:
        latest, self._latest = self._latest, time.monotonic()
        is_late, self._is_late = self._is_late, False
        if self._latest - latest < SETTLE and not is_late:
            return
        self.received = self.received or signal.Signals(number)
        if self.armed:
            self.armed = False
            raise Interrupted(TIME_IS_UP if is_late else signal.Signals(number).name)


@contextmanager
def interrupts() -> Iterator[Interrupts]:
    """Take over SIGINT, SIGTERM and SIGHUP; those that were ignored stay ignored (nohup)."""
    if threading.current_thread() is not threading.main_thread():
        raise LifecycleError(
            "signals can only be handled on the main thread; elsewhere use start() and stop()"
        )
    found = Interrupts()
    deaf = (signal.SIG_IGN, None)  # None: somebody else's, not written in Python
    heeded = [each for each in _SIGNALS if signal.getsignal(each) not in deaf]
    found.heeded = heeded
    before = {each: signal.signal(each, found.arrived) for each in heeded}
    try:
        yield found
    finally:
        found.heeded = []
        for each, handler in before.items():
            signal.signal(each, handler)


@contextmanager
def failures_of(registry: Registry) -> Iterator[list[PluginError]]:
    """Yield a list that fills with what goes wrong.

    What an interrupted start_all or stop_all would have returned is known only from its events.
    Of a plugin that comes up again after all nothing has gone wrong in the end.
    """
    failures: list[PluginError] = []
    latest: dict[str, PluginError] = {}

    def note(event: Event) -> None:
        is_failure = isinstance(event, _FAILURES) and isinstance(event.error, PluginError)
        if is_failure or isinstance(event, Started):
            earlier = latest.pop(event.plugin, None)
            failures[:] = [each for each in failures if each is not earlier]
        if is_failure:
            assert isinstance(event.error, PluginError)  # noqa: S101  # see above
            failures.append(event.error)
            if not isinstance(event, StopFailed):
                latest[event.plugin] = event.error

    unsubscribe = registry.subscribe(note)
    try:
        yield failures
    finally:
        unsubscribe()


def run(
    registry: Registry,
    *,
    strict: bool = False,
    when_started: Callable[[], object] = lambda: None,
    when_looping: Callable[[], object] = lambda: None,
    shutdown_timeout: float = SHUTDOWN_TIMEOUT,
    duty: Duty | None = None,
) -> list[PluginError]:
    """Start all plugins, wait for a signal, stop all; return everything that went wrong.

    Where plugins are asynchronous, `when_looping` is called in the event loop before they start.

    With `strict` a plugin that does not start ends it all. Without, it ends when none has, unless
    there is a `duty`, which is seen to on this thread whenever it asks for that.
    """
    with (
        failures_of(registry) as failures,
        interrupts() as signals,
        driving(registry, when_looping) as driver,
    ):
        try:
            signals.armed = True
            driver.do("start_all")
            signals.armed = False  # what comes now is found by _wait
            when_started()
            with _emptiness(registry) as empty:
                if (duty or _any_to_come(registry)) and not (strict and failures):
                    _wait(signals, driver, duty, empty)
        except Interrupted:
            pass
        finally:
            end = time.monotonic() + shutdown_timeout
            _stop(driver, signals, shutdown_timeout)
            _await_unreturned(registry, signals, max(end - time.monotonic(), _LAST_LOOK))
    return failures


@contextmanager
def started(registry: Registry, name: str) -> Iterator[Driver]:
    """Start one plugin and what it requires, yield what calls functions, and stop all.

    Raises what went wrong; a signal raises Interrupted once all are stopped.
    """
    with failures_of(registry) as failures, interrupts() as signals, driving(registry) as driver:
        try:
            signals.armed = True
            driver.do("start", name)
            failures.clear()
            yield driver
        finally:
            _stop(driver, signals, SHUTDOWN_TIMEOUT)
    if failures:
        raise failures[0]


@contextmanager
def _emptiness(registry: Registry) -> Iterator[int]:
    """Yield what becomes readable when no plugin is up any more, nor is to come back."""
    bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    lock, is_over = threading.Lock(), False

    def look(_event: Event) -> None:
        if not _any_to_come(registry):
            with lock:
                if not is_over:  # else the number is another one's by now
                    os.eventfd_write(bell, 1)

    # After its supervisor, which may have decided that one that has failed comes back.
    unfollow = registry.recovery.follow(look)
    try:
        yield bell
    finally:
        unfollow()
        with lock:
            is_over = True
            os.close(bell)


def _wait(signals: Interrupts, driver: Driver, duty: Duty | None, empty: int) -> None:
    """Wait for a signal, missing none, and see to what there is to be done meanwhile.

    Without a duty it is over as well when `empty` can be read.

    Python's handlers run between its instructions. One that is due just before a system call
    begins would wait for its end, and `signal.pause` has none; but a byte in a pipe is seen.
    """
    reader, writer = os.pipe()
    others = (empty,) if duty is None else (duty.fileno(),)
    try:
        os.set_blocking(writer, False)
        before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        try:
            signals.armed = True
            while not signals.received:
                ready, _, _ = select.select([reader, *others], [], [])
                if reader in ready:
                    os.read(reader, 1)
                elif duty is None:
                    return
                else:
                    duty.attend(driver)
        finally:
            signal.set_wakeup_fd(before)
    finally:
        os.close(reader)
        os.close(writer)


def _stop(driver: Driver, signals: Interrupts, seconds: float) -> None:
    """Stop all within so many seconds, whatever plugins do.

    A further signal gives up the plugin that is stopping just then, and leaves the others less
    time; the one after that, none. Nobody is left out. On the main thread, where plain plugins are
    at home, the end of the time comes as a signal does.
    """
    hurried = min(HURRY, seconds / 2)
    for patience in chain((seconds - hurried, hurried), repeat(0.0)):
        is_timed_here = driver.is_on_main and patience > 0
        alarm = timers.after(patience, signals.hurry) if is_timed_here else None
        try:
            signals.armed = True
            driver.do("stop_all", timeout=None if is_timed_here else patience)
            signals.armed = False
        except Interrupted:
            continue
        finally:
            if alarm is not None:
                alarm.cancel()
        return


def _await_unreturned(registry: Registry, signals: Interrupts, seconds: float) -> None:
    """Wait a moment for what was given up: a start that succeeds late is stopped, and clears up."""
    returned = threading.Event()
    unsubscribe = registry.subscribe(
        lambda event: returned.set() if isinstance(event, LateReturn) else None
    )
    end = time.monotonic() + min(seconds, LATE)
    try:
        signals.armed = True
        while registry.unreturned() and returned.wait(max(end - time.monotonic(), 0)):
            returned.clear()
        signals.armed = False
    except Interrupted:
        pass
    finally:
        unsubscribe()


def _any_to_come(registry: Registry) -> bool:
    """Say whether any plugin is up, or on the way to that, or about to be."""
    return any(
        registry.state(name) in _TO_COME or registry.recovery.owes_stop(name) for name in registry
    )
