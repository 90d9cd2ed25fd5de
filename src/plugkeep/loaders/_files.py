"""Files that sources name: there, and of use."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from plugkeep.errors import SourceNotFoundError, UnusableSourceError, did_you_mean

#: What may be asked of a file, and what to say where it is refused.
_REFUSALS = {
    os.R_OK: "may not be read by this user",
    os.X_OK: "is not executable by this user; chmod +x may be missing",
}


def check_file(path: Path, source: str, access: int = os.R_OK) -> None:
    """Raise unless `path` is an ordinary file that can be read, or, with X_OK, executed.

    Raises SourceNotFoundError, naming near misses, and UnusableSourceError. A pipe or a device
    is refused before it is opened, for that could wait for ever.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise SourceNotFoundError(
            f"there is no file {str(path)!r}{near_files(path)}", source=source
        ) from None
    except OSError as error:
        raise UnusableSourceError(
            f"{str(path)!r} cannot be used: {error.strerror}", source=source
        ) from error
    if not stat.S_ISREG(mode):
        found = "is a folder" if stat.S_ISDIR(mode) else "is no ordinary file"
        raise UnusableSourceError(f"{str(path)!r} {found}; name a file", source=source)
    if not os.access(path, access):
        raise UnusableSourceError(f"{str(path)!r} {_REFUSALS[access]}", source=source)


def near_files(path: Path) -> str:
    """Return the end of a sentence that names the files beside `path` with names like its own."""
    with suppress(OSError):
        return did_you_mean(path.name, (each.name for each in path.parent.iterdir()))
    return ""
