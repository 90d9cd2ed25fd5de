"""Launching a program that does not outlive whoever launches it.

By a fork and not by `posix_spawn`, for only the process itself can ask to be killed with its
parent. This one is small, so that costs half a millisecond.
"""

from __future__ import annotations

import errno
import os

from plugkeep.keeper.tether import die_with

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Sequence
    from typing import NoReturn
else:
    import _signal as signal  # without the enums

#: What Python itself ignores, and what must not be: programs expect to be killed by the first two.
_NOT_IGNORED = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD)
_ALL = signal.valid_signals()


class Program:
    """What to execute: everything in bytes, as the kernel has it."""

    def __init__(
        self,
        path: bytes,
        arguments: list[bytes],
        environment: dict[bytes, bytes],
        mask: list[int],
    ) -> None:
        self.path, self.arguments, self.environment = path, arguments, environment
        #: The signals that are blocked in it.
        self.mask = mask


def launch(program: Program, folder: int | None, theirs: Sequence[int]) -> int:
    """Execute a program in a session of its own, and return its number.

    `folder`: where, if not here; `theirs` are to be its descriptors 0, 1, 2 and on. Raises
    OSError, as `execve` does.
    """
    keeper = os.getpid()
    failed, fail = os.pipe2(os.O_CLOEXEC)  # closed by the execution itself
    try:
        # Lest our handlers run in there, and take for us what is meant for it.
        before = signal.pthread_sigmask(signal.SIG_SETMASK, _ALL)
        try:
            pid = os.fork()
            if not pid:
                _become(program, folder, theirs, keeper, fail)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            os.close(fail)
        number = os.read(failed, 16)
    finally:
        os.close(failed)
    if number:
        os.waitpid(pid, 0)
        raise OSError(int(number), os.strerror(int(number)))
    return pid


def _become(
    program: Program, folder: int | None, theirs: Sequence[int], keeper: int, fail: int
) -> NoReturn:
    """Be the program, or say why not; nothing returns from here."""
    number = errno.EINVAL
    try:
        die_with(keeper)
        os.setsid()
        for place, descriptor in enumerate(theirs):
            os.dup2(descriptor, place)
        if folder is not None:
            os.fchdir(folder)
        for each in _NOT_IGNORED:
            signal.signal(each, signal.SIG_DFL)
        # What has a handler gets back its default by the execution. Nobody has heard of this
        # process until then, who might send it a signal.
        signal.pthread_sigmask(signal.SIG_SETMASK, program.mask)
        os.execve(program.path, program.arguments, program.environment)  # noqa: S606
    except OSError as error:
        number = error.errno or number
    finally:
        os.write(fail, b"%d" % number)
        os._exit(127)
