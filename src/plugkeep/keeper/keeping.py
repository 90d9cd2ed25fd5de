"""What the keeper does: it launches what its host asks for, and outlives it by a moment.

It is run as ``__main__.py CONTROL HOST``. CONTROL is the number of a socket, on which orders come;
HOST that of a process descriptor of the host.

All that is to be said about one child goes over a socket of its own, which comes with the order:
its number and its process descriptor, or why it could not be launched; then how it ended. It is
not reaped until the host has closed that socket, so its number is nobody else's up to then. Where
the host closes it earlier, the child is killed.
"""

from __future__ import annotations

# The same as `socket` has, without the milliseconds in which that makes enums.
import _socket as sockets
import errno
import marshal
import os
import sys
from fcntl import F_DUPFD_CLOEXEC, fcntl
from select import EPOLLIN, epoll

from plugkeep.keeper.killing import children, kill_all, reap
from plugkeep.keeper.launching import Program, launch
from plugkeep.keeper.sweeping import open_book
from plugkeep.keeper.telling import BIG, has_end, read_all, receive, say, suppress
from plugkeep.keeper.tether import be_subreaper

TYPE_CHECKING = False  # `typing` takes longer to import than all else that is here
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable

    from plugkeep.keeper.book import Book
else:
    import _signal as signal  # for the same reason

#: What the first byte of an order says: launch a program; adopt what comes on another socket.
LAUNCH, ADOPT = b"L", b"A"
#: Descriptors below this number are kept free of what comes, for children to have theirs there.
RESERVED = 10
#: From terminals and from whoever ends all processes of a service: our end is the host's.
_SPURNED = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)
#: Bytes of a warning.
_LONGEST = 4096


class Child:
    """A process, and the socket on which its host hears of it."""

    def __init__(self, pid: int, pidfd: int, report: sockets.socket) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.report: sockets.socket | None = report
        self.has_ended = False


class Keeper:
    """Does what comes next, one thing after another."""

    def __init__(self, control: sockets.socket, host: int, book: Book) -> None:
        self._control = control
        self._book = book
        self._children: dict[int, Child] = {}
        self._adoptions: list[sockets.socket] = []
        self._is_retired = False
        self._host_is_gone = False
        self._home = os.open("/proc/self/cwd", os.O_PATH | os.O_CLOEXEC)
        self._epoll = epoll()
        self._tasks: dict[int, Callable[[], object]] = {}
        self._rung, bell = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(bell, warn_on_full_buffer=False)
        self._when(self._rung, self._reap_strangers)
        self._when(control.fileno(), self._obey)
        self._when(host, self._note_the_end)

    def run(self) -> None:
        """Serve until the host is gone, or has retired this one and no process is left."""
        while not self._host_is_gone:
            if self._is_retired and not self._children and not children():
                self._book.close()
                return
            for descriptor, _ in self._epoll.poll():
                # What came before it may have seen to it that there is nothing to do any more.
                self._tasks.get(descriptor, int)()
        if kill_all(self._rung):
            self._book.close()

    def _when(self, descriptor: int, task: Callable[[], object]) -> None:
        self._epoll.register(descriptor, EPOLLIN)
        self._tasks[descriptor] = task

    def _forget(self, descriptor: int) -> None:
        if self._tasks.pop(descriptor, None):
            self._epoll.unregister(descriptor)

    def _note_the_end(self) -> None:
        self._host_is_gone = True

    # --- orders ---------------------------------------------------------------------------

    def _obey(self) -> None:
        with suppress(BlockingIOError):
            self._follow(*receive(self._control))

    def _follow(self, message: bytes, descriptors: list[int]) -> None:
        if not message:
            self._is_retired = True
            self._forget(self._control.fileno())
        elif message[:1] == ADOPT:
            for descriptor in descriptors:
                self._adopt_from(sockets.socket(fileno=descriptor))
        else:
            self._launch(descriptors, expected=message[1], name=message[2:])

    def _launch(self, descriptors: list[int], expected: int, name: bytes) -> None:
        """Launch a program. It comes with: report, order, working directory, its 0, 1, 2 and on."""
        if not descriptors:
            return  # too many are open: whoever asked sees that nobody has the other end
        report = sockets.socket(fileno=descriptors.pop(0))
        try:
            if len(descriptors) + 1 < expected:
                raise OSError(errno.EMFILE, "not all have come")  # noqa: TRY301
            pid = self._spawn(*descriptors)
            self._introduce(Child(pid, os.pidfd_open(pid), report), name)
        except OSError as error:
            say(report, b"E%d" % (error.errno or 0))
            report.close()
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _spawn(self, order: int, cwd: int, *theirs: int) -> int:
        program = Program(*marshal.loads(read_all(order)))  # noqa: S302  # our host's
        # Where it is the same, going there must not be tried: it may not be permitted any more.
        folder = None if os.path.sameopenfile(cwd, self._home) else cwd
        return launch(program, folder, theirs)

    # --- children -------------------------------------------------------------------------

    def _introduce(self, child: Child, name: bytes) -> None:
        report = child.report
        assert report is not None  # noqa: S101  # nobody has closed it yet
        self._children[child.pid] = child
        self._when(child.pidfd, lambda: self._look_whether_ended(child))
        self._when(report.fileno(), lambda: self._let_go(child))
        say(report, b"P%d" % child.pid, child.pidfd)
        self._book.enter(child.pid, name)

    def _look_whether_ended(self, child: Child) -> None:
        try:
            how = os.waitid(os.P_PIDFD, child.pidfd, os.WEXITED | os.WNOWAIT | os.WNOHANG)
        except ChildProcessError:
            return  # it is not our child yet, for the one that has made it is still at that
        if how is None:
            return
        child.has_ended = True
        self._forget(child.pidfd)
        if child.report is None:
            self._reap(child)
        else:
            kind = b"X" if how.si_code == os.CLD_EXITED else b"S"
            say(child.report, b"%c%d" % (kind, how.si_status))

    def _let_go(self, child: Child) -> None:
        """The host wants to know no more of it."""
        report = child.report
        if report is None or not has_end(report):
            return  # it was another one's descriptor when this was noticed
        child.report = None
        self._forget(report.fileno())
        if child.has_ended:
            self._reap(child)
        else:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, signal.SIGKILL)
        report.close()  # which tells the host that this is done

    def _reap(self, child: Child) -> None:
        os.waitid(os.P_PIDFD, child.pidfd, os.WEXITED)
        os.close(child.pidfd)
        del self._children[child.pid]
        self._book.strike(child.pid)

    # --- those that others have made ------------------------------------------------------

    def _adopt_from(self, adoptions: sockets.socket) -> None:
        self._adoptions.append(adoptions)
        self._when(adoptions.fileno(), lambda: self._adopt(adoptions))

    def _adopt(self, adoptions: sockets.socket) -> None:
        """Make all children known that a zygote has made since."""
        with suppress(BlockingIOError):
            while True:
                message, descriptors = receive(adoptions)
                if not message:
                    break
                if len(descriptors) == 2:
                    pidfd, report = descriptors
                    number, _, name = message.partition(b" ")
                    child = Child(int(number), pidfd, sockets.socket(fileno=report))
                    self._introduce(child, name)
            self._forget(adoptions.fileno())
            self._adoptions.remove(adoptions)
            adoptions.close()

    def _reap_strangers(self) -> None:
        """Reap descendants of our children that have outlived their own parents."""
        with suppress(BlockingIOError):
            os.read(self._rung, BIG)
        # In this order: what was our child before, a zygote has announced by now, if it is its.
        found = children()
        for adoptions in list(self._adoptions):
            self._adopt(adoptions)
        for pid in found - self._children.keys():
            reap(pid)


def settle_in(*descriptors: int) -> list[int]:
    """Have nothing of the host's but these, and these where they are in nobody's way."""
    ours = [fcntl(each, F_DUPFD_CLOEXEC, RESERVED) for each in descriptors]
    for number in map(int, os.listdir("/proc/self/fd")):
        if number > 2 and number not in ours:
            with suppress(OSError):  # the listing's own
                os.close(number)
    while (null := os.open(os.devnull, os.O_RDWR)) < RESERVED:
        pass  # so that all numbers below are taken
    os.close(null)
    return ours


def warn(control: sockets.socket, text: str) -> None:
    """Have the host log something."""
    say(control, b"W" + text.encode("utf-8", "backslashreplace")[:_LONGEST])


def main() -> None:
    number, host = settle_in(*map(int, sys.argv[1:]))
    control = sockets.socket(fileno=number)
    try:
        for number in _SPURNED:
            if signal.getsignal(number) != signal.SIG_IGN:  # else children are to inherit that
                signal.signal(number, lambda *_: None)
        with suppress(OSError), open("/proc/self/comm", "wb") as comm:
            comm.write(b"plugkeep-keeper")
        be_subreaper()
        Keeper(control, host, open_book(os.environ, lambda text: warn(control, text))).run()
    except BaseException:
        import traceback

        say(control, traceback.format_exc().encode("utf-8", "backslashreplace")[-BIG // 2 :])
        os._exit(70)
    os._exit(0)
