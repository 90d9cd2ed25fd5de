"""What is imported before plugins are forked, and not by each of them anew."""

from __future__ import annotations

import threading
from collections.abc import Iterable

#: What somebody has said; None: nobody has, and what plugins share is found out.
_said: tuple[str, ...] | None = None
#: Which plugins have imported a module, of those that are installed.
_users: dict[str, set[str]] = {}
#: What several have, in the order in which that was found out.
_shared: dict[str, None] = {}
_lock = threading.Lock()
#: So many plugins have to share a module until it is imported beforehand.
_SEVERAL = 2
#: So many modules are kept account of.
_MOST = 1000


def preimport(*modules: str) -> None:
    """Have these modules imported once, by the process of which isolated plugins are forks.

    Each plugin that needs them then starts sooner, and shares most of their memory with the
    others. What is said here replaces what was said before, for all plugins of this process that
    are started from now on. Without it these are the installed modules, Python's own among them,
    that two plugins have imported already; ``preimport()`` is for none at all.

    A module that cannot be imported, or leaves behind what a fork must not have (threads, open
    files, handlers of signals, ...) is imported by each plugin itself, as without this; the log
    says so. ValueError: a name is none.
    """
    global _said
    _said = tuple(dict.fromkeys(map(_checked, modules)))


def learn(plugin: str, modules: Iterable[str]) -> None:
    """Note that a plugin has imported these."""
    with _lock:
        for module in modules:
            if module not in _users and len(_users) >= _MOST:
                continue
            users = _users.setdefault(module, set())
            users.add(plugin)
            if len(users) == _SEVERAL:
                _shared[module] = None


def wanted() -> tuple[str, ...]:
    """Return what is to be imported before the next fork."""
    with _lock:
        return tuple(_shared) if _said is None else _said


def was_asked_for(module: str) -> bool:
    """Say whether somebody has named a module, rather than that it was found to be shared."""
    return _said is not None and module in _said


def _checked(module: object) -> str:
    if isinstance(module, str) and all(part.isidentifier() for part in module.split(".")):
        return module
    raise ValueError(f"module {module!r} to be imported before a fork is no name of a module")
