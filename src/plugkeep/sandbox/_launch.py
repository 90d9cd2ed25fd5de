"""From a command to a running process, or to an error that says what to do about it."""

from __future__ import annotations

import errno
import logging
import math
import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from plugkeep.channel.ends import Ends
from plugkeep.errors import LaunchError, ProgramNotFoundError
from plugkeep.sandbox._process import Order, Process

if TYPE_CHECKING:
    from plugkeep.sandbox.keeper.kept import Launched

#: What the host offers is said in these variables of the child's environment.
WIRE = "PLUGKEEP_WIRE"
WIRE_FDS = "PLUGKEEP_WIRE_FDS"

#: Starts a process, until so late on the monotonic clock, or raises LaunchError. The seam for other
#: places where one may run.
Launch = Callable[[float], Process]


@dataclass(frozen=True, slots=True)
class Command:
    """What to execute, and in which surroundings, on behalf of `plugin`."""

    plugin: str
    #: A bare name, looked up on PATH, or an absolute path.
    path: str
    args: tuple[str, ...]
    #: The whole environment; None: the host's.
    env: Mapping[str, str] | None
    #: The working directory; None: the host's.
    cwd: str | None

    #: The highest level of the wire that is offered.
    wire: int = 0
    #: Whether only frames are listened to; else a ready message may come on stdout, too.
    frames_only: bool = False
    #: Whether a fork of a warm interpreter does as well: it is our runner, in this very Python.
    forks: bool = False

    def launch(self, deadline: float = math.inf) -> Process:
        """Start it in a session of its own, so that Ctrl-C in the host's terminal spares it.

        Raises LaunchError, also where that has not been done by `deadline`, and
        ProgramNotFoundError where there is no such program.
        """
        from plugkeep.sandbox.keeper.client import keeper

        if self.forks and (forked := self._forked(deadline)):
            return forked
        program = self._find() if "/" not in self.path else self.path
        return self._launched(program, lambda order: keeper().launch(order), deadline)

    def _forked(self, deadline: float) -> Process | None:
        """Have it forked; None: that cannot be, and the log says why."""
        from plugkeep.sandbox.keeper.zygote import NoFork, fork

        try:
            return self._launched(self.path, fork, deadline)
        except NoFork as reason:
            text = "plugin %r is started in a fresh interpreter, not by a fork: %s"
            logging.getLogger("plugkeep.sandbox").info(text, self.plugin, reason)
            return None

    def _launched(
        self, program: str, launch: Callable[[Order], Launched], deadline: float
    ) -> Process:
        from plugkeep.sandbox.keeper.kept import KeptProcess

        with ExitStack() as ours, ExitStack() as theirs:
            try:
                child_in, stdin = (_null(theirs), None) if self.frames_only else _pipe(theirs, ours)
                stdout, child_out = _pipe(ours, theirs)
                stderr, child_err = _pipe(ours, theirs)
                wire, passed = _wire(ours, theirs) if self.wire > 1 else (None, ())
                environment = self._environment(len(passed))
                ends = (child_in, child_out, child_err, *passed)
                order = Order(
                    program, self.args, environment, self.cwd, ends, deadline, self.plugin
                )
                launched = launch(order)
                process = KeptProcess(launched, stdin, stdout, stderr, wire)
            except LaunchError:
                raise
            except OSError as error:
                raise self._diagnose(program, error) from error
            ours.pop_all()
        return process

    def _environment(self, passed: int) -> dict[str, str]:
        """Return the child's environment; what the host itself was offered is not for the child."""
        environment = dict(os.environ if self.env is None else self.env)
        environment.pop(WIRE, None)
        environment.pop(WIRE_FDS, None)
        if self.wire:
            environment[WIRE] = str(self.wire)
        if passed:
            environment[WIRE_FDS] = ",".join(str(3 + n) for n in range(passed))
        return environment

    def _find(self) -> str:
        """Look the bare name up on the host's PATH, whatever PATH the plugin is to have."""
        for folder in os.get_exec_path():
            candidate = Path(folder, self.path)
            # In this order: in a folder that is closed to us it is an error to look at a file.
            if os.access(candidate, os.X_OK) and candidate.is_file():
                return str(candidate.absolute())
        here = ""
        if Path(self.path).exists():
            here = f"; for the one in this folder write './{self.path}'"
        raise ProgramNotFoundError(
            f"plugin {self.plugin!r} cannot start: no program {self.path!r} on PATH{here}",
            plugin=self.plugin,
        )

    def _diagnose(self, program: str, error: OSError) -> LaunchError:
        """Return `error` as one that says what is wrong with which file."""
        kind: type[LaunchError] = LaunchError
        if self.cwd is not None and not Path(self.cwd).is_dir():
            reason = f"its working directory {self.cwd!r} does not exist or is no directory"
        elif error.errno in _MISSING and not os.path.lexists(program):
            kind, reason = ProgramNotFoundError, f"{program!r} does not exist"
        elif (hint := _HINTS.get(error.errno or 0)) and (advice := hint(Path(program))):
            reason = f"{program!r} {advice}"
        else:
            reason = f"executing {program!r} failed: {error.strerror or error}"
        diagnosis = kind(f"plugin {self.plugin!r} cannot start: {reason}", plugin=self.plugin)
        diagnosis.errno, diagnosis.filename = error.errno, program
        return diagnosis


_MISSING = (errno.ENOENT, errno.ENOTDIR)


def _interpreter(program: Path) -> str:
    """Return what stands on the ``#!`` line, else ""."""
    try:
        with program.open("rb") as file:
            first = file.readline(256)
    except OSError:
        return ""
    return os.fsdecode(first[2:].lstrip().removesuffix(b"\n")) if first.startswith(b"#!") else ""


def _hint_not_found(program: Path) -> str:
    interpreter = _interpreter(program)
    if interpreter.endswith("\r"):
        return "has a #! line that ends in a carriage return; save it with Unix line endings"
    if interpreter:
        return f"names an interpreter that does not exist: #!{interpreter}; correct its first line"
    return "exists, but what it is to be run by does not: a broken link, or a missing ELF loader"


def _hint_permission(program: Path) -> str:
    if program.is_dir():
        return "is a directory; name the program in it"
    if not program.exists():
        return ""
    if not program.is_file():
        return "is no regular file"
    if not os.access(program, os.X_OK):
        return f"is not executable; run: chmod +x {program}"
    return (
        "may not be executed: its #! interpreter is not executable, or its disk is mounted noexec"
    )


def _hint_format(program: Path) -> str:
    with program.open("rb") as file:
        magic = file.read(4)
    if magic == b"\x7fELF":
        return "was built for another kind of machine"
    if not magic:
        return "is an empty file"
    return "is no program; a script begins with a line such as #!/bin/sh"


_HINTS: dict[int, Callable[[Path], str]] = {
    errno.ENOENT: _hint_not_found,
    errno.EACCES: _hint_permission,
    errno.ENOEXEC: _hint_format,
    errno.ETXTBSY: lambda _: "is being written; close it first",
}


def _null(theirs: ExitStack) -> int:
    descriptor = os.open(os.devnull, os.O_RDWR)
    theirs.callback(os.close, descriptor)
    return descriptor


def _pipe(reading: ExitStack, writing: ExitStack) -> tuple[int, int]:
    """Return the two ends of a new pipe, each to be closed by one of the stacks."""
    reader, writer = os.pipe()
    reading.callback(os.close, reader)
    writing.callback(os.close, writer)
    return reader, writer


def _wire(ours: ExitStack, theirs: ExitStack) -> tuple[Ends, tuple[int, int, int]]:
    """Return our ends of what level 2 runs over, and the descriptors of theirs."""
    from plugkeep.channel.apart import socket_pair

    with ExitStack() as unowned:
        their_read, write = _pipe(theirs, unowned)
        read, their_write = _pipe(unowned, theirs)
        own, other = socket_pair()
        unowned.enter_context(own)
        theirs.enter_context(other)
        os.set_blocking(read, False)
        os.set_blocking(write, False)
        own.setblocking(False)
        ends = Ends(read, write, own)
        unowned.pop_all()
    # They close themselves, and nobody else may: the numbers may be somebody's by then.
    ours.callback(ends.close)
    return ends, (their_read, their_write, other.fileno())
