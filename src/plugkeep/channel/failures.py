"""Errors on the wire: what an answer says as an exception, and an exception as an answer."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any, Final, NamedTuple

from msgspec import UNSET

from plugkeep.errors import (
    CallCancelledError,
    CallError,
    CallTimeoutError,
    InvalidArgumentsError,
    MethodNotFoundError,
    NotGrantedError,
    NotStartedError,
    PluginBusyError,
    PluginError,
    QuarantinedError,
    ReentryLimitError,
    RemoteError,
    UnsendableValueError,
    did_you_mean,
)
from plugkeep.wire.messages import Code, ErrorObject


class Failure(NamedTuple):
    """Why a call has no result, as it is answered."""

    code: int
    message: str
    data: Any


class Called(NamedTuple):
    """What was called: a method of a plugin, which has some `methods` that are known."""

    plugin: str
    method: str
    methods: Callable[[], Collection[str]]


# --- an answer as an exception ----------------------------------------------------------------


def error_of(error: ErrorObject, called: Called) -> PluginError:
    """Return what the caller of a method is to be told where its answer is `error`."""
    make = _OF_CODE.get(error.code)
    if make is None:
        return _remote(error, called)
    return make(error, called)


def _remote(error: ErrorObject, called: Called) -> PluginError:
    data = error.data if type(error.data) is dict else {}
    kind, traceback = _text(data.get("type")), _text(data.get("traceback"))
    is_ours = error.code == Code.RAISED and kind
    return RemoteError(
        f"{_place(called)} raised {kind}: {error.message}" if is_ours
        else f"{_place(called)} failed: {error.message} (code {error.code})",
        type=kind,
        remote_message=error.message,
        traceback=traceback,
        data=None if is_ours else _plain(error.data),
        plugin=called.plugin,
    )  # fmt: skip


def _not_found(error: ErrorObject, called: Called) -> PluginError:
    data = error.data if type(error.data) is dict else {}
    told = data.get("known")
    known = [*filter(_is_text, told)] if type(told) is list else list(called.methods())
    hint = _text(data.get("hint"))[:_LONGEST_HINT]
    more = f"; {hint}" if hint else did_you_mean(called.method, known) or _listed(known)
    return MethodNotFoundError(
        f"plugin {called.plugin!r} has no method {called.method!r}{more}",
        plugin=called.plugin,
    )


_LONGEST_HINT = 200


def _listed(known: Iterable[str]) -> str:
    listed = ", ".join(sorted(known)[:10])
    return f"; it has {listed}" if listed else ""


def _timed_out(error: ErrorObject, called: Called) -> PluginError:
    return CallTimeoutError(f"{_place(called)}: {error.message}", timeout=0.0, plugin=called.plugin)


def _simply(kind: type[CallError]) -> Callable[[ErrorObject, Called], PluginError]:
    return lambda error, called: kind(f"{_place(called)}: {error.message}", plugin=called.plugin)


def _not_running(error: ErrorObject, called: Called) -> PluginError:
    return NotStartedError(f"{_place(called)}: {error.message}", plugin=called.plugin)


_OF_CODE: Final[dict[int, Callable[[ErrorObject, Called], PluginError]]] = {
    Code.METHOD_NOT_FOUND: _not_found,
    Code.INVALID_PARAMS: _simply(InvalidArgumentsError),
    Code.CANCELLED: _simply(CallCancelledError),
    Code.DEADLINE_PASSED: _timed_out,
    Code.UNSENDABLE: _simply(UnsendableValueError),
    Code.NOT_GRANTED: _simply(NotGrantedError),
    Code.TOO_DEEP: _simply(ReentryLimitError),
    Code.BUSY: _simply(PluginBusyError),
    Code.NOT_RUNNING: _not_running,
}


def _place(called: Called) -> str:
    return f"plugin {called.plugin!r}, method {called.method!r}"


def _text(value: Any) -> str:
    return value if type(value) is str else ""


def _is_text(value: Any) -> bool:
    return type(value) is str


def _plain(data: Any) -> Any:
    return None if data is UNSET else data


# --- an exception as an answer ----------------------------------------------------------------


def failure_of(error: BaseException) -> Failure:
    """Return what is to be answered where a method has raised `error`.

    What the serving side raises itself has a code of its own; all else is the method's.
    """
    code = _CODES.get(type(error))
    if code is not None and isinstance(error, PluginError):
        return Failure(code, str(error), _data_of(error))
    return raised(error)


def raised(error: BaseException) -> Failure:
    """Return what is to be answered where plugin code has raised `error`, whatever that is.

    It may well be one of ours: of a call that the plugin has made itself.
    """
    return Failure(Code.RAISED, _said(error), {"type": _name(error), "traceback": _trace(error)})


def _data_of(error: PluginError) -> Any:
    known = getattr(error, "known", None)
    if known is None:
        return UNSET
    hint = getattr(error, "hint", "")
    return {"known": list(known), **({"hint": hint} if hint else {})}


#: Exactly these, and no subclass: a method may raise what looks like them for reasons of its own.
_CODES: Final[dict[type, Code]] = {
    MethodNotFoundError: Code.METHOD_NOT_FOUND,
    InvalidArgumentsError: Code.INVALID_PARAMS,
    CallCancelledError: Code.CANCELLED,
    UnsendableValueError: Code.UNSENDABLE,
    NotGrantedError: Code.NOT_GRANTED,
    ReentryLimitError: Code.TOO_DEEP,
    PluginBusyError: Code.BUSY,
    NotStartedError: Code.NOT_RUNNING,
    QuarantinedError: Code.NOT_RUNNING,
}


def _said(error: BaseException) -> str:
    if type(error) is RemoteError and error.type == _PASSED_ON:
        # What goes through many hands is told as the first knew it, and not once more by each.
        return error.remote_message
    try:
        return str(error)
    except Exception as its_own:  # of a class of the plugin's
        return f"<its text cannot be had: {type(its_own).__name__}>"


def _name(error: BaseException) -> str:
    kind = type(error)
    return (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__}.{kind.__qualname__}"
    )


def _trace(error: BaseException) -> str:
    import traceback

    trace = error.__traceback__
    while trace is not None and _is_ours(trace.tb_frame.f_globals.get("__name__")):
        trace = trace.tb_next
    try:
        return _shortened("".join(traceback.format_exception(type(error), error, trace)))
    except Exception:  # of a class of the plugin's
        return ""


def _shortened(text: str) -> str:
    """Return `text` without its middle if it is long: where it comes from, and what it is about.

    Each traceback of an error from afar has the one from there in it.
    """
    if len(text) <= _LONG:
        return text
    begin, end = text[: _LONG // 2].rpartition("\n")[0], text[-_LONG // 2 :]
    end = end.partition("\n")[2] or end
    return f"{begin}\n[... {len(text) - len(begin) - len(end)} characters are left out ...]\n{end}"


_PASSED_ON: Final = _name(RemoteError(""))
#: So many characters of a traceback are sent at most, or little more.
_LONG: Final = 32 * 1024


def _is_ours(module: Any) -> bool:
    """Whether the reader of a traceback can do without: what calls the method, and no more."""
    return type(module) is str and module.startswith("plugkeep.")
