"""Running a plugin in a child process, wherever it comes from."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from plugkeep.errors import InvalidNameError, LoadError, RemoteError
from plugkeep.loaders._source import Source
from plugkeep.names import check_name
from plugkeep.plugin import FACTORY_SYMBOL
from plugkeep.sandbox import ExecSandbox, Sandbox
from plugkeep.sandbox._launch import Command
from plugkeep.sandbox._options import (
    check_environment,
    check_folder,
    check_level,
    check_limits,
    check_program,
    check_table,
    check_text,
)
from plugkeep.sandbox.sandbox import DRAIN_TIMEOUT, TERM_TIMEOUT
from plugkeep.spec import PluginSpec

if TYPE_CHECKING:
    from plugkeep.sandbox.granting import Grants

#: Seconds. A child that hangs is rare; one that imports much on a busy machine is not.
START_TIMEOUT: Final = 30.0
#: Tells our runner, in the child's environment, that the plugin is not to be started.
REHEARSAL: Final = "PLUGKEEP_REHEARSAL"


def isolate(
    source: str | os.PathLike[str],
    *,
    isolation: str = "process",
    name: str | None = None,
    config: Any = None,
    grants: Mapping[str, object] | Grants | None = None,
    start_timeout: float | None = START_TIMEOUT,
    stop_timeout: float | None = 5.0,
    call_timeout: float | None = None,
    drain_timeout: float = DRAIN_TIMEOUT,
    term_timeout: float = TERM_TIMEOUT,
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    wire: int = 2,
    python: str | os.PathLike[str] | None = None,
    fork: bool = True,
    max_calls: int | None = None,
    max_waiting: int | None = None,
    base: str | os.PathLike[str] | None = None,
) -> Sandbox:
    """Return a sandbox for the plugin that `source` names, which runs in a process of its own.

    `source` is any that `load` takes, relative to `base`; ``exec:`` gives an `ExecSandbox`. The
    child runs ``python -m plugkeep.runner`` with this very interpreter, and finds modules where
    this process does, in the same order. `python` names another interpreter, in which plugkeep is
    installed; it finds what is installed there. Otherwise the source is loaded by the child
    alone: what is wrong with its code is told by `start`.

    Where possible the child is not a fresh interpreter, but a fork of a warm one, which starts in
    a fraction of the time and behaves the same; with `fork` false it is a fresh one in any case.

    `name` is by default the last component of the source other than ``PluginFactory``. `config`
    becomes the plugin's `config`, as the plugin has annotated it. `grants` are what the plugin
    may call of the host, by name: objects with methods marked by `expose`, other sandboxes,
    functions. `isolation` can only be "process". The rest is as for `ExecSandbox`; but the default
    `start_timeout` leaves more time for imports, and `wire` is by default the highest level,
    whose frames nothing can disturb that the plugin prints.

    Raises what `load` raises where that can be known without running the plugin:
    InvalidSourceError, SourceNotFoundError, UnusableSourceError; for libraries SymbolNotFoundError
    and WrongTypeError, too. ConfigError where `config` is no table, or a class is granted where an
    instance should be. InvalidNameError, TypeError or ValueError for other arguments.
    """
    if isolation != "process":
        raise ValueError(
            f"isolation is {isolation!r}; in this version it can be 'process', and what is to run "
            "in this process is loaded by load()"
        )
    if isinstance(source, PluginSpec):
        raise TypeError(f"source is {source!r}; a PluginSpec is for Host.add to take")
    parsed = Source.parse(source, None if base is None else check_text("base", base))
    check = import_module(f"plugkeep.loaders.{parsed.kind.replace('-', '_')}").check
    found = check(parsed)
    options: dict[str, Any] = {"config": config, "grants": grants}
    limits: dict[str, Any] = {
        "start_timeout": start_timeout,
        "stop_timeout": stop_timeout,
        "call_timeout": call_timeout,
        "drain_timeout": drain_timeout,
        "term_timeout": term_timeout,
        "max_calls": max_calls,
        "max_waiting": max_waiting,
    }
    if parsed.kind == "exec":
        if python is not None:
            raise ValueError(f"python is {python!r}, but the source {source!r} is a program")
        path, *args = found
        options |= limits
        return ExecSandbox(path, *args, name=name, env=env, cwd=cwd, wire=wire, **options)
    name = _name(parsed) if name is None else check_name(name)
    of = f"of plugin {name!r}"
    level = check_level(f"wire {of}", wire)
    check_table(name, config)
    command = Command(
        plugin=name,
        path=sys.executable if python is None else check_program(f"python {of}", python),
        args=_arguments(parsed, name, own_path=python is not None),
        env=None if env is None else check_environment(of, env),
        cwd=check_folder(of, cwd),
        wire=level,
        frames_only=level == 2,
        forks=fork and level == 2 and python is None,
    )
    return Sandbox(command, **check_limits(of, **limits), **options)


_LIMITS = (
    *("start_timeout", "stop_timeout", "call_timeout", "drain_timeout", "term_timeout"),
    *("max_calls", "max_waiting"),
)


def isolate_spec(spec: PluginSpec, grants: Grants | None = None) -> Sandbox:
    """Return a sandbox for the plugin of `spec`, as that says in all respects."""
    limits = {name: getattr(spec, name) for name in _LIMITS}
    return isolate(
        spec.source,
        name=spec.name,
        config=dict(spec.config) or None,
        grants=grants,
        env={**os.environ, **spec.env} if spec.env else None,
        cwd=None if spec.cwd is None else Path(spec.base or "", spec.cwd).expanduser(),
        fork=spec.fork,
        base=spec.base,
        **{name: limit for name, limit in limits.items() if limit is not None},
    )


def rehearse(spec: PluginSpec) -> None:
    """Load and configure the plugin of `spec` in a process of its own, and do not start it.

    What another process runs meanwhile is not touched. Does nothing for programs, of which
    nothing can be known without starting them. Raises what `isolate_spec` does; LoadError, with
    the text that `load` would give it here, where the source makes no plugin; and what starting
    the sandbox does, apart from what only the plugin's own start finds out.
    """
    if Source.parse(spec).kind == "exec":
        return
    try:
        with isolate_spec(replace(spec, env={**spec.env, REHEARSAL: "1"})):
            pass
    except RemoteError as error:
        if not _is_load_error(error.type):
            raise
        raise LoadError(error.remote_message, source=spec.source, plugin=spec.name) from error


def _is_load_error(kind: str) -> bool:
    """Say whether an error of this type, raised in a child, is one of loading its plugin."""
    kinds: list[type[LoadError]] = [LoadError, *LoadError.__subclasses__()]
    return kind in {f"{each.__module__}.{each.__qualname__}" for each in kinds}


def _arguments(source: Source, name: str, *, own_path: bool) -> tuple[str, ...]:
    """Return the arguments that make Python run the plugin, finding modules as we do."""
    arguments = ["-P", "-m", "plugkeep.runner", f"--name={name}", f"--base={source.path('.')}"]
    if not own_path:
        # Python itself passes over what else somebody may have put there.
        folders = (str(Path(each).absolute()) for each in sys.path if isinstance(each, str))
        arguments.append(f"--path={os.pathsep.join(folders)}")
    return (*arguments, f"{source.kind}:{source.rest}")


def _name(source: Source) -> str:
    """Return the last component of `source` other than ``PluginFactory``."""
    rest = source.rest.removesuffix(f":{FACTORY_SYMBOL}")
    last = rest.rpartition("/")[2]
    if ":" in last:
        last = last.rpartition(":")[2]
    elif source.kind == "python":
        last = last.rpartition(".")[2]
    elif source.kind != "entry-point":
        last = last.partition(".")[0]
    try:
        return check_name(last)
    except InvalidNameError as error:
        raise InvalidNameError(
            f"{error}; source {source.text!r} gives no such name, so pass name="
        ) from None
