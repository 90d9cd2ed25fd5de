"""What is imported before plugins are forked, and not by each of them anew."""

from __future__ import annotations

_wanted: tuple[str, ...] = ()


def preimport(*modules: str) -> None:
    """Have these modules imported once, by the process of which isolated plugins are forks.

    Each plugin that needs them then starts sooner, and shares most of their memory with the
    others. What is said here replaces what was said before, for all plugins of this process that
    are started from now on. A module that cannot be imported, or leaves behind what a fork must
    not have (threads, open files, handlers of signals, ...) is imported by each plugin itself, as
    without this; a warning in the log says so.
    """
    global _wanted
    _wanted = tuple(dict.fromkeys(map(_checked, modules)))


def wanted() -> tuple[str, ...]:
    """Return what `preimport` was told last."""
    return _wanted


def _checked(module: object) -> str:
    if isinstance(module, str) and all(part.isidentifier() for part in module.split(".")):
        return module
    raise ValueError(f"module {module!r} to be imported before a fork is no name of a module")
