"""Calls of a plugin that is not there: whether they wait for it, and which are made once more."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import anyio.lowlevel
import pytest
import trio

from plugkeep import (
    CallTimeoutError,
    Host,
    NotStartedError,
    ProcessExitedError,
    QuarantinedError,
    RemoteError,
    isolate,
)
from plugkeep.events import Event, Failed, Restarting, Starting, Stopping
from plugkeep.sandbox import Sandbox

#: Seconds after which a test gives up. Nothing takes as long where nothing is wrong.
PATIENCE = 60.0

PLUGIN = """
import os
from pathlib import Path
from plugkeep import current_call, expose

HERE = Path(__file__).parent

class PluginFactory:
    name = "shop"
    config: dict

    def start(self):
        if (HERE / "broken").exists():
            raise OSError("it is broken")
        if (HERE / "gate").exists():
            open(HERE / "gate").read()        # a pipe: until somebody opens its other end

    def stop(self): ...

    @expose
    def echo(self, value=None):
        return value

    @expose
    def pid(self):
        return os.getpid()

    @expose
    def leave(self, status=3):
        os._exit(status)

    def _note(self):
        with (HERE / "calls").open("a") as file:
            file.write("called ")

    @expose
    def crash_once(self):
        self._note()
        if (HERE / "crash").exists():
            (HERE / "crash").unlink()
            os._exit(3)
        return "done"

    @expose(idempotent=True)
    def crash_once_safely(self):
        return self.crash_once()

    @expose
    def crash(self):
        self._note()
        os._exit(3)

    @expose
    def fail(self):
        self._note()
        raise ValueError("no")

    @expose
    def count(self):
        yield from range(1, 1000)

    @expose
    def count_and_crash(self):
        self._note()
        yield 1
        os._exit(3)
"""

PERMANENT = 'restart = { when = "permanent", delay = 0 }'


class Case:
    """A host of one plugin, its sandbox, and what its methods have noted."""

    def __init__(self, host: Host, folder: Path) -> None:
        self.host = host
        self.folder = folder
        self.threads = ThreadPoolExecutor(8)

    @property
    def sandbox(self) -> Sandbox:
        sandbox = self.host.registry["shop"]
        assert isinstance(sandbox, Sandbox)
        return sandbox

    @property
    def calls(self) -> int:
        file = self.folder / "calls"
        return len(file.read_text().split()) if file.exists() else 0

    def end(self) -> None:
        with pytest.raises(ProcessExitedError):
            self.sandbox.call("leave")

    def await_waiting(self, number: int) -> None:
        """Wait until so many calls wait for a change."""
        waiting = self.sandbox._entrance.prospects._waiting
        until(lambda: len(waiting) == number, f"{number} waiting")


def until(seen: Callable[[], object], what: str) -> None:
    pause = threading.Event()
    for _ in range(int(PATIENCE * 1000)):
        if seen():
            return
        pause.wait(0.001)
    raise AssertionError(f"never {what}")


class Hold:
    """Holds up whoever tells of a kind of event, until it is let go."""

    def __init__(self, host: Host, kind: type[Event]) -> None:
        self._kind = kind
        self.begun, self._go = threading.Event(), threading.Event()
        self._unsubscribe = host.registry.subscribe(self._hear)

    def _hear(self, event: Event) -> None:
        if isinstance(event, self._kind) and not self._go.is_set():
            self.begun.set()
            assert self._go.wait(PATIENCE)

    def __enter__(self) -> Self:
        return self

    def await_it(self) -> None:
        assert self.begun.wait(PATIENCE)

    def __exit__(self, *_: object) -> None:
        self._go.set()
        self._unsubscribe()


Cases = Callable[..., Case]


@pytest.fixture
def case(tmp_path: Path) -> Iterator[Cases]:
    """Return what makes a host with such a plugin, and starts it unless told otherwise."""
    made: list[Case] = []

    def build(table: str = PERMANENT, *, start: bool = True) -> Case:
        (tmp_path / "shop.py").write_text(PLUGIN)
        config = tmp_path / "plugkeep.toml"
        config.write_text(
            f'[plugins.shop]\nsource = "file:shop.py"\nisolation = "process"\n{table}\n'
        )
        made.append(one := Case(Host.from_file(config), tmp_path))
        if start:
            assert not one.host.start()
        return one

    yield build
    for each in made:
        each.host.stop()
        each.threads.shutdown()


async def _first(stream: Any) -> Any:
    async with stream:
        return await anext(stream)


async def _all(values: Any) -> list[Any]:
    return [each async for each in values]


WAYS: dict[str, Callable[[Any], Any]] = {
    "call": lambda s: s.call("echo", 1),
    "acall, asyncio": lambda s: asyncio.run(s.acall("echo", 1)),
    "acall, trio": lambda s: trio.run(lambda: s.acall("echo", 1)),
    "stream": lambda s: next(s.stream("count")),
    "astream, asyncio": lambda s: asyncio.run(_first(s.astream("count"))),
    "astream, trio": lambda s: trio.run(lambda: _first(s.astream("count"))),
    "map": lambda s: next(s.map("echo", [1])),
    "amap": lambda s: asyncio.run(_all(s.amap("echo", [1])))[0],
}


# --- waiting ----------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_it_waits_from_the_crash_until_it_is_up_again(case, way):
    one = case()
    patient = one.sandbox.using(wait=True)
    with Hold(one.host, Failed) as hold:  # it has ended, and nobody has done anything about it
        one.end()
        hold.await_it()
        waiting = one.threads.submit(WAYS[way], patient)
        one.await_waiting(1)
        assert not waiting.done()
    assert waiting.result(PATIENCE) == 1


@pytest.mark.parametrize("limit", ["", "max_calls = 1\n", "max_calls = 1\nmax_waiting = 7\n"])
def test_it_waits_through_all_of_a_restart_with_limits_and_without(case, limit):
    one = case(limit + PERMANENT)
    patient = one.sandbox.using(wait=True)
    for kind in (Restarting, Starting):
        with Hold(one.host, kind) as hold:
            one.end()
            hold.await_it()
            waiting = one.threads.submit(patient.call, "echo", 1)
            one.await_waiting(1)
        assert waiting.result(PATIENCE) == 1


def test_without_it_they_fail_at_once_and_say_that_it_comes_back(case):
    one = case('restart = { when = "permanent", delay = 60, max_delay = 60 }')
    one.end()
    until(lambda: one.sandbox._life is None, "buried")
    for refused in (
        lambda: one.sandbox.call("echo"),
        lambda: asyncio.run(one.sandbox.acall("echo")),
        lambda: one.sandbox.using(timeout=5.0).call("echo"),
    ):
        with pytest.raises(NotStartedError) as caught:
            refused()
        assert str(caught.value) == (
            "plugin 'shop' is not running: it is being restarted; calls can wait for that, with "
            "using(wait=True)"
        )


def test_while_it_starts_for_the_first_time(case, tmp_path):
    one = case(start=False)
    os.mkfifo(tmp_path / "gate")
    with pytest.raises(NotStartedError, match=r"plugin 'shop' is not running$"):
        one.sandbox.using(wait=True).call("echo", 1)
    with Hold(one.host, Starting) as hold:
        starting = one.threads.submit(one.host.start)
        hold.await_it()
        until(lambda: one.sandbox._entrance.prospects.hope or hold._go.set(), "hope")
        with (tmp_path / "gate").open("w"):
            waiting = one.threads.submit(one.sandbox.using(wait=True).call, "echo", 1)
            one.await_waiting(1)
            with pytest.raises(NotStartedError, match=r"it is being started; calls can wait"):
                one.sandbox.call("echo")
    assert waiting.result(PATIENCE) == 1
    assert starting.result(PATIENCE) == []
    (tmp_path / "gate").unlink()


def test_a_sandbox_without_a_host_is_waited_for_while_its_own_start_is_under_way(tmp_path):
    (tmp_path / "shop.py").write_text(PLUGIN)
    os.mkfifo(tmp_path / "gate")
    sandbox = isolate(f"file:{tmp_path / 'shop.py'}")
    patient = sandbox.using(wait=True)
    with pytest.raises(NotStartedError, match=r"plugin 'shop' is not running$"):
        patient.call("echo")
    with ThreadPoolExecutor(2) as threads:
        starting = threads.submit(sandbox.start)
        with (tmp_path / "gate").open("w"):
            waiting = threads.submit(patient.call, "echo", 1)
            until(lambda: sandbox._entrance.prospects._waiting, "waiting")
        assert waiting.result(PATIENCE) == 1
        starting.result(PATIENCE)
        with pytest.raises(ProcessExitedError):
            sandbox.call("leave")
        with pytest.raises(NotStartedError, match="is not running"):  # nobody starts it again
            patient.call("echo")
        with pytest.raises(ProcessExitedError):
            sandbox.stop()
        (tmp_path / "broken").touch()
        (tmp_path / "gate").unlink()
        starting = threads.submit(sandbox.start)
        until(lambda: sandbox.pid or starting.done(), "launched")
        with pytest.raises(NotStartedError):
            patient.call("echo")
        assert isinstance(starting.exception(PATIENCE), RemoteError)


@pytest.mark.parametrize("way", ["thread", "asyncio", "trio"])
def test_the_wait_is_part_of_a_calls_time(case, way):
    one = case("call_timeout = 0.05\n" + PERMANENT)
    patient = one.sandbox.using(wait=True)
    ways: dict[str, Callable[[], Any]] = {
        "thread": lambda: patient.call("echo"),
        "asyncio": lambda: asyncio.run(patient.acall("echo")),
        "trio": lambda: trio.run(lambda: patient.acall("echo")),
    }
    with Hold(one.host, Restarting) as hold:
        one.end()
        hold.await_it()
        with pytest.raises(CallTimeoutError, match="the plugin has not come up") as caught:
            ways[way]()
    assert (caught.value.timeout, caught.value.plugin) == (0.05, "shop")
    until(lambda: not one.sandbox._entrance.prospects._waiting, "forgotten")


def test_a_task_that_is_cancelled_waits_no_more(case):
    one = case()
    patient = one.sandbox.using(wait=True)
    waiting = one.sandbox._entrance.prospects._waiting

    async def with_asyncio() -> None:
        task = asyncio.create_task(patient.acall("echo"))
        while not waiting:
            await anyio.lowlevel.checkpoint()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def with_trio() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(patient.acall, "echo")
            while not waiting:
                await anyio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()

    with Hold(one.host, Restarting) as hold:
        one.end()
        hold.await_it()
        asyncio.run(with_asyncio())
        assert not waiting
        trio.run(with_trio)
        assert not waiting


@pytest.mark.parametrize("way", ["restart", "reload"])
def test_it_waits_while_it_is_restarted_by_hand(case, way):
    one = case("")
    patient = one.sandbox.using(wait=True)
    before = patient.call("pid")
    if way == "reload":
        assert one.host.reload("shop") is None
        assert one.sandbox.using(wait=True).call("pid") != before
        return
    with Hold(one.host, Starting) as hold:
        restarting = one.threads.submit(one.host.restart, "shop")
        hold.await_it()
        waiting = one.threads.submit(patient.call, "pid")
        one.await_waiting(1)
    assert waiting.result(PATIENCE) != before
    restarting.result(PATIENCE)


# --- no hope ----------------------------------------------------------------------------------


def test_with_nobody_to_start_it_again_they_fail(case):
    one = case("")
    patient = one.sandbox.using(wait=True)
    with Hold(one.host, Failed):
        one.end()
        with pytest.raises(NotStartedError, match="is not running"):
            patient.call("echo")
    until(lambda: one.host.registry.state("shop") == "failed", "failed")
    until(lambda: one.sandbox.pid is None and one.sandbox._life is None, "buried")
    with pytest.raises(NotStartedError, match="is not running: plugin 'shop' ended by") as caught:
        patient.call("echo")
    assert isinstance(caught.value.__cause__, ProcessExitedError)


def test_a_clean_end_of_a_transient_one_ends_their_hope(case):
    one = case('restart = "transient"')
    with Hold(one.host, Failed) as hold:
        with pytest.raises(ProcessExitedError):
            one.sandbox.call("leave", 0)
        hold.await_it()
        waiting = one.threads.submit(one.sandbox.using(wait=True).call, "echo")
        one.await_waiting(1)
    error = waiting.exception(PATIENCE)
    assert isinstance(error, NotStartedError)
    assert not one.sandbox._entrance.prospects._waiting


def test_quarantine_is_told_with_its_cause(case):
    one = case('restart = { when = "permanent", delay = 0, intensity = 0 }')
    patient = one.sandbox.using(wait=True)
    with Hold(one.host, Failed) as hold:
        one.end()
        hold.await_it()
        waiting = one.threads.submit(patient.call, "echo")
        one.await_waiting(1)
    assert isinstance(waiting.exception(PATIENCE), QuarantinedError)
    until(lambda: one.sandbox._life is None, "buried")
    for refused in (patient.call, one.sandbox.call):
        with pytest.raises(QuarantinedError, match="quarantined; restart it by hand") as caught:
            refused("echo")
        assert isinstance(caught.value.__cause__, ProcessExitedError)
        assert caught.value.plugin == "shop"
    one.host.restart("shop")
    assert patient.call("echo", 1) == 1


@pytest.mark.parametrize("how", ["stop", "unregister"])
def test_whoever_stops_it_for_good_ends_their_hope(case, how):
    one = case('restart = { when = "permanent", delay = 60, max_delay = 60 }')
    sandbox = one.sandbox
    one.end()
    until(lambda: one.host.registry.state("shop") == "restarting", "restarting")
    waiting = one.threads.submit(sandbox.using(wait=True).call, "echo")
    one.await_waiting(1)
    if how == "stop":
        one.host.stop()
    else:
        one.host.registry.unregister("shop")
    assert isinstance(waiting.exception(PATIENCE), NotStartedError)


def test_a_host_that_is_forgotten_ends_their_hope(case):
    one = case('restart = { when = "permanent", delay = 60, max_delay = 60 }')
    sandbox = one.sandbox
    one.end()
    until(lambda: one.host.registry.state("shop") == "restarting", "restarting")
    waiting = one.threads.submit(sandbox.using(wait=True).call, "echo")
    one.await_waiting(1)
    one.host = Host()
    # Whoever deals with the end of the process may not have done yet.
    until(lambda: (gc.collect(), waiting.done())[1], "told")
    assert isinstance(waiting.exception(PATIENCE), NotStartedError)


# --- those that require it --------------------------------------------------------------------


def test_those_that_come_back_with_what_they_require_are_waited_for_all_along(tmp_path):
    (tmp_path / "shop.py").write_text(PLUGIN)
    config = tmp_path / "plugkeep.toml"
    table = 'source = "file:shop.py"\nisolation = "process"\n'
    config.write_text(
        f"[plugins.base]\n{table}{PERMANENT}\n[plugins.user]\n{table}requires = ['base']\n"
    )
    host = Host.from_file(config)
    assert not host.start()
    user: Any = host.registry["user"]
    hopes = []
    host.registry.subscribe(
        lambda event: event.plugin == "user" and hopes.append(user._entrance.prospects.hope)
    )
    with ThreadPoolExecutor(2) as threads, Hold(host, Stopping) as hold:
        with pytest.raises(ProcessExitedError):
            host.registry["base"].call("leave")  # type: ignore[attr-defined]
        hold.await_it()
        waiting: Future[Any] | None = None

        def call_when_down(event: Event) -> None:
            nonlocal waiting
            if isinstance(event, Restarting) and event.plugin == "user":
                waiting = threads.submit(user.using(wait=True).call, "echo", 1)

        host.registry.subscribe(call_when_down)
        hold.__exit__()
        until(lambda: waiting is not None, "down")
        assert waiting is not None
        assert waiting.result(PATIENCE) == 1
    until(lambda: host.registry.state("user") == "running", "up")
    # While it was being stopped, stopped, restarting and starting.
    assert hopes[0] is False
    assert set(hopes[1:-1]) == {True}, hopes
    host.stop()


# --- once more --------------------------------------------------------------------------------

RETRIED: dict[str, Callable[[Any], Any]] = {
    "call": lambda s: s.using(retry=True).call("crash_once"),
    "acall": lambda s: asyncio.run(s.using(retry=True).acall("crash_once")),
    "trio": lambda s: trio.run(lambda: s.using(retry=True).acall("crash_once")),
    "marked, call": lambda s: s.using(wait=True).call("crash_once_safely"),
    "marked, acall": lambda s: asyncio.run(s.using(wait=True).acall("crash_once_safely")),
}


@pytest.mark.parametrize("limit", ["", "max_calls = 1\n"])
@pytest.mark.parametrize("way", RETRIED)
def test_a_call_that_may_be_is_made_once_more_on_the_new_instance(case, tmp_path, way, limit):
    one = case(limit + PERMANENT)
    (tmp_path / "crash").touch()
    assert RETRIED[way](one.sandbox) == "done"
    assert one.calls == 2


def test_no_other_call_is_made_twice(case, tmp_path):
    one = case()
    for call in (
        lambda: one.sandbox.call("crash_once_safely"),
        lambda: one.sandbox.using(wait=True).call("crash_once"),
        lambda: asyncio.run(one.sandbox.using(wait=True).acall("crash_once")),
        lambda: one.sandbox.using(retry=True).using(retry=False).call("crash_once"),
    ):
        before = one.calls
        (tmp_path / "crash").touch()
        with pytest.raises(ProcessExitedError):
            call()
        assert one.calls == before + 1
        assert one.sandbox.using(wait=True).call("echo", 1) == 1


def test_never_more_often_than_twice(case):
    one = case()
    with pytest.raises(ProcessExitedError):
        one.sandbox.using(retry=True).call("crash")
    assert one.calls == 2


def test_not_after_an_error_or_a_timeout_or_of_a_stream(case):
    one = case()
    retrying = one.sandbox.using(retry=True)
    with pytest.raises(RemoteError):
        retrying.call("fail")
    assert one.calls == 1
    assert one.sandbox.using(wait=True).call("echo", 1) == 1
    with pytest.raises(ProcessExitedError):
        list(retrying.stream("count_and_crash"))
    assert one.calls == 2


def test_one_that_is_not_to_come_back_is_told_by_what_it_died_of(case):
    one = case("")
    with pytest.raises(ProcessExitedError, match="status 3") as caught:
        one.sandbox.using(retry=True).call("crash")
    assert "It was not called once more: plugin 'shop' is not running" in caught.value.__notes__[0]
    assert one.calls == 1


def test_both_times_are_within_one_timeout(case):
    one = case('restart = { when = "permanent", delay = 60, max_delay = 60 }')
    with pytest.raises(CallTimeoutError, match="the plugin has not come up") as caught:
        one.sandbox.using(retry=True, timeout=0.5).call("crash")
    assert isinstance(caught.value.__cause__, ProcessExitedError)
    assert one.calls == 1


# --- views ------------------------------------------------------------------------------------


def test_views_of_views_keep_their_manner(case, tmp_path):
    one = case()
    view = one.sandbox.using(retry=True).using(timeout=30.0).using(wait=True)
    (tmp_path / "crash").touch()
    assert view.call("crash_once") == "done"
    assert "retry" in repr(view)


def test_what_cannot_be_is_refused(case):
    one = case(start=False)
    with pytest.raises(ValueError, match="retry is True and wait False"):
        one.sandbox.using(retry=True, wait=False)
    with pytest.raises(TypeError, match="wait is 1"):
        one.sandbox.using(wait=1)


def test_a_restart_on_purpose_is_waited_for_from_its_first_moment(case):
    """Also while the plugin is being stopped, and lets calls under way come to their ends."""
    one = case('restart = "permanent"')
    over, wrong, made = threading.Event(), [], [0]

    def call() -> None:
        view = one.sandbox.using(wait=True, timeout=60)
        while not over.is_set():
            try:
                view.call("echo")
            except Exception as error:
                wrong.append(error)
            made[0] += 1

    threads = [one.threads.submit(call) for _ in range(2)]
    for _ in range(4):
        one.host.restart("shop")
    over.set()
    for each in threads:
        each.result(PATIENCE)
    assert [type(error) for error in wrong if type(error).__name__ != "ProcessExitedError"] == []
    assert made[0] > 4
