"""A warm interpreter that waits, and forks the process of a plugin whenever its host asks for one.

Descriptor 3 is a socket to the host: it sends what to import, and then one order after another.
Descriptor 4 is one to the keeper, which is to become the parent of what is forked: there it is told
of each, before it can have been orphaned.
"""

from __future__ import annotations

import _socket as sockets
import gc
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from fcntl import F_DUPFD_CLOEXEC, fcntl
from importlib import import_module
from typing import Any, Final, NoReturn

from plugkeep.channel import parcels
from plugkeep.keeper.tether import die_with
from plugkeep.runner import _began, _imports
from plugkeep.runner._fitness import Fitness, Unfit
from plugkeep.runner._rehearsal import rehearse

#: What nearly every plugin's runner imports before it is ready.
_WARM: Final = (
    *("asyncio", "hashlib", "inspect", "logging", "traceback", "typing"),
    *("plugkeep.channel.failures", "plugkeep.config.typed", "plugkeep.loaders"),
    *("plugkeep.loaders.entry_point", "plugkeep.loaders.file", "plugkeep.loaders.python"),
    *("plugkeep.runner._aio", "plugkeep.runner._channel", "plugkeep.runner._life"),
    *("plugkeep.runner._logging", "plugkeep.runner._output", "plugkeep.runner.runner"),
)
#: Descriptors below this number are kept free, for those that a plugin is to have.
_RESERVED: Final = 10
_GO: Final = b"."
#: What the host's messages are: modules to import. (All others are orders, with a name.)
IMPORT: Final = b"I"


def await_turn() -> list[str]:
    """Fork whenever it is asked for; return in the forks, with the arguments for the runner."""
    zygote = _Zygote(*_settle_in())
    zygote.prepare()
    while True:
        arguments = zygote.next()
        if arguments is not None:
            return arguments


def _settle_in() -> tuple[sockets.socket, sockets.socket]:
    """Take the sockets to where they are in nobody's way, and have nobody read what we print."""
    host, keeper = (
        sockets.socket(fileno=fcntl(number, F_DUPFD_CLOEXEC, _RESERVED)) for number in (3, 4)
    )
    while (null := os.open(os.devnull, os.O_RDWR)) < _RESERVED:
        pass
    for number in (1, 2, 3, 4):
        os.dup2(null, number, inheritable=number < 3)
    os.close(null)
    return host, keeper


class _Zygote:
    def __init__(self, host: sockets.socket, keeper: sockets.socket) -> None:
        self._host, self._keeper = host, keeper
        # If it has ended already, so have we: it has asked the kernel for that before.
        self._parent = os.getppid()
        self._path = list(sys.path)
        self._fitness = Fitness()

    def prepare(self) -> None:
        """Import what nearly all need, and what the host says."""
        _, (descriptor,) = self._receive()
        for name in _WARM:
            import_module(name)
        rehearse()
        _imports.find_folders()
        self._import(descriptor)

    def _import(self, descriptor: int) -> None:
        """Import what the host says. Where something makes forking impossible, tell it, and end."""
        path, modules = parcels.read(descriptor)
        os.close(descriptor)
        sys.path[:] = [*path, *self._path]
        self._fitness.begin()
        for name in modules:
            try:
                self._fitness.check(name)
            except Unfit as unfit:
                parcels.send(self._host, f"{name}\n{unfit}".encode("utf-8", "backslashreplace"))
                os._exit(1)
        sys.path[:] = self._path
        gc.collect()
        gc.freeze()  # so that no fork touches, and thereby copies, what all have in common

    def next(self) -> list[str] | None:
        """Do what the next order says. None: that has been done."""
        message, descriptors = self._receive()
        if not message:
            os._exit(0)
        if message == IMPORT:
            self._import(*descriptors)
            return None
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        intermediate = os.fork()
        if not intermediate:
            return self._give_birth(message[1:], *descriptors)
        os.waitpid(intermediate, 0)
        for descriptor in descriptors:
            os.close(descriptor)
        return None

    def _receive(self) -> tuple[bytes, list[int]]:
        """Wait for what the host says. The end of the keeper is our end, too."""
        while True:
            parcels.wait(-1, self._host.fileno(), self._keeper.fileno())
            with suppress(BlockingIOError):
                return parcels.receive(self._host)
            os._exit(0)

    def _give_birth(
        self, name: bytes, report: int, order: int, folder: int, *theirs: int
    ) -> list[str]:
        """Fork again, and end, so that the keeper becomes the parent of what is forked."""
        try:
            os.fchdir(folder)
            me = os.pidfd_open(os.getpid())
            awaited, give = os.pipe()
            plugin = os.fork()
            if plugin:
                self._announce(plugin, name, report, give)
        except OSError as error:
            parcels.send(sockets.socket(fileno=report), b"E%d" % (error.errno or 0))
            os._exit(1)
        os.close(give)
        # What nobody has heard of must not run.
        if os.read(awaited, 1) != _GO:
            os._exit(1)
        parcels.wait(-1, me)  # until the keeper is our parent
        die_with(self._parent)
        for each in (self._host, self._keeper):
            each.detach()  # they are closed with all the rest
        return _become(parcels.read(order), theirs)

    def _announce(self, plugin: int, name: bytes, report: int, give: int) -> NoReturn:
        parcels.send(self._keeper, b"%d %s" % (plugin, name), (os.pidfd_open(plugin), report))
        os.write(give, _GO)
        os._exit(0)


def _become(order: Any, theirs: Sequence[int]) -> list[str]:
    """Be what a fresh interpreter would be; return the arguments for the runner."""
    program, (_, *arguments), environment, mask = order
    _began.BEGAN = time.time()
    _imports.BEFORE = len(sys.modules)
    os.setsid()
    for number, descriptor in enumerate(theirs):
        os.dup2(descriptor, number)
    for number in map(int, os.listdir("/proc/self/fd")):
        if number >= len(theirs):
            with suppress(OSError):  # the listing's own
                os.close(number)
    os.environb.clear()
    os.environb.update(environment)
    time.tzset()
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    sys.orig_argv[:] = map(os.fsdecode, (program, *arguments))
    _forget_what_is_shared()
    given = sys.orig_argv[4:]  # after: python -P -m plugkeep.runner
    _be_named(next((each[7:] for each in given if each.startswith("--name=")), "plugin"))
    return given


def _be_named(name: str) -> None:
    """Tell plugins apart for `ps` and `top`, to which all forks have one command line."""
    with suppress(OSError), open("/proc/self/comm", "wb") as file:
        file.write(name.encode()[:15])


def _forget_what_is_shared() -> None:
    """Have nothing random in common with other forks; `random` itself has seen to that already."""
    if numbers := sys.modules.get("numpy.random"):
        numbers.seed()
    if processes := sys.modules.get("multiprocessing.process"):
        processes.current_process().authkey = os.urandom(32)
