"""A plugin that misbehaves as it is told to, and is otherwise as sane as can be.

As a source it is ``python:plugkeep.testing.faulty``.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from plugkeep.plugin import expose
from plugkeep.testing.program.conduct import Conduct
from plugkeep.testing.program.deeds import Place, pipes_to_host
from plugkeep.testing.program.table import HERE, PROCESS, find, settle

#: The environment variable with the name of a fault that is committed before the plugin is ready,
#: when it has been given no configuration yet.
VARIABLE: Final = "PLUGKEEP_FAULT"
#: Seconds between two looks at whether the main thread has come to rest, and how many are enough.
_LOOK, _LOOKS = 0.01, 5


@dataclass(frozen=True)
class Misconduct:
    """What a `Faulty` does wrong: its `config`. Of the rest each fault takes what its row says.

    Raises ValueError where the fault is none, or does not take what is given.
    """

    fault: str | None = None
    #: Not when its moment comes, but in the n-th call and all after it; 0: when its moment comes.
    from_call: int = 0
    seconds: float | None = None
    status: int | None = None
    signal: str | None = None
    size: int | None = None
    count: int | None = None
    text: str | None = None

    def __post_init__(self) -> None:
        if self.fault is not None:
            settle(find(self.fault, _where()), self.how)
        elif self.how:
            raise ValueError(
                f"{', '.join(sorted(self.how))} without a fault, which is what takes it"
            )

    @property
    def how(self) -> dict[str, Any]:
        """The parameters of the fault that are given."""
        given = {key: value for key, value in asdict(self).items() if value is not None}
        return {key: given[key] for key in given.keys() - {"fault", "from_call"}}


class Faulty:
    """A plugin that misbehaves: `fault` is the name of one of `faults()`, None: it does not.

    `how` are the fault's parameters, such as ``seconds=2.0``, and `from_call`: then it is
    committed in the n-th call, of `echo`, `add`, `sleep` and `count`, and in those after it. In a
    host's file these are its `config`. Faults that end or freeze the process are refused where
    that is the host's own. Raises ValueError for what is no fault, or not to be had here.
    """

    config: Misconduct

    def __init__(self, fault: str | None = None, *, name: str = "faulty", **how: Any) -> None:
        self.name = name
        self._conduct = Conduct(_Here(), _where())
        self._told: Misconduct | None = None
        self.config = Misconduct(fault, **how)
        early = None if fault else os.environ.get(VARIABLE)
        if early and self._conduct.where == PROCESS:
            self._conduct.arm(early)
        self._obey()
        self._conduct.at("load")

    def start(self) -> None:
        """Start, in the way in which it was told to."""
        self._obey()
        self._conduct.at("start", "up")
        if self._conduct.where == PROCESS:
            _when_at_rest(lambda: self._conduct.at("running"))

    def stop(self) -> None:
        """Stop, in the way in which it was told to."""
        self._conduct.at("stop")

    def _obey(self) -> None:
        """Arm what the configuration says, once."""
        if self.config != self._told:
            self._told = self.config
            if self.config.fault is not None:
                self._conduct.arm(self.config.fault, self.config.from_call, **self.config.how)

    # --- what is sane about it ------------------------------------------------------------

    @expose
    def echo(self, value: Any) -> Any:
        """Return `value`."""
        self._conduct.in_call()
        return value

    @expose
    def add(self, a: float, b: float) -> float:
        """Return the sum."""
        self._conduct.in_call()
        return a + b

    @expose
    def sleep(self, seconds: float) -> None:
        """Return after so many seconds."""
        self._conduct.in_call()
        self._conduct.place.wait(seconds)

    @expose
    def count(self, n: int) -> Iterator[int]:
        """Stream the numbers from 0 to n - 1."""
        self._conduct.in_call()
        yield from range(n)

    @expose
    def pid(self) -> int:
        """Return the number of the process."""
        return os.getpid()

    @expose
    def health(self) -> str | None:
        """Return None when well, else what is wrong."""
        told: str | None = self._conduct.at("health")
        return told

    # --- on demand ------------------------------------------------------------------------

    @expose
    def misbehave(self, fault: str, **how: Any) -> Any:
        """Commit a fault now, or at its next start or stop if it is one for these.

        Returns what comes of it: of those that spawn, the numbers of the processes. Raises
        ValueError.
        """
        return self._conduct.commit(fault, **how)

    @expose(threaded=True)
    def behave(self) -> None:
        """Do nothing wrong any more: end what hangs, give back what was leaked and spawned."""
        self._conduct.behave()

    @expose(threaded=True)
    def spawned(self) -> list[int]:
        """Return the numbers of the processes that it has left running."""
        return list(self._conduct.place.pids)


PluginFactory = Faulty


def faulty_program() -> str:
    """Return what Python is to run for a program with the same faults, at level 0 or 1.

    ``ExecSandbox(sys.executable, faulty_program(), "--fault", "hang-in-stop")``. It is a folder
    that needs nothing but a Python, so it can be copied to anywhere.
    """
    return str(Path(__file__).with_name("program"))


class _Here(Place):
    """A Python process, the plugin's own or the host's."""

    def log(self, message: str) -> None:
        logging.getLogger("plugkeep.testing.faulty").warning(message)

    def print(self, stream: int, data: bytes) -> None:
        file = sys.stdout if stream == 1 else sys.stderr
        file.write(data.decode())
        file.flush()

    def wire(self) -> list[int]:
        return pipes_to_host()


def _where() -> str:
    """Say whether this is a process of the plugin's own: there our runner takes what is printed.

    That it has been imported does not count, for a host may have done so, and is not to be ended.
    """
    taker = getattr(threading.excepthook, "__self__", None)
    return PROCESS if type(taker).__module__ == "plugkeep.runner._output" else HERE


def _when_at_rest(act: Any) -> None:
    """Call `act` on another thread, when the main thread has come to wait for something.

    The host is told that the start has returned by what runs after it. Nobody tells the plugin
    that it has been, but then the main thread waits for what comes next.
    """

    def watch() -> None:
        seen: Any = None
        times = 0
        while times < _LOOKS:
            time.sleep(_LOOK)
            frame = sys._current_frames()[main.ident or 0]
            now = (id(frame), frame.f_lasti)
            times = times + 1 if now == seen else 0
            seen = now
        act()

    main = threading.main_thread()
    threading.Thread(target=watch, name="faulty", daemon=True).start()
