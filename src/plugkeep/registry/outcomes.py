"""Telling what many plugins' starts or stops have come to."""

from __future__ import annotations

from collections.abc import Iterable

from plugkeep.errors import PluginError


def raise_for(name: str, errors: list[PluginError]) -> None:
    """Raise the error of plugin `name`, else the first; what else went wrong as notes."""
    if not errors:
        return
    chosen = next((error for error in errors if error.plugin == name), errors[0])
    others = [error for error in errors if error is not chosen]
    if others and chosen.__cause__ is None:
        chosen.__cause__ = others[0]
    add_notes(chosen, others)
    raise chosen


def raise_or_note(errors: list[PluginError], raised: BaseException | None) -> None:
    """Add the errors of a stop to what has been raised, or raise them if nothing has."""
    if raised is not None:
        add_notes(raised, errors)
    elif errors:
        raise ExceptionGroup(f"{_plugins(errors)} failed to stop", errors)


def add_notes(error: BaseException, others: Iterable[PluginError]) -> None:
    """Note on `error` what else went wrong."""
    for other in others:
        error.add_note(str(other))


def not_started(errors: list[PluginError]) -> str:
    """Return the headline for a strict start that failed."""
    return f"{_plugins(errors)} did not start, so all were stopped again"


def _plugins(errors: list[PluginError]) -> str:
    return f"{len(errors)} plugin{'s' if len(errors) > 1 else ''}"
