"""What was found on each entry of the search path, kept on disk: one small file for each entry.

So processes with different paths share what they have in common, and two that write at once
replace each other's file by an equal one. A record is served only while everything that decided
it looks as it did, and only if this user wrote it and nobody else could have.

A record is text: a first line with a checksum of all that follows, the path, the distributions,
the stamps, and then one line for each line of an ``entry_points.txt``. Fields are parted by a
character at which `str.splitlines` parts lines, so none can hold it.
"""

from __future__ import annotations

import os
import stat
from binascii import crc32
from time import time_ns

from plugkeep.discovery._listing import Line, Listing
from plugkeep.discovery._path_entry import stamp

_MAGIC = b"plugkeep entry points 1"
_FIELD = "\x1e"

#: Files in the cache; beyond it the older half goes.
_MOST_FILES = 256


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
    """Return the record for one entry of the path, with the lines of `group` only.

    None unless there is one that is ours, whole and still true.
    """
    head, _, body = _read(_file(folder, path)).partition(b"\n")
    if head != _head(body):
        return None
    listing = _decode(body.decode("utf-8", "surrogateescape"), path, f"{group}{_FIELD}")
    return listing if listing and _still_true(path, listing) else None


def store(folder: str, path: str, listing: Listing) -> None:
    """Keep a record for one entry of the path. If that cannot be, nothing is said."""
    text = _encode(path, listing)
    if _decode(text, path) != listing:
        return  # there is a line end in one of the names
    body = text.encode("utf-8", "surrogateescape")
    try:
        if _make_ours(folder):
            _replace(_file(folder, path), _head(body) + b"\n" + body)
            _prune(folder)
    except OSError:
        return


def _encode(path: str, listing: Listing) -> str:
    stamps = (field for pair in listing.stamps.items() for field in pair)
    rows = (listing.distributions, stamps, *listing.lines)
    return "\n".join((path, *map(_FIELD.join, rows)))


def _decode(text: str, path: str, beginning: str = "") -> Listing | None:
    """Return the listing, with the lines that have this `beginning`; None unless it is of `path`."""
    try:
        written, distributions, stamps, *lines = text.split("\n")
        names = tuple(distributions.split(_FIELD)) if distributions else ()
        fields = iter(stamps.split(_FIELD))
        looks = dict(zip(fields, fields, strict=True))
        kept = tuple(Line(*line.split(_FIELD)) for line in lines if line.startswith(beginning))
    except (TypeError, ValueError):  # not enough fields, or too many
        return None
    return Listing(names, kept, looks, keep=True) if written == path else None


def _still_true(path: str, listing: Listing) -> bool:
    return all(
        stamp(f"{path}/{name}" if name else path) == stamped
        for name, stamped in listing.stamps.items()
    )


def _head(body: bytes) -> bytes:
    return b"%s %08x" % (_MAGIC, crc32(body))


def _file(folder: str, path: str) -> str:
    name = path.encode("utf-8", "backslashreplace")
    return f"{folder}/{crc32(name):08x}{crc32(name[::-1]):08x}"


def _read(file: str) -> bytes:
    """Return what is in a file that is ours and that no one else may write; else nothing."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return b""
    try:
        status = os.fstat(descriptor)
        regular = stat.S_ISREG(status.st_mode)
        return os.read(descriptor, status.st_size) if regular and _is_ours(status) else b""
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
