"""What a caller is told of a call that has no result."""

from __future__ import annotations

from typing import Any, NamedTuple

from msgspec import UNSET

from plugkeep.wire.messages import Code


class Failure(NamedTuple):
    """An error as it is answered."""

    code: int
    message: str
    data: Any = UNSET


def raised(error: BaseException) -> Failure:
    """Return what is said of an exception that a method raised."""
    return Failure(
        Code.RAISED, text_of(error), {"type": name_of(error), "traceback": traceback_of(error)}
    )


def name_of(error: BaseException) -> str:
    """Return the name of an exception's type; with its module, where it is not built in."""
    kind = type(error)
    return (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else (f"{kind.__module__}.{kind.__qualname__}")
    )


def text_of(error: BaseException) -> str:
    """Return the text of an exception, also of one whose ``str()`` raises."""
    try:
        return str(error)
    except BaseException as trouble:
        return f"<{type(error).__name__} without a text: str() raised {type(trouble).__name__}>"


def traceback_of(error: BaseException) -> str:
    """Return the traceback as text, without the frames that are ours."""
    import traceback

    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_globals.get("__package__") == __package__:
        trace = trace.tb_next
    try:
        return "".join(traceback.format_exception(type(error), error, trace))
    except BaseException as trouble:
        return f"<no traceback: {type(trouble).__name__} while it was written>"
