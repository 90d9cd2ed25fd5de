"""What a forked plugin has imported beyond what its zygote had: what others may want, too."""

from __future__ import annotations

import sys

#: The modules that there were before the fork; None: this process is no fork.
BEFORE: frozenset[str] | None = None
#: So many are told, at most.
_MOST = 100


def imported() -> list[str]:
    """Return the packages and modules that are installed, and were imported since the fork.

    None of somebody's own code, which may be changed at work: a fork would have it as it was.
    """
    if BEFORE is None:
        return []
    from sysconfig import get_path

    folders = tuple(f"{get_path(name)}/" for name in ("stdlib", "platstdlib", "purelib", "platlib"))
    found = []
    for name in sys.modules.keys() - BEFORE:
        origin = getattr(getattr(sys.modules.get(name), "__spec__", None), "origin", None) or ""
        if "." not in name and not name.startswith("_") and origin.startswith(folders):
            found.append(name)
    return sorted(found)[:_MOST]
