"""The keeper of this process, as this process sees it."""

from __future__ import annotations

import _socket as sockets
import errno
import fcntl
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from typing import Final

from plugkeep.channel.parcels import PATIENCE, pair, receive, send, wait, written
from plugkeep.errors import LaunchError
from plugkeep.sandbox._process import Exit, Order
from plugkeep.sandbox.keeper.kept import Launched
from plugkeep.sandbox.keeper.surroundings import Surroundings, surroundings
from plugkeep.signals import foreign

_LAST_BREATH: Final = 1.0
_MAIN: Final = os.path.join(__file__.rpartition("/sandbox/")[0], "keeper", "__main__.py")
#: Descriptors that programs have; whatever they are here must not be in the way of the next ones.
_ABOVE: Final = 10
_logger = logging.getLogger("plugkeep.sandbox")


class Unanswered(Exception):
    """Raised when whoever was to launch something says nothing: it has died, or takes too long."""

    def __init__(self, *, late: bool) -> None:
        super().__init__()
        self.late = late


class Keeper:
    """A keeper that this process has started."""

    def __init__(self, inherited: Surroundings) -> None:
        self.inherited = inherited
        self._is_mourned = self._has_gone = False
        self._last_words = b""
        self._lock = threading.Lock()
        self._control, theirs = pair()
        try:
            self.pid = _start(theirs.fileno())
            self.pidfd = _watched(self.pid)
        except BaseException:
            self._control.close()
            raise
        finally:
            theirs.close()

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What of this process belongs to it."""
        return (self._control.fileno(), *self._pidfds)

    @property
    def _pidfds(self) -> tuple[int, ...]:
        """The process descriptor, while it is ours: after that the number may be anybody's."""
        return () if self._has_gone else (self.pidfd,)

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        with self._lock:
            return not self._has_gone and not wait(0, self.pidfd)

    def launch(self, order: Order) -> Launched:
        """Have a program launched. Raises OSError, which is about the program or its folder."""
        try:
            return self.ask(
                order, lambda given: self._say(b"L%c%s" % (len(given), order.label), given)
            )
        except Unanswered as unanswered:
            # What a process has open is closed a little before it has ended.
            if unanswered.late or self._ends_within(_LAST_BREATH):
                raise self._lost() from None
            raise OSError(errno.EMFILE, "the keeper has too much open") from None

    def ask(self, order: Order, send: Callable[[Sequence[int]], object]) -> Launched:
        """Have `send` send descriptors: the report's, the order's, the folder's, the child's own.

        Raises OSError as `launch` does, LaunchError where it is too late, and Unanswered.
        """
        with ExitStack() as stack:
            folder = os.open(order.cwd or "/proc/self/cwd", os.O_PATH | os.O_DIRECTORY)
            stack.callback(os.close, folder)
            body = written(_body(order))
            stack.callback(os.close, body)
            ours, theirs = pair()
            stack.callback(theirs.close)
            try:
                send((theirs.fileno(), body, folder, *order.descriptors))
                theirs.close()
                return self._introduced(ours, order.deadline)
            except BaseException:
                ours.close()  # where something has been launched, that is killed
                raise

    def adopt(self, adoptions: int) -> None:
        """Have it listen there for processes that others make, and become the parent of those."""
        self._say(b"A", [adoptions])

    def _introduced(self, report: sockets.socket, deadline: float) -> Launched:
        """Return what has been launched, once that is said on `report`.

        Raises OSError where it could not be launched, LaunchError after `deadline`, and Unanswered.
        """
        began = time.monotonic()
        # Ctrl-C may come through: whoever closes the socket thereby ends what was launched.
        # (Where the keeper has gone already, the report ends, too.)
        left = max(min(PATIENCE, deadline - began), 0.0)
        foreign(wait, left, report.fileno(), *self._pidfds)
        try:
            message, descriptors = receive(report)
        except BlockingIOError:
            if left == PATIENCE:
                raise Unanswered(late=True) from None
            # It may well be at work, such as on what is to be imported first: let it be.
            raise LaunchError(
                f"no plugin was launched within {time.monotonic() - began:.3g} s: the keeper "
                f"(process {self.pid}), or what it has forking them, does not answer"
            ) from None
        self._heed()
        if message[:1] == b"P" and descriptors:
            return Launched(int(message[1:]), descriptors[0], report, self)
        if message[:1] == b"E":
            number = int(message[1:])
            raise OSError(number, os.strerror(number))
        raise Unanswered(late=False)  # nobody has the other end, or too much is open here

    def _heed(self) -> None:
        """Take what it says about itself: warnings, each of which is logged once, and its last."""
        with suppress(OSError):  # there is nothing, or it is ours no more
            while message := receive(self._control)[0]:
                if message[:1] != b"W":
                    self._last_words = message
                elif message not in _warned:
                    _warned.add(message)
                    _logger.warning("%s", message[1:].decode("utf-8", "replace"))

    def mourn(self) -> None:
        """Say in the log, once, that it has died, and how; leave nothing of it."""
        with self._lock:
            if self._is_mourned:
                return
            self._is_mourned = True
        self._heed()
        self._control.close()
        how = self._last_words.decode("utf-8", "replace").strip() or _ending(self._reaped())
        _logger.error("the keeper (process %d) has died, and all that it kept: %s", self.pid, how)

    def retire(self) -> None:
        """Have it end once there is nothing left for it to keep."""
        with suppress(OSError):
            self._control.shutdown(sockets.SHUT_RDWR)
        self._control.close()

    def has_gone(self) -> bool:
        """Say whether it has ended, and leave no zombie then."""
        if self.is_alive:
            return False
        self._reaped()
        return True

    def disown(self) -> None:
        """Leave it to our parent, of which this process is a forked copy."""
        self._control.close()

    def _say(self, message: bytes, descriptors: Sequence[int]) -> None:
        try:
            send(self._control, message, descriptors)
        except (BlockingIOError, ConnectionError):
            raise self._lost() from None

    def _lost(self) -> LaunchError:
        """Do away with it, if it has not died by itself."""
        with self._lock, suppress(OSError):
            if not self._has_gone:
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        self._ends_within(PATIENCE)
        self.mourn()
        return LaunchError("no plugin can start: the keeper has died, or does not answer")

    def _ends_within(self, seconds: float) -> bool:
        """Wait for its end; say whether it has come."""
        pidfds = self._pidfds
        return not pidfds or wait(seconds, *pidfds)

    def _reaped(self) -> int | None:
        """Return its wait status. None: other code of this process has waited for it."""
        with self._lock:
            if not self._has_gone:
                self._has_gone = True
                os.close(self.pidfd)
                with suppress(ChildProcessError):
                    return os.waitpid(self.pid, os.WNOHANG)[1]
        return None


def _watched(pid: int) -> int:
    try:
        return os.pidfd_open(pid)
    except OSError:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise


def _start(control: int) -> int:
    """Start a keeper, and return its number.

    Not by `subprocess`: that takes long to import, and warns of what nobody waits for.
    """
    with ExitStack() as stack:

        def lifted(descriptor: int) -> int:
            # Not where another one of those that are given is to be.
            copy = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _ABOVE)
            stack.callback(os.close, copy)
            return copy

        me = os.pidfd_open(os.getpid())
        stack.callback(os.close, me)
        null = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in range(3)]
        given = [(os.POSIX_SPAWN_DUP2, lifted(each), n) for n, each in enumerate((control, me), 3)]
        try:
            return os.posix_spawn(
                sys.executable,
                [sys.executable, "-I", "-S", _MAIN, "3", "4"],
                os.environ,
                file_actions=[*null, *given],
                setsid=True,
                setsigmask=(),
                setsigdef=(signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ),
            )
        except OSError as error:
            text = f"no plugin can start: the keeper, {sys.executable!r} {_MAIN!r}, cannot: {error}"
            raise LaunchError(text) from error


def _body(order: Order) -> tuple[object, ...]:
    encode = os.fsencode
    arguments = [encode(each) for each in (order.program, *order.arguments)]
    environment = {encode(name): encode(value) for name, value in order.environment.items()}
    mask = [int(each) for each in signal.pthread_sigmask(signal.SIG_BLOCK, ())]
    return arguments[0], arguments, environment, mask


def _ending(status: int | None) -> str:
    if status is None:
        return "how is unknown"
    code = os.waitstatus_to_exitcode(status)
    return str(Exit(returncode=code) if code >= 0 else Exit(signal=-code))


# --- the one of this process --------------------------------------------------------------------

# Reentrant, for the garbage collector may come by and end a sandbox.
_lock = threading.RLock()
_current: Keeper | None = None
#: Those that keep what was launched before this process became another user's, or the like.
_retired: list[Keeper] = []
#: What keepers have said of which one log record is enough.
_warned: set[bytes] = set()


def keeper() -> Keeper:
    """Return the keeper that launches as this thread would; start one where there is none."""
    global _current
    inherited = surroundings()
    with _lock:
        _retired[:] = [each for each in _retired if not each.has_gone()]
        if _current is not None and not _current.is_alive:
            _current.mourn()
            _current = None
        if _current is None or _current.inherited != inherited:
            previous, _current = _current, Keeper(inherited)
            if previous is not None:
                previous.retire()
                _retired.append(previous)
        return _current


def keepers() -> list[Keeper]:
    """Return all that this process has."""
    with _lock:
        return [*_retired, *([_current] if _current is not None else ())]


def _disown_all() -> None:
    global _current, _lock
    _lock = threading.RLock()
    for each in keepers():
        each.disown()
    _current = None
    _retired.clear()


os.register_at_fork(after_in_child=_disown_all)
