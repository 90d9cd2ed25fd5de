"""One plugin as data: what is known of it before any of its code has run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args

from plugkeep.health import Watchdog
from plugkeep.lifecycle import check_pause, check_timeout
from plugkeep.names import check_name, check_requires
from plugkeep.restart import Restart, RestartPolicy

#: Where a plugin runs: in the host's process, in one of its own.
Isolation = Literal["none", "process"]

#: It goes on, or is restarted.
OnReload = Literal["keep", "restart"]


#: More calls under way, or waiting, than this are no limit at all.
MOST_CALLS: Final = 100_000


def check_max_calls(of: str, max_calls: object, max_waiting: object) -> None:
    """Raise TypeError or ValueError where these cannot be limits of calls."""
    for what, value, least in (("max_calls", max_calls, 1), ("max_waiting", max_waiting, 0)):
        if value is None:
            continue
        wanted = f"it takes a whole number from {least} to {MOST_CALLS}, or None"
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{what} {of} is {value!r}; {wanted}")
        if not least <= value <= MOST_CALLS:
            raise ValueError(f"{what} {of} is {value!r}; {wanted}")
    if max_waiting is not None and max_calls is None:
        raise ValueError(
            f"max_waiting {of} is {max_waiting!r}, and there is no max_calls: no call would wait"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginSpec:
    """A plugin that was found or configured, and not loaded.

    Raises InvalidNameError, TypeError or ValueError, naming the field, where a value does not fit.
    """

    name: str
    #: Any source that `plugkeep.load` takes, such as ``"python:shop.db"`` or ``"exec:./clock"``.
    source: str
    requires: tuple[str, ...] = ()
    version: str | None = None
    description: str = ""
    #: The folder that relative paths in `source` start from; None: the current one.
    base: str | None = None
    #: Where this was found, for people: a file, or a distribution with its version.
    origin: str = ""
    #: What the plugin's `config` is set to before its start.
    config: Mapping[str, Any] = field(default_factory=dict, hash=False)
    isolation: Isolation = "none"
    #: Whether it is started again after a failure: the word alone, or all of the policy.
    restart: Restart | RestartPolicy = "temporary"
    #: How often it is asked how it is: seconds, which become a Watchdog, or one; None: never.
    watchdog: Watchdog | float | None = None
    #: What becomes of it when a plugin that it requires has been reloaded.
    on_reload: OnReload = "keep"
    #: Seconds; None: what the registry says.
    start_timeout: float | None = None
    stop_timeout: float | None = None
    #: What it may call beside what it requires, where it runs in a process of its own or asks
    #: for its `host`: names of plugins.
    grants: tuple[str, ...] = ()
    #: Of its process, where it has one: seconds that a call may take; what is added to the host's
    #: environment; the working directory.
    call_timeout: float | None = None
    #: Of its process: seconds that calls under way have to end before it is told to stop, and that
    #: it has after SIGTERM where it does not obey; None: one.
    drain_timeout: float | None = None
    term_timeout: float | None = None
    env: Mapping[str, str] = field(default_factory=dict, hash=False)
    cwd: str | None = None
    #: How many calls of it may be under way at once (None: any number), and how many more may wait
    #: for their turn (None: none).
    max_calls: int | None = None
    max_waiting: int | None = None
    #: Whether its process may be a fork of a warm interpreter, where that is possible.
    fork: bool = True

    def __post_init__(self) -> None:
        check_name(self.name)
        if not isinstance(self.source, str) or not self.source.strip():
            raise ValueError(f"source of plugin {self.name!r} is {self.source!r}, not a source")
        for attribute in ("requires", "grants"):
            names = check_requires(self.name, getattr(self, attribute), attribute)
            object.__setattr__(self, attribute, names)
        words: tuple[tuple[str, object, Any], ...] = (
            ("isolation", self.isolation, Isolation),
            ("restart", getattr(self.restart, "when", self.restart), Restart),
            ("on_reload", self.on_reload, OnReload),
        )
        for attribute, value, allowed in words:
            if value not in get_args(allowed):
                choices = ", ".join(map(repr, get_args(allowed)))
                raise ValueError(
                    f"{attribute} of plugin {self.name!r} is {value!r}; it can be: {choices}"
                )
        if isinstance(self.watchdog, (int, float)) and not isinstance(self.watchdog, bool):
            object.__setattr__(self, "watchdog", Watchdog(self.watchdog))
        if not isinstance(self.watchdog, (Watchdog, type(None))):
            raise TypeError(
                f"watchdog of plugin {self.name!r} is {self.watchdog!r}; it takes seconds, or a "
                "Watchdog"
            )
        for attribute in ("start_timeout", "stop_timeout", "call_timeout"):
            check_timeout(f"{attribute} of plugin {self.name!r}", getattr(self, attribute))
        for attribute in ("drain_timeout", "term_timeout"):
            if (seconds := getattr(self, attribute)) is not None:
                check_pause(f"{attribute} of plugin {self.name!r}", seconds)
        check_max_calls(f"of plugin {self.name!r}", self.max_calls, self.max_waiting)

    @property
    def restart_policy(self) -> RestartPolicy:
        """All that `restart` says."""
        restart = self.restart
        return restart if isinstance(restart, RestartPolicy) else RestartPolicy(when=restart)
