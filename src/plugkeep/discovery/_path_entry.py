"""The entries of the search path: folders and archives, and how they looked when they were read.

Whatever decides an answer is looked at first and read afterwards, so a change in between shows
later on.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping

ENTRY_POINTS = "entry_points.txt"
PKG_INFO = "PKG-INFO"

#: A file system's clock ticks every 10 ms or faster, some every second or two. What changed a
#: shorter time ago may change once more and look the same. (Git calls it racily clean.)
_FINE_TICK_NS, _COARSE_TICK_NS = 100_000_000, 3_000_000_000

_NEVER = 1 << 63


def open_entry(path: str) -> Folder | Archive | None:
    """Return the folder or the archive at `path`; None where neither can be read."""
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            return Folder(path, status)
        return Archive(path, status) if stat.S_ISREG(status.st_mode) else None
    except (OSError, ValueError):  # ValueError: a null character in the path
        return None


def stamp(status: os.stat_result) -> str:
    """Return how a file or folder looks, as text that differs once it has changed.

    Every change of content is one of status, too, and nothing sets the time of that back, as
    archives and copying tools do with the time of modification.
    """
    return f"{status.st_ctime_ns} {status.st_ino}"


def is_true(path: str, stamps: Mapping[str, str]) -> bool:
    """Say whether all that is in or at `path` looks as in `stamps`; "" is for what is not there."""
    for name, stamped in stamps.items():
        try:
            now = stamp(os.stat(f"{path}/{name}" if name else path))
        except (OSError, ValueError):
            now = ""
        if now != stamped:
            return False
    return True


def _settles(status: os.stat_result) -> int:
    """Return from when on every change is sure to show in the stamp."""
    coarse = status.st_ctime_ns % 1_000_000_000 == 0
    return status.st_ctime_ns + (_COARSE_TICK_NS if coarse else _FINE_TICK_NS)


def warn(message: str, *args: object) -> None:
    """Log a warning; logging is imported only for those who have something to be warned of."""
    import logging

    logging.getLogger("plugkeep.discovery").warning(message, *args)


class Folder:
    """A folder on the path.

    `names` are those in it, and `stamps` how it looked itself, with all of what was looked at
    in it that is to be watched.
    """

    def __init__(self, path: str, status: os.stat_result) -> None:
        self._path = path
        self._settles = _settles(status)
        self._looks: dict[str, str] = {}
        self.stamps = {"": stamp(status)}
        self.names = os.listdir(path)

    def changed(self, folder: str) -> int:
        """Return when `folder` was last modified, in nanoseconds; -1 where it is no folder."""
        status = self._look(folder)
        return status.st_mtime_ns if status and stat.S_ISDIR(status.st_mode) else -1

    def read(self, file: str) -> str | None:
        """Return the text of a file, None where there is none that can be read."""
        status = self._look(file)
        if status is None or not stat.S_ISREG(status.st_mode):
            return None
        try:
            with open(f"{self._path}/{file}", "rb") as stream:
                return _decode(stream.read())
        except OSError as error:
            self._give_up_on(file, error)
            return None

    def has(self, *files: str) -> bool:
        """Say whether there is any of these files."""
        return any(os.path.exists(f"{self._path}/{file}") for file in files)

    def watch(self, name: str) -> None:
        """Add to the stamps a file or folder that was looked at."""
        self.stamps[name] = self._looks[name]

    def settled(self, now: int) -> bool:
        """Say whether any change after `now`, in nanoseconds, is sure to show in a stamp."""
        return self._settles < now

    def _look(self, name: str) -> os.stat_result | None:
        self._looks[name] = ""
        try:
            status = os.stat(f"{self._path}/{name}")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            self._give_up_on(name, error)
            return None
        self._looks[name] = stamp(status)
        self._settles = max(self._settles, _settles(status))
        return status

    def _give_up_on(self, name: str, error: OSError) -> None:
        warn("%s/%s is skipped, it cannot be read: %s", self._path, name, error.strerror)
        self._settles = _NEVER  # it is tried again each time


class Archive:
    """A zip file on the path, read as a whole; nothing but the file itself decides."""

    def __init__(self, path: str, status: os.stat_result) -> None:
        self._settles = _settles(status)
        self._texts = _texts_in(path)
        self.stamps = {"": stamp(status)}
        self.names = list(dict.fromkeys(name.partition("/")[0] for name in self._texts))

    def changed(self, folder: str) -> int:
        """Return 0: in an archive `folder` is as old as any other."""
        del folder
        return 0

    def read(self, file: str) -> str | None:
        """Return the text of a file, None if there is none."""
        return self._texts.get(file)

    def has(self, *files: str) -> bool:
        """Say whether there is any of these files."""
        return any(file in self._texts for file in files)

    def watch(self, name: str) -> None:
        """Do nothing: a change of `name` is one of the archive."""

    def settled(self, now: int) -> bool:
        """Say whether any change after `now`, in nanoseconds, is sure to show in the stamp."""
        return self._settles < now


def _texts_in(path: str) -> dict[str, str]:
    import zipfile

    if not zipfile.is_zipfile(path):
        return {}
    try:
        with zipfile.ZipFile(path) as archive:
            return {
                name: _decode(archive.read(name)) if name.endswith((ENTRY_POINTS, PKG_INFO)) else ""
                for name in archive.namelist()
                if name.count("/") == 1
            }
    except Exception as error:  # a damaged archive can raise nearly anything
        warn("%s is skipped, it cannot be read: %r", path, error)
        return {}


def _decode(content: bytes) -> str:
    # Some editors put a mark at the beginning. A stray byte spoils its own line, not the file.
    return content.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
