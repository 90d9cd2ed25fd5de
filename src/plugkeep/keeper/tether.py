"""What ties processes to their parents: whoever is orphaned gets another one, or is killed."""

from __future__ import annotations

import ctypes
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
else:
    import _signal as signal  # without the enums

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36

_prctl = ctypes.CDLL(None).prctl
_prctl.argtypes = (ctypes.c_int, *[ctypes.c_ulong] * 4)


def be_subreaper() -> None:
    """Become the parent of all descendants that lose theirs."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent ends; end at once if that has ended.

    The kernel does so when the parent's *thread* ends that has made this process, so only one for
    whom a single thread forks may ask for it. Whoever is orphaned before it asks is never told,
    hence the look afterwards. Forks do not inherit it; programs do, except those that run with
    other rights than whoever executes them.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
