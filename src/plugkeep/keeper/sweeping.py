"""Killing what a keeper has left behind that was killed itself, by the ledger that it left, too."""

from __future__ import annotations

import os
import stat
import time
from fcntl import LOCK_EX, LOCK_NB, flock

from plugkeep.keeper.book import ENDING, Book, here, is_at, open_folder, places
from plugkeep.keeper.killing import runs, start_of
from plugkeep.keeper.ledger import NAME, Ledger, Process, judge, parse
from plugkeep.keeper.telling import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Mapping
else:
    import _signal as signal  # without the enums

#: So many ledgers are looked at, and so many bytes of each: a host waits meanwhile.
_MOST_FILES, _MOST_BYTES = 1000, 4 * 1024 * 1024
#: With fewer descriptors than so many, children need all.
_FEWEST = 64
#: Seconds for what has just been killed, or was to end by itself.
_LAST_BREATH = 0.05
#: Linux 6.9 and newer: the signal is for the group that this process is the leader of.
_PROCESS_GROUP = 4


def open_book(environment: Mapping[str, str], warn: Callable[[str], object]) -> Book:
    """Sweep all ledgers of this user, and begin one of our own."""
    book, wrong = Book(warn), list[str]()
    if os.sysconf("SC_OPEN_MAX") < _FEWEST:
        wrong.append(f"no more than {os.sysconf('SC_OPEN_MAX')} files may be open")
    for place in places(environment) if not wrong else ():
        try:
            _use(place, book, warn)
        except Exception as error:  # none is a reason not to launch anything
            wrong.append(f"{place!r}: {getattr(error, 'strerror', None) or error}")
    if not book.is_open:
        warn(f"what would be left of a host that is killed is not noted down: {'; '.join(wrong)}")
    return book


def _use(place: str, book: Book, warn: Callable[[str], object]) -> None:
    if book.is_open and not os.path.lexists(place):
        return  # nobody has ever noted anything down there
    folder = open_folder(place)
    try:
        sweep(folder, warn)
        if not book.is_open:
            book.open(folder)
    finally:
        os.close(folder)


def sweep(folder: int, warn: Callable[[str], object]) -> None:
    """Deal with all ledgers of keepers that are dead. Raises OSError."""
    names = [name for name in os.listdir(folder) if name.endswith(ENDING)][:_MOST_FILES]
    boot, space = here() if names else (b"", b"")
    for name in names:
        with suppress(OSError):  # its keeper lives, or it is none that we could have written
            _settle(folder, name, boot, space, warn)


def _settle(
    folder: int, name: str, boot: bytes, space: bytes, warn: Callable[[str], object]
) -> None:
    """Deal with one. Raises OSError where it is to be left alone."""
    # Not waiting, for somebody may have put a pipe there.
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    file = os.open(name, flags, dir_fd=folder)
    try:
        flock(file, LOCK_EX | LOCK_NB)
        status = os.fstat(file)
        is_ours = stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()
        if not is_ours or status.st_nlink != 1 or not is_at(file, folder, name):
            return
        text = os.pread(file, _MOST_BYTES, 0)
        ledger = parse(text)
        if ledger is None and text.startswith(NAME):
            return  # a later version's
        if ledger is None and text:
            warn(f"the ledger {name!r} of a keeper that is gone cannot be read, and was removed")
        if ledger is None or _clear(ledger, boot, space, warn):
            os.unlink(name, dir_fd=folder)
    finally:
        os.close(file)


def _clear(ledger: Ledger, boot: bytes, space: bytes, warn: Callable[[str], object]) -> bool:
    """Kill what is still there; say whether the ledger may go."""
    if judge(ledger, boot, space, _living(ledger))[0]:
        time.sleep(_LAST_BREATH)
    doomed, may_go = judge(ledger, boot, space, _living(ledger))
    left = [each for each in doomed if runs(each.pid)]
    spared = [each for each in doomed if not kill(each)]
    if killed := [each for each in left if each not in spared]:
        names = ", ".join(map(repr, killed))
        warn(f"killed what a host and its keeper had left behind that were killed: {names}")
    if spared:
        names = ", ".join(map(repr, spared))
        warn(f"what a host and its keeper have left behind may not be killed: {names}")
    return may_go and not spared


def _living(ledger: Ledger) -> dict[int, int]:
    """Return when those started that are there. Children may be dead, and yet lead a group."""
    pids = [each.pid for each in ledger.children]
    if runs(ledger.keeper.pid):
        pids.append(ledger.keeper.pid)
    return {pid: start for pid in pids if (start := start_of(pid)) is not None}


def kill(process: Process) -> bool:
    """Kill a process and its group; return False where that is not permitted.

    Never another one of the same number: the descriptor stays with whom it was opened for, and
    when that started is looked at after it was opened.
    """
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    try:
        if start_of(process.pid) == process.start:
            with suppress(ProcessLookupError):
                _kill_group(descriptor, process)
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    except PermissionError:
        return False
    finally:
        os.close(descriptor)
    return True


def _kill_group(descriptor: int, process: Process) -> None:
    """Kill the group that a process has begun. Raises OSError, where there is none such, too."""
    if os.getpgid(process.pid) != process.pid:
        return
    try:
        signal.pidfd_send_signal(descriptor, signal.SIGKILL, None, _PROCESS_GROUP)
    except PermissionError:
        raise
    except OSError:
        # Stopped, it cannot end, and so its number stays its own and its group's.
        signal.pidfd_send_signal(descriptor, signal.SIGSTOP)
        if start_of(process.pid) == process.start:
            os.killpg(process.pid, signal.SIGKILL)
