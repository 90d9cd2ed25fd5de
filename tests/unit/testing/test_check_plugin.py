"""Each rule of a plugin's contract finds the plugin that breaks it, and no other."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from plugkeep import ExecSandbox, Route, expose, isolate, load
from plugkeep.testing import PLUGIN_RULES, ContractError, Faulty, check_plugin, faulty_program

REFERENCE = Path(__file__).parents[3] / "tests/e2e/other_languages/reference_plugin.py"


class Good:
    name = "good"

    def start(self) -> None: ...
    def stop(self) -> None: ...


@dataclass
class Settings:
    port: int
    host: str = "here"


class Rich(Good):
    """It has all that a plugin can have."""

    requires = ("database",)
    start_timeout = 5
    stop_timeout: float | None = None
    thread_bound = True
    config: Settings
    required: Mapping[str, Any]
    mount = "/here"

    def start(self) -> None:
        assert self.config.port == 80
        assert self.required["database"].name == "database"
        self._files = [tempfile.TemporaryFile(), tempfile.NamedTemporaryFile()]  # noqa: SIM115
        self._child = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=-1)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._over.wait)
        self._thread.start()

    def stop(self) -> None:
        for file in self._files:
            file.close()
        self._child.communicate()
        self._over.set()
        self._thread.join()

    def routes(self) -> list[Route]:
        return [Route("GET", "/a", lambda request: "a"), Route("POST", "/a", lambda request: "b")]

    async def application(self, scope: Any, receive: Any, send: Any) -> None: ...

    def health(self) -> str:
        return "the disk is slow"

    @expose
    def call(self) -> int:
        return 1


class Async(Good):
    async def start(self) -> None:  # type: ignore[override]
        self._loop = asyncio.get_running_loop()
        self._group = asyncio.TaskGroup()
        await self._group.__aenter__()
        self._task = self._group.create_task(asyncio.sleep(3600))

    async def stop(self) -> None:  # type: ignore[override]
        self._task.cancel()
        await self._group.__aexit__(None, None, None)

    async def health(self) -> None:
        assert asyncio.get_running_loop() is self._loop


GOOD: dict[str, Callable[[], None]] = {
    "the least": lambda: check_plugin(Good),
    "all there is": lambda: check_plugin(Rich, config={"port": 80}),
    "asynchronous": lambda: check_plugin(Async),
    "in process": lambda: check_plugin(Faulty),
    "loaded": lambda: check_plugin(load("python:plugkeep.testing.faulty")),
    "in a process": lambda: check_plugin(lambda: isolate("python:plugkeep.testing.faulty")),
    "in a process, with stop that takes its time": lambda: check_plugin(
        lambda: isolate("python:plugkeep.testing.faulty", config={"fault": "slow-stop"})
    ),
    "a program": lambda: check_plugin(
        lambda: ExecSandbox(sys.executable, faulty_program(), name="program")
    ),
    "a program of level 0": lambda: check_plugin(
        lambda: ExecSandbox("sh", "-c", "echo '{\"ready\":true}'; read line", name="shell")
    ),
    "the reference plugin": lambda: check_plugin(lambda: isolate(f"file:{REFERENCE}")),
    "what leaves files that it was told to": lambda: check_plugin(
        lambda: Faulty("leak-files"), skip="files"
    ),
    "a start that fails, as it is to": lambda: check_plugin(
        lambda: Faulty("raise-in-start"), start_fails=True
    ),
    "a start that fails in a process": lambda: check_plugin(
        lambda: ExecSandbox(sys.executable, faulty_program(), "--fault", "exit-in-start"),
        start_fails=True,
    ),
}


@pytest.mark.parametrize("name", GOOD)
def test_what_keeps_the_contract_passes(name: str) -> None:
    environment = dict(os.environ)
    folder = tempfile.tempdir
    GOOD[name]()
    assert (dict(os.environ), tempfile.tempdir) == (environment, folder)


# --- what breaks it ---------------------------------------------------------------------------


def with_(**members: Any) -> Callable[[], Any]:
    """Return a class like the good one, but for these members."""
    return type("Bad", (Good,), {"name": "bad", **members})


def raises(error: BaseException) -> Callable[..., Any]:
    def method(self: object) -> None:
        raise error

    return method


class Renamed(Good):
    def start(self) -> None:
        self.name = "other"


class Once(Good):
    has_run = False

    def start(self) -> None:
        if self.has_run:
            raise RuntimeError("only once")
        self.has_run = True


class TwiceRunning(ExecSandbox):
    def start(self) -> None:
        if self.pid is None:
            super().start()

    def stop(self) -> None:
        if self.pid is not None:
            super().stop()


class Tasks(Good):
    async def start(self) -> None:  # type: ignore[override]
        self._task = asyncio.create_task(asyncio.sleep(3600), name="forgotten")


class HalfWay(Good):
    def start(self) -> None:
        self._descriptor = os.open(os.devnull, os.O_RDONLY)
        raise OSError("half-way")


Case = tuple[str, str, Callable[[], Any], dict[str, Any]]


def case(rule: str, seen: str, factory: Any, **options: Any) -> Case:
    return rule, seen, factory, options


#: The rule that is broken, what is seen, and who breaks it.
BAD: list[Case] = [
    case("plugin", "the factory raised FaultError", lambda: Faulty("raise-in-factory")),
    case("plugin", "it is a class; pass an instance: Good()", lambda: Good),
    case("plugin", "stop() is missing", lambda: SimpleNamespace(name="x", start=int)),
    case("plugin", "its name is 3, not a string", lambda: SimpleNamespace(name=3)),
    case("name", "is 'a b'", with_(name="a b")),
    case("name-stays", "after start it is 'other', not 'good'", Renamed),
    case("requires", "not a collection of names; write ('a',)", with_(requires="a")),
    case("requires", "a name in requires of plugin 'bad'", with_(requires=("a", ""))),
    case("timeouts", "start_timeout is '5s'", with_(start_timeout="5s")),
    case("timeouts", "stop_timeout is -1", with_(stop_timeout=-1)),
    case("thread-bound", "thread_bound is 1", with_(thread_bound=1)),
    case("no-arguments", "start(host)", with_(start=lambda self, host: None)),
    case("config", "config.port: expected a whole number", Rich, config={"port": "http"}),
    case("config", "has no key 'port', which is required", Rich),
    case("config", "NameError", with_(__annotations__={"config": "Nowhere"})),
    case("exposed", "'call' is 3", type("Bad", (Rich,), {"call": 3}), config={"port": 80}),
    case("start", "failed to start: FaultError", lambda: Faulty("raise-in-start")),
    case("stop", "failed to stop: FaultError", lambda: Faulty("raise-in-stop")),
    case("again", "failed to start: RuntimeError: only once", Once),
    case("in-time", "did not start within 0.2 s",
         lambda: Faulty("slow-start", seconds=1), timeout=0.2),
    case("in-time", "did not stop within 0.2 s",
         lambda: Faulty("slow-stop", seconds=1), timeout=0.2),
    case("in-time", "health was not there after 0.2 s",
         lambda: Faulty("health-blocks", seconds=1), timeout=0.2),
    case("exceptions", "it raised SystemExit: 3", with_(start=raises(SystemExit(3)))),
    case("exceptions", "it raised SystemExit: 4", with_(stop=raises(SystemExit(4)))),
    case("exceptions", "health raised SystemExit: 5", with_(health=raises(SystemExit(5)))),
    case("start-fails", "it has started", Good, start_fails=True),
    case("exceptions", "SystemExit", with_(start=raises(SystemExit(3))), start_fails=True),
    case("twice", "start() of what runs was not refused; it takes AlreadyStartedError",
         lambda: TwiceRunning(sys.executable, faulty_program())),
    case("twice", "stop() of what is stopped was not refused; it takes NotStartedError",
         lambda: TwiceRunning(sys.executable, faulty_program())),
    case("routes", "returned 'GET /'; it takes an iterable of Route",
         with_(routes=lambda self: "GET /")),
    case("routes", "/a",
         with_(routes=lambda self: [Route("GET", "/a", id), Route("GET", "/a", id)])),
    case("application", "it takes an ASGI application", with_(application=3)),
    case("application", "mount", with_(application=Rich.application, mount="no slash")),
    case("health", "it returned 3", with_(health=lambda self: 3)),
    case("health", "it returned ''", with_(health=lambda self: "")),
    case("health", "it raised FaultError", lambda: Faulty("health-raises")),
    case("tasks", "task 'forgotten' of sleep", Tasks),
    case("threads", "thread 'leaked-0'; thread 'leaked-1'",
         lambda: Faulty("leak-threads", seconds=4)),
    case("processes", ": sleep 60", lambda: Faulty("spawn", seconds=60)),
    case("processes", " -c ", lambda: Faulty("spawn-detached", seconds=60)),
    case("descriptors", " of /dev/null; and 12 more", lambda: Faulty("leak-descriptors", count=10)),
    case("descriptors", " of /dev/null", HalfWay, start_fails=True),
    case("files", "leaked-", lambda: Faulty("leak-files", count=1)),
]  # fmt: skip


def test_every_rule_has_a_plugin_that_breaks_it() -> None:
    assert {rule for rule, *_ in BAD} == set(PLUGIN_RULES)


@pytest.mark.parametrize(
    ("rule", "seen", "factory", "options"), BAD, ids=[f"{r}: {s}"[:50] for r, s, *_ in BAD]
)
def test_what_breaks_it_is_found(
    rule: str, seen: str, factory: Callable[[], Any], options: dict[str, Any]
) -> None:
    made: list[Any] = []

    def make() -> Any:
        made.append(factory())
        return made[-1]

    try:
        with pytest.raises(ContractError) as caught:
            check_plugin(make, **options)
    finally:
        for plugin in made:
            give_back(plugin)
    found = [each for each in caught.value.violations if each.rule.name == rule]
    assert any(seen in each.seen for each in found), str(caught.value)
    others = {each.rule.name for each in caught.value.violations} - {rule}
    assert not others, str(caught.value)


def give_back(plugin: Any) -> None:
    """Have a plugin give back what it is here to keep."""
    if isinstance(plugin, Faulty):
        plugin.behave()
    if isinstance(plugin, HalfWay):
        os.close(plugin._descriptor)


def test_all_is_told_in_one_error() -> None:
    plugin = Faulty("leak-descriptors", name="leaky", count=1)
    plugin.health = lambda: 3  # type: ignore[method-assign, assignment, return-value]
    plugin.thread_bound = "yes"  # type: ignore[attr-defined]
    try:
        with pytest.raises(AssertionError) as caught:
            check_plugin(lambda: plugin, skip=["thread-bound"])
        text = str(caught.value)
        assert text.startswith("plugin 'leaky' breaks 2 rules of its contract\n  health: health() ")
        assert "\n    it returned 3\n  descriptors: no descriptor is left open when " in text
    finally:
        plugin.behave()
    error = caught.value
    assert isinstance(error, ContractError)
    assert [each.subject for each in error.violations] == ["plugin 'leaky'"] * 2


def test_processes_that_are_left_are_killed(gone: Any) -> None:
    plugin = Faulty("spawn-detached")
    with pytest.raises(ContractError):
        check_plugin(lambda: plugin)
    for pid in plugin.spawned():
        gone(pid)


def test_a_rule_to_leave_out_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="skip has 'thread', which is no rule; did you mean"):
        check_plugin(Good, skip=["thread"])


def test_what_is_about_to_end_is_waited_for() -> None:
    class Lingering(Good):
        def stop(self) -> None:
            threading.Thread(target=time.sleep, args=(0.2,)).start()

    check_plugin(Lingering)


def test_what_is_required_can_be_given() -> None:
    class Uses(Good):
        requires = ("shop",)
        required: Mapping[str, Any]

        def start(self) -> None:
            assert self.required["shop"] == "the shop"

    check_plugin(Uses, required={"shop": "the shop"})
