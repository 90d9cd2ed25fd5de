"""The entries of the search path: folders and archives, and how they looked when they were read.

Whatever decides an answer is stamped first and read afterwards, so a change in between shows in
the stamp later on.
"""

from __future__ import annotations

import os
import stat

ENTRY_POINTS = "entry_points.txt"
PKG_INFO = "PKG-INFO"

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


def stamp(path: str) -> str:
    """Return how a file or folder looks, as text that differs once it has changed; "" if none.

    The time of its last status change is part of it, for nothing sets that back, as archives and
    copying tools do with the time of modification.
    """
    try:
        return _stamp(os.stat(path))
    except (OSError, ValueError):
        return ""


def _stamp(status: os.stat_result | None) -> str:
    if status is None:
        return ""
    return (
        f"{status.st_dev} {status.st_ino} {status.st_size} "
        f"{status.st_mtime_ns} {status.st_ctime_ns}"
    )


def warn(message: str, *args: object) -> None:
    """Log a warning; logging is imported only for those who have something to be warned of."""
    import logging

    logging.getLogger("plugkeep.discovery").warning(message, *args)


class Folder:
    """A folder on the path.

    `names` are those in it. `stamps` grows with what is read: every file and folder, relative to
    this one, that decides what is found, and how it looked. `youngest` is when the last of them
    changed, in nanoseconds.
    """

    def __init__(self, path: str, status: os.stat_result) -> None:
        self._path = path
        self.youngest = status.st_ctime_ns
        self._looks: dict[str, str] = {}
        self.stamps = {"": _stamp(status)}
        self.names = os.listdir(path)

    def changed(self, folder: str) -> int:
        """Return when `folder` was last modified, in nanoseconds; -1 where it is no folder."""
        status = self._look(folder)
        self._looks[folder] = _stamp(status)
        return status.st_mtime_ns if status and stat.S_ISDIR(status.st_mode) else -1

    def read(self, folder: str, file: str) -> str | None:
        """Return the text of a file in `folder`, of which `changed` was asked; None if none."""
        name = f"{folder}/{file}"
        status = self._look(name)
        if status is None or not stat.S_ISREG(status.st_mode):
            self._watch(folder)
            return None
        self.stamps[name] = _stamp(status)
        try:
            with open(f"{self._path}/{name}", "rb") as stream:
                return _decode(stream.read())
        except OSError as error:
            self._give_up_on(name, error)
            return None

    def _watch(self, folder: str) -> None:
        # What an installer adds, it adds before INSTALLER. Without that one, more may come.
        if not os.path.exists(f"{self._path}/{folder}/INSTALLER"):
            self.stamps[folder] = self._looks[folder]

    def _look(self, name: str) -> os.stat_result | None:
        try:
            status = os.stat(f"{self._path}/{name}")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            self._give_up_on(name, error)
            return None
        self.youngest = max(self.youngest, status.st_ctime_ns)
        return status

    def _give_up_on(self, name: str, error: OSError) -> None:
        warn("%s/%s is skipped, it cannot be read: %s", self._path, name, error.strerror)
        self.youngest = _NEVER  # never settled: it is tried again each time


class Archive:
    """A zip file on the path, read as a whole; nothing but the file itself decides."""

    def __init__(self, path: str, status: os.stat_result) -> None:
        self.youngest = status.st_ctime_ns
        self._texts = _texts_in(path)
        self.stamps = {"": _stamp(status)}
        self.names = list(dict.fromkeys(name.partition("/")[0] for name in self._texts))

    def changed(self, folder: str) -> int:
        """Return 0: in an archive `folder` is as old as any other."""
        del folder
        return 0

    def read(self, folder: str, file: str) -> str | None:
        """Return the text of a file in `folder`, None if it has none."""
        return self._texts.get(f"{folder}/{file}")


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
