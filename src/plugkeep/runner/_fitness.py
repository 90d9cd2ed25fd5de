"""What an import may not leave behind in a process that is to be forked."""

from __future__ import annotations

import os
import signal
import sys
from importlib import import_module
from typing import Any


class Unfit(Exception):
    """Raised where a module cannot be imported before a fork; the text is a part of a sentence."""


class Fitness:
    """Imports modules, and sees whether they can be had before a fork as well as after it."""

    def __init__(self) -> None:
        self._before: dict[str, Any] = {}

    def begin(self) -> None:
        """What there is now is no module's fault."""
        self._before = _traces()

    def check(self, name: str) -> None:
        """Import it. Raises Unfit, and this process is of no use then."""
        try:
            import_module(name)
        except BaseException as error:
            raise Unfit(f"cannot be imported: {type(error).__name__}: {error}") from error
        after = _traces()
        for what, before in self._before.items():
            if after[what] != before:
                raise Unfit(f"{what} when it is imported")
        if _threads() > 1 and not _forks_well():
            raise Unfit("starts threads when it is imported")


def _traces() -> dict[str, Any]:
    root = sys.modules["logging"].getLogger()  # which is there, for the runner needs it
    return {
        "opens or closes files": set(os.listdir("/proc/self/fd")),
        "changes the working directory": os.getcwd(),
        "changes how signals are handled": [
            signal.getsignal(number) for number in sorted(signal.valid_signals())
        ],
        "blocks signals": signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        "sets up logging": (list(root.handlers), root.level),
        "changes the environment": dict(os.environ),
        "starts processes": _children(),
        "changes the umask": _umask(),
        "changes limits or priority": (_limits(), os.getpriority(os.PRIO_PROCESS, 0)),
    }


def _umask() -> int:
    umask = os.umask(0)  # nobody else is here whom that could concern
    os.umask(umask)
    return umask


def _limits() -> str:
    with open("/proc/self/limits") as file:
        return file.read()


def _threads() -> int:
    return len(os.listdir("/proc/self/task"))


def _children() -> str:
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return file.read()


def _forks_well() -> bool:
    """Say whether a fork makes the threads end: some libraries see to that, and start new ones."""
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    return _threads() == 1
