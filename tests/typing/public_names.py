"""Names that are there on first use only are known to the type checkers all the same."""

from __future__ import annotations

from typing import Literal, assert_type

import plugkeep
from plugkeep import (
    ConfigError,
    ExecSandbox,
    Factory,
    Host,
    Plugin,
    PluginError,
    ReadyTimeoutError,
    RequirementError,
    Route,
    StartError,
    StartTimeoutError,
    State,
    discover_directory,
    discover_entry_points,
    events,
    load,
    load_so,
)

assert_type(plugkeep.__version__, str)
plugkeep.StartErorr  # type: ignore[attr-defined]  # pyright: ignore
assert_type(State.RUNNING, Literal[State.RUNNING])


def of_errors(error: PluginError) -> None:
    assert_type(error.plugin, str | None)
    if isinstance(error, StartTimeoutError):
        assert_type(error.timeout, float)
    if isinstance(error, RequirementError):
        assert_type(error.cycles, tuple[tuple[str, ...], ...])


def sandboxed() -> None:
    sandbox = ExecSandbox("./clock", "--utc", start_timeout=2.0)
    plugin: Plugin = sandbox
    assert_type(sandbox.pid, int | None)
    try:
        plugin.start()
    except ReadyTimeoutError as error:
        assert_type(error.stderr, tuple[str, ...])
