"""A process, wherever it runs: waiting for it, killing it, and learning how it ended."""

from __future__ import annotations

import math
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from plugkeep.channel.ends import Ends
from plugkeep.channel.io_thread import Source


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended: with a status, by a signal, or nobody knows (both None)."""

    returncode: int | None = None
    signal: int | None = None

    @property
    def clean(self) -> bool:
        """Nothing is known to have gone wrong."""
        return not self.returncode and self.signal is None

    def __str__(self) -> str:
        if self.signal is not None:
            return f"was ended by {signal_name(self.signal)}"
        if self.returncode is not None:
            return f"exited with status {self.returncode}"
        return "ended when its keeper died, so how is unknown"


@dataclass(frozen=True, slots=True)
class Order:
    """What to launch. `descriptors` are to be the program's 0, 1, 2 and so on."""

    program: str
    arguments: Sequence[str]
    environment: dict[str, str]
    #: None: where this process is.
    cwd: str | None
    descriptors: Sequence[int]
    #: When it is too late, on the monotonic clock.
    deadline: float = math.inf
    #: Whose process it is to be, for whoever looks for what is left of it.
    plugin: str = ""

    @property
    def label(self) -> bytes:
        """The name, as it is told to the keeper."""
        return self.plugin.encode("utf-8", "replace")[:100]


class Process(Source, Protocol):
    """Where a plugin runs, apart from what is said to it.

    Its descriptors are the host's ends of the pipes, non-blocking, and the owner's to close;
    `exit_fd` becomes readable when the process ends. Without `stdin` there is nothing to be said
    to it there; `wire` is what level 2 runs over, where that is offered.

    It is itself to be watched, for it kills the process where nobody is left who could tell how
    that ends.
    """

    pid: int
    stdin: int | None
    stdout: int
    stderr: int
    exit_fd: int
    wire: Ends | None

    def wait(self, timeout: float | None) -> bool:
        """Wait `timeout` seconds for its end; say whether it has ended."""
        ...

    def kill(self, number: int) -> None:
        """Send a signal to it and all its group, if it has not been collected yet."""
        ...

    def peek(self) -> Exit | None:
        """Say how it ended, and let it be collected by and by; None while it runs."""
        ...

    def collect(self) -> Exit:
        """Leave no zombie, and say how it ended. To be called once it has ended."""
        ...


def milliseconds(seconds: float | None) -> int | None:
    """Return what `poll` takes for so many seconds; None, or infinity, is without limit."""
    if seconds is None or math.isinf(seconds):
        return None
    return min(max(math.ceil(seconds * 1000), 0), 2**31 - 1)


def signal_name(number: int) -> str:
    """Return "SIGSEGV" for 11; real-time signals have only their number."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
