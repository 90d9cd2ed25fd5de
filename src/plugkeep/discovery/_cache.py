"""What was found on each entry of the search path, kept on disk.

There is a small file for each entry and group. So processes with different paths share what they
have in common, and two that write at once replace each other's file by an equal one. A record is
served only while everything that decided it looks as it did, and only if this user wrote it and
nobody else could have.

A record is text: a line with a checksum of all that follows, then one for the entry, the group,
the distributions, the stamps, what is declared, and the complaints. Fields are parted by a
character at which `str.splitlines` parts lines, so no line has it; a file whose name has it
makes a record that nobody can read, and is looked for anew each time.
"""

from __future__ import annotations

import os
import stat
from binascii import crc32
from collections.abc import Iterator
from time import time_ns
from typing import Any

from plugkeep.discovery._listing import BETWEEN, Listing
from plugkeep.discovery._path_entry import is_true

_MAGIC = b"plugkeep entry points 1"

#: For any text whatever, so also for names of files that are not UTF-8.
_ENCODING = ("utf-8", "surrogatepass")

#: Files in the cache; beyond it the older half goes.
_MOST_FILES = 256

#: Bytes of a record; that of a path with thousands of distributions has less than a tenth.
_MOST_BYTES = 16 * 2**20


def cache_folder() -> str | None:
    """Return the folder for records, which may not exist yet; None where there is to be none."""
    chosen = os.environ.get("PLUGKEEP_CACHE_DIR")
    if chosen is None:
        chosen = os.environ.get("XDG_CACHE_HOME", "")
        if not os.path.isabs(chosen):  # to be ignored, says the XDG specification
            chosen = os.path.expanduser("~/.cache")
        chosen = f"{chosen}/plugkeep"
    elif chosen:
        chosen = os.path.abspath(chosen)
    return f"{chosen}/entry-points" if os.path.isabs(chosen) else None


def load(folder: str, path: str, group: str) -> Listing | None:
    """Return the record of one entry of the path; None unless it is ours, whole and still true."""
    head, _, body = _read(_file(folder, path, group)).partition(b"\n")
    if head != _head(body):
        return None
    listing = _decode(body, path, group)
    return listing if listing and is_true(path, listing.stamps) else None


def store(folder: str, path: str, group: str, listing: Listing) -> None:
    """Keep a record of one entry of the path. If that cannot be, nothing is said."""
    body = _encode(path, group, listing)
    try:
        if _make_ours(folder):
            _replace(_file(folder, path, group), _head(body) + b"\n" + body)
            _prune(folder)
    except OSError:
        return


def _encode(path: str, group: str, listing: Listing) -> bytes:
    tables = (listing.stamps.items(), listing.declared, listing.complaints)
    rows = (BETWEEN.join(field for row in table for field in row) for table in tables)
    return "\n".join((path, group, listing.distributions, *rows)).encode(*_ENCODING)


def _decode(body: bytes, path: str, group: str) -> Listing | None:
    """Return what `body` says; None unless it is a record of that entry and group."""
    try:
        lines = body.decode(*_ENCODING).split("\n")
        of_path, of_group, distributions, stamps, declared, complaints = lines
        rows = tuple(_rows(declared, 5)), tuple(_rows(complaints, 2)), dict(_rows(stamps, 2))
    except ValueError:  # no such text, not enough lines or fields, or too many
        return None
    return Listing(distributions, *rows) if (of_path, of_group) == (path, group) else None


def _rows(text: str, width: int) -> Iterator[Any]:
    fields = iter(text.split(BETWEEN) if text else ())
    return zip(*[fields] * width, strict=True)


def _head(body: bytes) -> bytes:
    return b"%s %08x" % (_MAGIC, crc32(body))


def _file(folder: str, path: str, group: str) -> str:
    name = f"{path}\n{group}".encode(*_ENCODING)
    return f"{folder}/{crc32(name):08x}{crc32(name[::-1]):08x}"


def _read(file: str) -> bytes:
    """Return what is in a file that is ours and that no one else may write; else nothing."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return b""
    try:
        status = os.fstat(descriptor)
        sound = stat.S_ISREG(status.st_mode) and status.st_size <= _MOST_BYTES
        return os.read(descriptor, status.st_size) if sound and _is_ours(status) else b""
    except OSError:
        return b""
    finally:
        os.close(descriptor)


def _is_ours(status: os.stat_result) -> bool:
    return status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _make_ours(folder: str) -> bool:
    """Make `folder` unless it is there, and say whether it is ours alone to write.

    Nothing is made among another user's files: under sudo it would be root's for ever.
    """
    if not os.path.isdir(folder):
        above = folder
        while not os.path.exists(above):
            above = os.path.dirname(above)
        if os.stat(above).st_uid not in (0, os.geteuid()):
            return False
        os.makedirs(folder, mode=0o700, exist_ok=True)
    return _is_ours(os.stat(folder))


def _replace(file: str, content: bytes) -> None:
    """Put `content` in place at once, so that a reader sees the old file or the new one."""
    unfinished = f"{file}.{os.getpid()}.{time_ns()}"
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as stream:
            stream.write(content)
        os.replace(unfinished, file)
    except BaseException:
        os.unlink(unfinished)
        raise


def _prune(folder: str) -> None:
    """Remove the older half of the files once they are too many: those of paths long gone."""
    with os.scandir(folder) as found:
        files = [(entry.stat(follow_symlinks=False).st_mtime_ns, entry.path) for entry in found]
    if len(files) > _MOST_FILES:
        for _, file in sorted(files)[: len(files) // 2]:
            os.unlink(file)
