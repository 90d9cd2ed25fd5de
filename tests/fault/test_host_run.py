"""`Host.run` in a process of its own, with real signals at the moments that matter."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading

import pytest

from plugkeep.errors import LifecycleError
from plugkeep.host import Host

PATIENCE = 60

#: Runs plugins made from (name, what start does, what stop does) and says what happens.
PROGRAM = """
import os, signal, sys, threading

def say(*words):
    os.write(1, " ".join(map(str, words)).encode() + b"\\n")

def hang():
    threading.Event().wait()

async def nothing(): ...

class Plain:
    def __init__(self, name, start="", stop=""):
        self.name, self._start, self._stop = name, start, stop
    def start(self):
        say("start", self.name)
        exec(self._start)
    def stop(self):
        say("stop", self.name)
        exec(self._stop)

class Async(Plain):
    async def start(self):
        say("start", self.name)
        exec(self._start)
        if self._start == "hang": await self.hang()
    async def stop(self):
        say("stop", self.name)
        if self._stop == "hang": await self.hang()
    async def hang(self):
        import asyncio
        say("hanging")
        await asyncio.Event().wait()

import plugkeep.host.running
from plugkeep.host import Host
plugkeep.host.running.SETTLE, plugkeep.host.running.LATE = SECONDS
host = Host(shutdown_timeout=SHUTDOWN)
for plugin in PLUGINS: host.registry.register(plugin)
before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
errors = host.run(when_started=lambda: say("running"), **OPTIONS)
after = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
for error in errors: say(type(error).__name__, error.plugin)
say("handlers are back" if before == after else "handlers are lost")
say(*(host.registry.state(name) for name in host.registry))
"""


class Running:
    """The program, and what it has said."""

    def __init__(self, plugins, options="{}", settle=0, late=0.01, shutdown=None, **popen):
        code = PROGRAM.replace("PLUGINS", plugins).replace("OPTIONS", options)
        code = code.replace("SHUTDOWN", repr(shutdown))
        code = code.replace("SECONDS", f"{settle}, {late}")
        self.process = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            **popen,
        )  # fmt: skip
        # A program that hangs is a failure, not a test that never ends.
        self._watchdog = threading.Timer(PATIENCE, self.process.kill)
        self._watchdog.start()

    def until(self, line):
        """Return the lines up to `line`, which the program says sooner or later."""
        said = []
        for each in self.process.stdout:
            said.append(each.rstrip())
            if said[-1] == line:
                return said
        pytest.fail(f"never said {line!r}, but {said}; {self.process.stderr.read()}")

    def send(self, number):
        self.process.send_signal(number)

    def rest(self):
        """Return the lines up to the end, which has to be a good one."""
        out, err = self.process.communicate(timeout=PATIENCE)
        assert (self.process.returncode, err) == (0, "")
        return out.splitlines()

    def close(self):
        self._watchdog.cancel()
        self._watchdog.join()
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def run():
    running = []

    def run(plugins, options="{}", **popen):
        running.append(Running(plugins, options, **popen))
        return running[-1]

    yield run
    for each in running:
        each.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("kind", ["Plain", "Async"])
def test_a_signal_stops_all_in_reverse(run, number, kind):
    running = run(f"Plain('a'), {kind}('b')")
    assert running.until("running") == ["start a", "start b", "running"]
    running.send(number)
    assert running.rest() == ["stop b", "stop a", "handlers are back", "stopped stopped"]


@pytest.mark.parametrize(
    "hung",
    ["Plain('b', 'say(\"hanging\"); hang()')", "Async('b', 'hang')"],
    ids=["plain", "asynchronous"],
)
def test_a_signal_ends_a_start_that_hangs(run, hung, until_asleep):
    running = run(f"Plain('a'), {hung}, Plain('c')")
    assert running.until("hanging") == ["start a", "start b", "hanging"]
    until_asleep(running.process.pid)
    running.send(signal.SIGINT)
    assert running.rest() == [
        "stop a",
        "StartError b",
        "handlers are back",
        "stopped failed registered",
    ]


@pytest.mark.parametrize(
    "hung",
    ["Plain('b', '', 'say(\"hanging\"); hang()')", "Async('b', '', 'hang')"],
    ids=["plain", "asynchronous"],
)
def test_a_second_signal_gives_up_the_stop_that_hangs_and_no_other(run, hung, until_asleep):
    running = run(f"Plain('a'), {hung}, Plain('c')")
    running.until("running")
    running.send(signal.SIGTERM)
    assert running.until("hanging") == ["stop c", "stop b", "hanging"]
    until_asleep(running.process.pid)
    running.send(signal.SIGTERM)
    assert running.rest() == [
        "stop a",
        "StopError b",
        "handlers are back",
        "stopped failed stopped",
    ]


HANGING = ["Plain('{}', '', 'say(\"hanging\"); hang()')", "Async('{}', '', 'hang')"]


@pytest.mark.parametrize("hung", HANGING, ids=["plain", "asynchronous"])
def test_a_third_signal_waits_for_none_and_leaves_none_out(run, hung, until_asleep):
    plugins = [hung.format(name) for name in "bd"]
    running = run(f"Plain('a'), {plugins[0]}, Plain('c'), {plugins[1]}, Plain('e')", shutdown=600)
    running.until("running")
    running.send(signal.SIGINT)
    assert running.until("hanging") == ["stop e", "stop d", "hanging"]
    until_asleep(running.process.pid)
    running.send(signal.SIGINT)
    assert running.until("hanging") == ["stop c", "stop b", "hanging"]
    until_asleep(running.process.pid)
    running.send(signal.SIGINT)
    assert running.rest() == [
        "stop a",
        "StopError d",
        "StopError b",
        "handlers are back",
        "stopped failed stopped failed stopped",
    ]


@pytest.mark.parametrize("hung", HANGING, ids=["plain", "asynchronous"])
def test_no_plugin_takes_longer_than_all_may(run, hung):
    plugins = [hung.format(name) for name in "bd"]
    running = run(f"Plain('a'), {plugins[0]}, Plain('c'), {plugins[1]}, Plain('e')", shutdown=3)
    running.until("running")
    running.send(signal.SIGTERM)
    said = running.rest()
    assert [line for line in said if line != "hanging"][:5] == [f"stop {name}" for name in "edcba"]
    assert said[-1] == "stopped failed stopped failed stopped"


@pytest.mark.parametrize("kind", ["Plain", "Async"])
def test_signals_that_come_together_count_as_one(run, kind):
    again = "os.kill(os.getpid(), signal.SIGTERM)"
    running = run(f"{kind}('a'), Plain('b', stop={again!r})", settle=PATIENCE)
    running.until("running")
    running.send(signal.SIGTERM)
    assert running.rest() == ["stop b", "stop a", "handlers are back", "stopped stopped"]


def test_an_asynchronous_plugin_that_exits_keeps_no_other_from_being_stopped(run):
    running = run("Plain('a'), Async('b', start='sys.exit(3)'), Plain('c')")
    out, _ = running.process.communicate(timeout=PATIENCE)
    assert out.splitlines()[:3] == ["start a", "start b", "stop a"]
    assert running.process.returncode == 3


def test_a_task_that_exits_keeps_none_from_being_stopped(run):
    leave = "import asyncio; asyncio.get_running_loop().call_soon(sys.exit, 3)"
    running = run(f"Plain('a'), Async('b', start={leave!r}), Plain('c')")
    running.until("start b")
    running.process.wait(PATIENCE)
    out, err = running.process.communicate()
    assert "stop a" in out.splitlines()
    assert "the event loop has ended under the plugins" in err


def test_plugins_that_fail_do_not_keep_the_others_from_running(run):
    running = run("Plain('bad', '1/0'), Plain('good', '', '1/0')")
    assert running.until("running") == ["start bad", "start good", "running"]
    running.send(signal.SIGINT)
    assert running.rest() == [
        "stop good",
        "StartError bad",
        "StopError good",
        "handlers are back",
        "failed failed",
    ]


def test_a_strict_run_ends_when_one_fails(run):
    running = run("Plain('good'), Plain('bad', '1/0')", "{'strict': True}")
    assert running.rest() == [
        "start good",
        "start bad",
        "running",
        "stop good",
        "StartError bad",
        "handlers are back",
        "stopped failed",
    ]


def test_a_run_in_which_nothing_runs_ends_at_once(run):
    assert run("Plain('bad', '1/0'),").rest()[-1] == "failed"
    assert run("()").rest() == ["running", "handlers are back", ""]


def test_a_hangup_that_was_ignored_stays_ignored(run):
    def nohup():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    ask = "say('ignored' if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else 'heeded')"
    running = run(f"Plain('a', {ask!r}),", preexec_fn=nohup)
    assert running.until("running") == ["start a", "ignored", "running"]
    running.send(signal.SIGHUP)
    running.send(signal.SIGTERM)
    assert running.rest() == ["stop a", "handlers are back", "stopped"]


def test_a_plugin_that_swallows_the_signal_cannot_keep_the_host_from_stopping(run, until_asleep):
    swallow = "try:\n  say('hanging'); hang()\nexcept BaseException: pass"
    running = run(f"Plain('a', {swallow!r}), Plain('b')")
    running.until("hanging")
    until_asleep(running.process.pid)
    running.send(signal.SIGINT)
    assert running.rest() == [
        "start b",
        "running",
        "stop b",
        "stop a",
        "handlers are back",
        "stopped stopped",
    ]


def test_a_start_that_was_given_up_and_succeeds_late_is_stopped_before_the_end(run, until_asleep):
    late = "Plain('b', 'say(\"hanging\"); sys.stdin.readline()')"
    running = run(f"Plain('a'), {late}, Async('c')", late=PATIENCE, stdin=subprocess.PIPE)
    running.until("hanging")
    until_asleep(running.process.pid)
    running.send(signal.SIGINT)
    running.until("stop a")
    running.process.stdin.write("go on\n")
    running.process.stdin.flush()
    assert running.rest()[0] == "stop b"


def test_signals_need_the_main_thread():
    caught = []

    def elsewhere():
        try:
            Host().run()
        except LifecycleError as error:
            caught.append(str(error))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join(PATIENCE)
    assert caught == [
        "signals can only be handled on the main thread; elsewhere use start() and stop()"
    ]


def test_a_run_ends_when_nothing_runs_any_more(run):
    fails = 'host.registry.report_failure(\\"b\\", OSError(\\"worn out\\"))'
    running = run(f"Plain('b', start=\"threading.Timer(0.05, lambda: {fails}).start()\"),")
    said = running.rest()
    assert said[:3] == ["start b", "running", "stop b"]
    assert "PluginFailedError b" in said
    assert said[-1] == "failed"
