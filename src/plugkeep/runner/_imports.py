"""What a forked plugin has imported beyond what its zygote had: what others may want, too."""

from __future__ import annotations

import sys
from itertools import islice

#: How many modules there were before the fork; None: this process is no fork.
BEFORE: int | None = None
#: Where modules are that are installed. Found out before a fork, for that takes its time.
FOLDERS: tuple[str, ...] = ()
#: So many are told, at most.
_MOST = 100


def find_folders() -> None:
    """Find out where modules are installed."""
    global FOLDERS
    from sysconfig import get_path

    names = ("stdlib", "platstdlib", "purelib", "platlib")
    FOLDERS = tuple(dict.fromkeys(f"{get_path(name)}/" for name in names))


def imported() -> list[str]:
    """Return the packages and modules that are installed, and were imported since the fork.

    None of somebody's own code, which may be changed at work: a fork would have it as it was.
    """
    if BEFORE is None:
        return []
    found = []
    # From the end: even to look at the names of those before would copy the memory they are in.
    for name in islice(reversed(sys.modules), max(0, len(sys.modules) - BEFORE)):
        origin = getattr(getattr(sys.modules.get(name), "__spec__", None), "origin", None) or ""
        if "." not in name and not name.startswith("_") and origin.startswith(FOLDERS):
            found.append(name)
    return sorted(found)[:_MOST]
