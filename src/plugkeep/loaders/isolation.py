"""Running a plugin in a child process, wherever it comes from."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from plugkeep.errors import InvalidNameError
from plugkeep.loaders._source import Source
from plugkeep.names import check_name
from plugkeep.plugin import FACTORY_SYMBOL
from plugkeep.sandbox._launch import Command
from plugkeep.sandbox._options import check_environment, check_folder, check_limits
from plugkeep.sandbox.granting import Objects
from plugkeep.sandbox.sandbox import Sandbox


def isolate(
    source: str | os.PathLike[str],
    *,
    isolation: Literal["process"] = "process",
    name: str | None = None,
    config: Any = None,
    grants: Mapping[str, object] | None = None,
    start_timeout: float | None = 30.0,
    stop_timeout: float | None = 5.0,
    call_timeout: float | None = None,
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    wire: int = 2,
    python: str | os.PathLike[str] | None = None,
    base: str | os.PathLike[str] | None = None,
) -> Sandbox:
    """Return a sandbox for the plugin that `source` names."""
    parsed = Source.parse(source, base)
    name = _name(parsed) if name is None else check_name(name)
    of = f"of plugin {name!r}"
    arguments = ["-P", "-m", "plugkeep.runner", f"{parsed.kind}:{parsed.rest}"]
    arguments += ["--name", name, "--base", str(parsed.path("."))]
    if python is None:
        arguments += ["--path", os.pathsep.join(str(Path(each).absolute()) for each in sys.path)]
    return Sandbox(
        Command(
            plugin=name,
            path=sys.executable if python is None else os.fspath(python),
            args=tuple(arguments),
            env=None if env is None else check_environment(of, env),
            cwd=check_folder(of, cwd),
            wire=wire,
            frames_only=wire == 2,
        ),
        config=config,
        grants=Objects(name, grants) if grants else None,
        **check_limits(of, start_timeout, stop_timeout, call_timeout),
    )


def _name(source: Source) -> str:
    """Return the last component of `source` other than ``PluginFactory``."""
    last = source.rest.removesuffix(f":{FACTORY_SYMBOL}")
    for mark in ("/", ":"):
        last = last.rpartition(mark)[2] or last
    last = Path(last).stem if source.kind in ("file", "so") else last.rpartition(".")[2]
    try:
        return check_name(last)
    except InvalidNameError as error:
        raise InvalidNameError(
            f"{error}; source {source.text!r} gives no such name, so pass name="
        ) from None
