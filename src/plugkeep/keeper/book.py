"""The ledger that this keeper writes, and the folder where those of one user are.

It is a help for the case that all else has failed, so whatever is wrong with it is said once, and
holds up nothing.
"""

from __future__ import annotations

import errno
import os
from fcntl import LOCK_EX, LOCK_NB, flock

from plugkeep.keeper.killing import start_of
from plugkeep.keeper.ledger import BLANK, WIDTH, Process, headline, line
from plugkeep.keeper.telling import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ENDING = ".ledger"
_TRIES = 100


def places(environment: Mapping[str, str]) -> list[str]:
    """Return the folders for it, the best first. A login session takes the first one with it."""
    found = []
    runtime, temporary = (environment.get(name, "") for name in ("XDG_RUNTIME_DIR", "TMPDIR"))
    # One that another user's session has left in the environment is that user's.
    if runtime[:1] == "/" and _is_ours(runtime):
        found.append(f"{runtime}/plugkeep")
    temporary = temporary if temporary[:1] == "/" else "/tmp"  # noqa: S108  # see `open_folder`
    return [*found, f"{temporary}/plugkeep-{os.geteuid()}"]


def _is_ours(folder: str) -> bool:
    with suppress(OSError):
        status = os.stat(folder)
        return status.st_uid == os.geteuid() and not status.st_mode & 0o022
    return False


def open_folder(path: str) -> int:
    """Return a descriptor of the folder, made if need be. Raises OSError where it is not ours."""
    with suppress(FileExistsError):
        os.mkdir(path, 0o700)
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    status = os.fstat(folder)
    if status.st_uid != os.geteuid() or status.st_mode & 0o077:
        os.close(folder)
        raise PermissionError(errno.EPERM, "it is not this user's alone")
    return folder


def here() -> tuple[bytes, bytes]:
    """Return in which boot, and in which of its namespaces, our numbers of processes count."""
    with open("/proc/sys/kernel/random/boot_id", "rb") as file:
        return file.read().strip(), os.fsencode(os.readlink("/proc/self/ns/pid"))


class Book:
    """A ledger in which children are entered. It is locked for as long as this process lives."""

    def __init__(self, warn: Callable[[str], object]) -> None:
        self._warn = warn
        self._file = self._folder = -1
        self._name = ""
        self._slots: dict[int, int] = {}
        self._free: list[int] = []
        self._is_whole = True

    @property
    def is_open(self) -> bool:
        """Whether anything is noted down."""
        return self._file >= 0

    def open(self, folder: int) -> None:
        """Begin it there. Raises OSError where that cannot be."""
        pid = os.getpid()
        head = [headline(*here())]
        for kind, each in ((b"host", os.getppid()), (b"keeper", pid)):
            head.append(line(kind, Process(each, start_of(each) or 0)))
        self._name, self._file = _made(folder, f"{pid}-{start_of(pid)}")
        self._folder = os.dup(folder)
        self._free = [len(head)]
        try:
            os.pwrite(self._file, b"".join(head), 0)
        except OSError:
            self.close()
            raise

    def enter(self, pid: int, name: bytes) -> None:
        """Note a child down."""
        start = start_of(pid)
        if self._file < 0 or start is None:
            return
        slot = self._free.pop()
        if not self._free:
            self._free.append(slot + 1)
        self._slots[pid] = slot
        text = line(b"child", Process(pid, start, name.decode("utf-8", "replace")))
        try:
            os.pwrite(self._file, text, slot * WIDTH)
        except OSError as error:
            if self._is_whole:
                self._warn(f"processes cannot be noted down in the ledger: {error}")
            self._is_whole = False

    def strike(self, pid: int) -> None:
        """Take a child out that is gone."""
        if (slot := self._slots.pop(pid, None)) is not None:
            with suppress(OSError):
                os.pwrite(self._file, BLANK, slot * WIDTH)
            self._free.append(slot)

    def close(self) -> None:
        """Remove it, for nothing is left that somebody might have to look for."""
        if self._file < 0:
            return
        with suppress(OSError):
            if is_at(self._file, self._folder, self._name):
                os.unlink(self._name, dir_fd=self._folder)
        os.close(self._file)
        os.close(self._folder)
        self._file = self._folder = -1


def _made(folder: int, stem: str) -> tuple[str, int]:
    """Return name and descriptor of a new file, which is locked."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    for number in range(_TRIES):
        name = f"{stem}-{number}{ENDING}"
        with suppress(FileExistsError, BlockingIOError):
            file = os.open(name, flags, 0o600, dir_fd=folder)
            try:
                flock(file, LOCK_EX | LOCK_NB)
                # Until now another one might have taken it for a dead one's, and swept it.
                if is_at(file, folder, name):
                    return name, file
            except OSError:
                os.close(file)
                raise
            os.close(file)
    raise FileExistsError(errno.EEXIST, "no name for a ledger is free")


def is_at(file: int, folder: int, name: str) -> bool:
    """Say whether an open file is still the one of that name."""
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(found, os.fstat(file))
