"""What is raised where a sandbox's start or stop does not go well."""

from __future__ import annotations

from typing import Any

from plugkeep.errors import (
    ExitedBeforeReadyError,
    ExitStatusError,
    InvalidReadyError,
    PluginError,
    ProcessExitedError,
    ReadyTimeoutError,
    SandboxError,
    StopIgnoredError,
)
from plugkeep.sandbox._life import Life, Outcome
from plugkeep.sandbox._output import with_tail

Table = dict[Outcome, tuple[type[SandboxError], str]]

#: What a start, and a stop, that did not go well are reported as.
START: Table = {
    Outcome.NO_READY: (ReadyTimeoutError, "did not say within {timeout:.3g} s that it was ready"),
    Outcome.EXITED: (ExitedBeforeReadyError, "{exit} before it said that it was ready"),
    Outcome.REFUSED: (
        InvalidReadyError,
        "{ear.how} {received!r}, which is no ready message: it {ear.reason}{ear.remark}",
    ),
    Outcome.DIED: (ProcessExitedError, "{exit} before its own start had returned"),
    Outcome.LATE: (
        ReadyTimeoutError,
        "said that it was ready, but its own start has not returned within {timeout:.3g} s",
    ),
}
STOP: Table = {
    Outcome.EXITED: (
        ProcessExitedError,
        "had ended by itself before it was to stop: it {exit}",
    ),
    Outcome.OBEYED: (ExitStatusError, "was stopped, and {exit}"),
    Outcome.TERMINATED: (
        StopIgnoredError,
        "did not end within {timeout:.3g} s of being told to stop; sent SIGTERM, it {exit}",
    ),
    Outcome.KILLED: (
        StopIgnoredError,
        "did not end within {timeout:.3g} s of being told to stop, nor after SIGTERM; it {exit}",
    ),
}


def failure(
    table: Table, outcome: Outcome, life: Life, program: str, timeout: float
) -> PluginError:
    """End `life` and return the error that says how it went."""
    end = life.end()
    if outcome is Outcome.RAISED and life.error is not None:
        return life.error
    if outcome is Outcome.LOST:
        return life.explain()
    kind, sentence = table[outcome]
    told = sentence.format(exit=end, timeout=timeout, received=life.received, ear=life.refused)
    facts: dict[str, Any] = {}
    if issubclass(kind, TimeoutError):
        facts["timeout"] = timeout
    if kind is InvalidReadyError:
        facts["received"] = life.received
    return kind(
        with_tail(f"plugin {life.plugin!r} ({program}) {told}", life.stderr),
        plugin=life.plugin,
        returncode=end.returncode,
        signal=end.signal,
        stderr=life.stderr,
        **facts,
    )
