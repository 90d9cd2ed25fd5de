"""A plugin that is a program: any executable that speaks the wire."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plugkeep.errors import InvalidNameError
from plugkeep.names import check_name
from plugkeep.sandbox._launch import Command
from plugkeep.sandbox._options import (
    check_environment,
    check_folder,
    check_level,
    check_limits,
    check_program,
    check_text,
)
from plugkeep.sandbox.sandbox import DRAIN_TIMEOUT, TERM_TIMEOUT, Sandbox

if TYPE_CHECKING:
    from plugkeep.sandbox.granting import Grants


class ExecSandbox(Sandbox):
    """A plugin that runs as a program of its own, in a session and process group of its own.

    `path` is the program: a bare name is looked up on the host's ``PATH``, anything else starts
    from the host's working directory, whatever `cwd` is. `args` are its arguments. `name` is the
    plugin's name, by default the file's stem.

    `start_timeout` is how many seconds the program has to say that it is ready; `stop_timeout`
    how many it has to end when it is told to, before it is ended by force; None is without limit.
    Before it is told, the calls that are under way have `drain_timeout` seconds to end; there are
    no new ones. Where it does not obey, its whole group is sent SIGTERM, and SIGKILL `term_timeout`
    seconds later.
    `env` is its whole environment (not an addition to the host's), None the host's; `cwd` its
    working directory. `wire` is the highest level of the wire that the host may speak with it, 0
    or 1, and `call_timeout` how long calls may take; at level 0 there are none. `max_calls` is
    how many of them may be under way at once (None: any number), and `max_waiting` how many more
    may wait for their turn (None: none); beyond that calls raise PluginBusyError.

    What it prints is logged, line by line, by the logger ``plugkeep.plugin.<name>``: stdout (what
    follows the ready message) as INFO, stderr as WARNING. Where it ends by itself while it should
    be running, that is logged there at once, as ERROR; nothing starts it again.

    All methods are safe from any thread. A sandbox that is garbage-collected while it runs, or
    that runs when the host exits, is killed without being told to stop.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *args: str | os.PathLike[str],
        name: str | None = None,
        start_timeout: float | None = 5.0,
        stop_timeout: float | None = 5.0,
        call_timeout: float | None = None,
        drain_timeout: float = DRAIN_TIMEOUT,
        term_timeout: float = TERM_TIMEOUT,
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        wire: int = 1,
        config: Any = None,
        grants: Mapping[str, object] | Grants | None = None,
        max_calls: int | None = None,
        max_waiting: int | None = None,
    ) -> None:
        """Nothing runs yet. Raises InvalidNameError, TypeError or ValueError for what cannot be."""
        path = check_text("path", path)
        name = _stem(path) if name is None else check_name(name)
        of = f"of plugin {name!r}"
        super().__init__(
            Command(
                plugin=name,
                path=check_program("path", path),
                args=tuple(check_text(f"argument {each!r} {of}", each) for each in args),
                env=None if env is None else check_environment(of, env),
                cwd=check_folder(of, cwd),
                wire=check_level(f"wire {of}", wire),
            ),
            **check_limits(
                of,
                start_timeout=start_timeout,
                stop_timeout=stop_timeout,
                call_timeout=call_timeout,
                drain_timeout=drain_timeout,
                term_timeout=term_timeout,
                max_calls=max_calls,
                max_waiting=max_waiting,
            ),
            config=config,
            grants=grants,
        )


def _stem(path: str) -> str:
    try:
        return check_name(Path(path).stem)
    except InvalidNameError as error:
        raise InvalidNameError(f"{error}; {path!r} gives no such name, so pass name=") from None
