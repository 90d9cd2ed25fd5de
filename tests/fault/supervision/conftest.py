"""Hosts whose plugins fail, and what is seen of that."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from plugkeep import Host, ProcessExitedError, State
from plugkeep.channel import workers
from plugkeep.events import LEADS_TO, Event, Registered, Unregistered
from plugkeep.lifecycle import TRANSITIONS

E = TypeVar("E", bound=Event)

#: Seconds after which a test gives up waiting. Nothing takes as long where nothing is wrong.
PATIENCE = 60.0

#: A plugin that fails on demand, in its own process or not.
MAYFLY = """
import logging, os, sys
from pathlib import Path
from plugkeep import expose

HERE = Path(__file__).parent

class Plugin:
    name = "mayfly"
    config: dict
    host: object

    def start(self):
        if (HERE / f"{self.label}.broken").exists():
            raise OSError("it is broken")

    def stop(self):
        with (HERE / "stopped").open("a") as file:
            file.write(f"{self.label}\\n")

    @property
    def label(self):
        return self.config.get("label", "mayfly")

    @expose
    def pid(self) -> int:
        return os.getpid()

    @expose
    def say(self, words: str) -> None:
        print(words, flush=True)
        logging.warning("%s logged", words)
        print(words, "complained", file=sys.stderr, flush=True)

    @expose
    def give_up(self, why: str) -> None:
        self.host.report_failure(OSError(why))

    @expose
    def leave(self, status: int) -> None:
        os._exit(status)

PluginFactory = Plugin
"""


class Seen:
    """The events of a host, waiting for them, and whether they go along the table of states."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.events: list[Event] = []
        self.strays: list[str] = []
        self._states: dict[str, State] = {name: host.registry.state(name) for name in host.registry}
        self._more = threading.Condition()
        host.registry.subscribe(self._note)

    def _note(self, event: Event) -> None:
        with self._more:
            self.events.append(event)
            self._follow(event)
            self._more.notify_all()

    def _follow(self, event: Event) -> None:
        name, new = event.plugin, LEADS_TO.get(type(event))
        if isinstance(event, Unregistered):
            self._states.pop(name, None)
        if new is None:
            return
        old = self._states.get(name)
        self._states[name] = new
        legal = new is old or isinstance(event, Registered) or (old and new in TRANSITIONS[old])
        if not legal:
            self.strays.append(f"{name}: {type(event).__name__} leads from {old} to {new}")

    def of(self, kind: type[E], plugin: str | None = None) -> list[E]:
        return [
            event
            for event in list(self.events)
            if isinstance(event, kind) and plugin in (None, event.plugin)
        ]

    def count(self, kind: type[Event], plugin: str | None = None) -> int:
        return len(self.of(kind, plugin))

    def story(self, *plugins: str) -> list[str]:
        """Return what has happened to some plugins, in words."""
        return [
            f"{type(event).__name__} {event.plugin}"
            for event in list(self.events)
            if not plugins or event.plugin in plugins
        ]

    def leave(self, name: str, status: int = 3) -> None:
        """Have a plugin's process end by itself."""
        sandbox: Any = self.host.registry[name]
        with pytest.raises(ProcessExitedError):
            sandbox.call("leave", status)

    def kill(self, name: str) -> None:
        sandbox: Any = self.host.registry[name]
        os.kill(sandbox.pid, signal.SIGKILL)

    def state(self, name: str) -> str:
        return str(self.host.registry.state(name))

    def wait_for(self, kind: type[Event], times: int = 1, plugin: str | None = None) -> None:
        self.until(lambda: self.count(kind, plugin) >= times, f"{kind.__name__} {times} times")

    def until(self, seen: Callable[[], object], what: str) -> None:
        with self._more:
            assert self._more.wait_for(seen, PATIENCE), f"not {what}: {self.story()}"


@pytest.fixture(autouse=True)
def _impatient_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have idle threads end at once, so that no test has to wait for that."""
    monkeypatch.setattr(workers._shared, "_idle_for", 0.02)


Make = Callable[..., tuple[Host, Seen]]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Return what makes a host of one mayfly for each keyword, whose value is its table."""
    made: list[Seen] = []

    def build(**tables: str) -> tuple[Host, Seen]:
        (tmp_path / "mayfly.py").write_text(MAYFLY)
        text = ""
        for name, table in tables.items():
            text += f'[plugins.{name}]\nsource = "file:mayfly.py"\nconfig.label = "{name}"\n'
            text += f"{table}\n"
        config = tmp_path / "plugkeep.toml"
        config.write_text(text)
        host = Host.from_file(config)
        seen = Seen(host)
        made.append(seen)
        return host, seen

    yield build
    for seen in made:
        seen.host.stop()
        assert seen.strays == [], seen.story()


@pytest.fixture
def watched() -> Iterator[Callable[[Any], Any]]:
    """Return what follows the events of something with a `host`, which is stopped in the end."""
    made: list[Seen] = []

    def watch(thing: Any) -> Any:
        thing.seen = Seen(thing.host)
        made.append(thing.seen)
        return thing

    yield watch
    for seen in made:
        seen.host.stop()
        assert seen.strays == [], seen.story()


@pytest.fixture
def broken(tmp_path: Path) -> Callable[[str], Path]:
    """Return what breaks a mayfly: it does not start while the file is there."""

    def break_it(label: str) -> Path:
        file = tmp_path / f"{label}.broken"
        file.touch()
        return file

    return break_it
