"""What is done to the plugins, drawn beforehand, and done in time."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple

from plugkeep import Host, Sandbox, State
from plugkeep.channel.workers import run
from plugkeep.errors import PluginError
from plugkeep.sandbox.keeper.client import keepers
from plugkeep.sandbox.keeper.zygote import zygote
from plugkeep.testing import faults

#: Faults of the kit that a plugin commits when it is asked to; with less than the usual in it, for
#: there are many of them.
_MILD: dict[str, dict[str, Any]] = {
    "spawn": {"seconds": 4.0},
    "spawn-detached": {"seconds": 4.0},
    "spawn-holding-pipes": {"seconds": 4.0},
    "leak-threads": {"seconds": 4.0},
    "ignore-stop": {"seconds": 30.0},
    "ignore-stop-and-sigterm": {"seconds": 30.0},
    "hang-in-call": {"seconds": 30.0},
    "hang-in-stop": {"seconds": 30.0},
    "eat-memory": {"size": 16 << 20},
}
#: In the host's process only what does not take that along, nor hangs in it.
_HERE = ("raise-in-start", "raise-in-stop", "raise-in-call", "slow-start", "slow-stop", "degraded",
         "health-raises", "flood-log")  # fmt: skip
_SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGSTOP)
#: Seconds between two looks at what has failed for good, which is restarted by hand.
_MENDING = 2.0


class Act(NamedTuple):
    """Something to be done to a plugin, so many seconds from the beginning."""

    at: float
    plugin: str
    deed: str
    what: Any = None


def plan(dice: random.Random, host: Host, seconds: float, every: float) -> list[Act]:
    """Return what is to be done, in order of time."""
    names, acts, at = list(host.registry), [], 0.0
    while (at := at + dice.uniform(0.2, 1.8) * every) < seconds:
        acts.append(Act(at, name := dice.choice(names), *_deed(dice, name)))
    return acts


def _deed(dice: random.Random, name: str) -> tuple[str, Any]:
    kind = name.rpartition("-")[0]
    chance = dice.random()
    if chance < 0.02:
        return "kill keeper", None
    if chance < 0.04:
        return "kill zygote", None
    if chance < 0.16:
        return dice.choice(("restart", "reload", "stop and start")), None
    if kind == "here":
        return dice.choice((("report", None), ("misbehave", dice.choice(_HERE))))
    if chance < 0.5 or kind == "level-0":
        return "signal", dice.choice(_SIGNALS)
    where = "program" if kind == "level-1" else "process"
    able = [each.name for each in faults(where) if each.moment != "load"]
    return "misbehave", dice.choice(able)


class Mischief:
    """Does what is planned, and brings back by hand what does not come back by itself."""

    def __init__(self, host: Host, acts: list[Act]) -> None:
        self._host = host
        self._acts = acts
        self.done = 0
        self._lock = threading.Lock()
        self._under_way = 0
        self._tally: Counter[str] = Counter()

    def tally(self) -> str:
        return ", ".join(f"{count} {what}" for what, count in self._tally.most_common())

    def run(self, tell: Callable[[], object]) -> None:
        """Do all of it; `tell` every ten seconds."""
        begin = time.monotonic()
        mending = telling = 0.0
        for act in self._acts:
            while (now := time.monotonic() - begin) < act.at:
                if now >= mending:
                    mending = now + _MENDING
                    self._go(self._mend)
                if now >= telling:
                    telling = now + 10.0
                    tell()
                time.sleep(min(0.05, act.at - now))
            self._go(self._do, act)
            self.done += 1
            self._tally[f"{act.deed} {act.what.name if hasattr(act.what, 'name') else act.what}"
                        if act.what else act.deed] += 1  # fmt: skip
        tell()

    def _go(self, deed: Callable[..., object], *args: Any) -> None:
        """Do something on a thread of its own, for it may take its time."""

        def do() -> None:
            try:
                deed(*args)
            finally:
                with self._lock:
                    self._under_way -= 1

        with self._lock:
            self._under_way += 1
        run(do)

    def make_up(self) -> None:
        """Leave no plugin frozen, hanging or planning anything, and no deed half done."""
        end = time.monotonic() + 60
        while self._under_way and time.monotonic() < end:
            time.sleep(0.05)
        for name, plugin in self._plugins():
            if isinstance(plugin, Sandbox):
                with suppress(OSError, TypeError):
                    os.kill(plugin.pid, signal.SIGCONT)  # type: ignore[arg-type]
            with suppress(PluginError):
                self._tell(plugin, "behave")
            with suppress(PluginError):
                if self._host.registry.state(name) is State.STOPPED:
                    self._host.registry.start(name)

    def _plugins(self) -> Iterator[tuple[str, Any]]:
        for name in self._host.registry:
            yield name, self._host.registry[name]

    def _do(self, act: Act) -> None:
        with suppress(PluginError, OSError):
            _DEEDS[act.deed](self, act.plugin, act.what)

    def _mend(self) -> None:
        for name, plugin in self._plugins():
            if self._host.registry.state(name) in (State.FAILED, State.QUARANTINED):
                with suppress(PluginError):
                    if not isinstance(plugin, Sandbox):
                        plugin.behave()
                    self._host.restart(name)

    # --- deeds ----------------------------------------------------------------------------

    def _signal(self, name: str, what: signal.Signals) -> None:
        plugin: Any = self._host.registry[name]
        if (pid := plugin.pid) is not None:
            os.kill(pid, what)

    def _misbehave(self, name: str, what: str) -> None:
        self._tell(self._host.registry[name], "misbehave", what, **_MILD.get(what, {}))

    def _tell(self, plugin: Any, method: str, *args: Any, **kwargs: Any) -> None:
        if isinstance(plugin, Sandbox):
            plugin.call(method, *args, timeout=1.0, **kwargs)
        else:
            getattr(plugin, method)(*args, **kwargs)

    def _report(self, name: str, _: None) -> None:
        self._host.registry.report_failure(name, RuntimeError("as it happens"))

    def _restart(self, name: str, _: None) -> None:
        self._host.restart(name)

    def _reload(self, name: str, _: None) -> None:
        self._host.reload(name)

    def _stop_and_start(self, name: str, _: None) -> None:
        with suppress(PluginError):
            self._host.registry.stop(name)
        self._host.restart(name)

    def _kill_keeper(self, _name: str, _: None) -> None:
        for keeper in keepers():
            os.kill(keeper.pid, signal.SIGKILL)

    def _kill_zygote(self, _name: str, _: None) -> None:
        if (warm := zygote()) is not None:
            os.kill(warm.pid, signal.SIGKILL)


_DEEDS: dict[str, Callable[[Mischief, str, Any], None]] = {
    "signal": Mischief._signal,
    "misbehave": Mischief._misbehave,
    "report": Mischief._report,
    "restart": Mischief._restart,
    "reload": Mischief._reload,
    "stop and start": Mischief._stop_and_start,
    "kill keeper": Mischief._kill_keeper,
    "kill zygote": Mischief._kill_zygote,
}
