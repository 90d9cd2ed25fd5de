"""Plugins that end while they should be running: the log says so at once, and only then."""

from __future__ import annotations

import gc
import logging
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from plugkeep.errors import (
    ExitedBeforeReadyError,
    ExitStatusError,
    InvalidReadyError,
    ProcessExitedError,
    StopIgnoredError,
)
from plugkeep.sandbox import ExecSandbox
from plugkeep.sandbox._launch import Command
from plugkeep.sandbox._life import Life, Outcome
from plugkeep.sandbox._process import Process

Gone = Callable[[int | None], None]
RunHost = Callable[..., str]

ENDED = "plugin 'naughty' ended by itself: it "
OBEY = "printf '{\"ready\":true}'; read line"


def errors(records: Any) -> list[logging.LogRecord]:
    return [record for record in records.all if record.levelno >= logging.ERROR]


@pytest.mark.parametrize(
    ("fault", "told", "returncode", "number"),
    [
        (("exit-after-ready", "--status=0"), "exited with status 0", 0, None),
        (("exit-after-ready", "--status=3"), "exited with status 3", 3, None),
        (("kill-after-ready",), "was ended by SIGKILL", None, signal.SIGKILL),
        (("kill-after-ready", "--signal=40"), "was ended by signal 40", None, 40),
    ],
)
def test_it_is_logged_at_once_and_once(
    faulty: Any,
    records: Any,
    fault: tuple[str, ...],
    told: str,
    returncode: int | None,
    number: int | None,
) -> None:
    sandbox = faulty(*fault)
    sandbox.start()
    assert records.wait_for(ENDED) == told
    with pytest.raises(ProcessExitedError):
        sandbox.stop()
    [record] = errors(records)
    assert (record.name, record.levelname) == ("plugkeep.plugin.naughty", "ERROR")
    facts = vars(record)
    assert (facts["plugin"], facts["stream"]) == ("naughty", None)
    assert (facts["returncode"], facts["signal"]) == (returncode, number)


def test_it_comes_after_all_that_was_printed_and_quotes_the_last_of_stderr(
    plugin: Any, records: Any
) -> None:
    sandbox = plugin("""
        ready()
        os.write(1, b'out\\n' * 5000 + b'unended')
        os.write(2, b'err\\n' * 5000 + b'the reason')
        os._exit(1)
    """)
    sandbox.start()
    quoted = records.wait_for(ENDED + "exited with status 1; the last of its stderr:\n    ")
    assert quoted.split("\n    ") == ["err"] * 19 + ["the reason"]
    assert errors(records) == [records.all[-1]], "something was logged after it"
    assert records.lines("stdout") == ["out"] * 5000 + ["unended"]
    assert records.lines("stderr") == ["err"] * 5000 + ["the reason"]
    with pytest.raises(ProcessExitedError):
        sandbox.stop()


def test_all_that_follows_a_ready_message_read_after_the_end_is_logged(records: Any) -> None:
    """It is gone before the host comes to read, and all that it printed is in the pipe."""
    script = "import os; os.write(1, b'{\"ready\":true}\\n' + b'out\\n' * 10_000)"
    command = Command("early", sys.executable, ("-S", "-E", "-c", script), env=None, cwd=None)

    def launch(_deadline: float) -> Process:
        process = command.launch()
        assert process.wait(30)
        return process

    life = Life("early", launch, math.inf)
    assert life.await_ready(time.monotonic() + 30) is Outcome.READY
    assert records.wait_for("plugin 'early' ended by itself: it ") == "exited with status 0"
    life.end()
    assert records.lines("stdout") == ["out"] * 10_000
    assert len(errors(records)) == 1


def test_one_that_never_printed_anything_is_seen_too(shell: Any, records: Any) -> None:
    """The thread that logs has had nothing to do until then, and does not exist."""
    sandbox = shell(OBEY)
    sandbox.start()
    os.kill(sandbox.pid, signal.SIGSEGV)
    assert records.wait_for(ENDED) == "was ended by SIGSEGV"
    with pytest.raises(ProcessExitedError):
        sandbox.stop()


@pytest.mark.parametrize("flood", [False, True], ids=["silent", "flooding"])
def test_a_grandchild_that_holds_the_pipes_does_not_delay_it(
    plugin: Any, records: Any, gone: Gone, flood: bool
) -> None:
    sandbox = plugin(f"""
        ready()
        if not os.fork():
            signal.signal(signal.SIGUSR1, lambda *_: print('still here', flush=True))
            print('grandchild', os.getpid(), flush=True)
            while {flood}: os.write(1, b'still here\\n' * 100)
            while True: time.sleep(1)  # a signal just before it is heard after it
        sys.stdin.readline()
    """)
    sandbox.start()
    grandchild = int(records.wait_for("grandchild "))
    os.kill(sandbox.pid, signal.SIGKILL)
    assert records.wait_for(ENDED) == "was ended by SIGKILL"
    if not flood:
        os.kill(grandchild, signal.SIGUSR1)
    records.wait_for("still here")  # what it prints is logged as before
    with pytest.raises(ProcessExitedError):
        sandbox.stop()
    assert len(errors(records)) == 1
    gone(grandchild)


@pytest.mark.parametrize(
    ("fault", "options", "raised"),
    [
        ((), {}, None),
        (("exit-in-stop",), {}, ExitStatusError),
        (("ignore-stop",), {"stop_timeout": 0.1}, StopIgnoredError),
        (("exit-before-ready",), {}, ExitedBeforeReadyError),
        (("garbage-before-ready",), {}, InvalidReadyError),
    ],
    ids=["obeyed", "status", "killed", "not ready", "refused"],
)
def test_an_end_that_stop_or_start_tells_of_is_not_logged(
    faulty: Any, records: Any, fault: Any, options: Any, raised: type[Exception] | None
) -> None:
    sandbox = faulty(*fault, **options)
    for _ in range(3):
        with suppress(*[raised] if raised else []), sandbox:
            pass
    assert not errors(records)


def test_one_that_is_killed_because_it_was_forgotten_is_not_logged(
    shell: Any, records: Any, gone: Gone
) -> None:
    sandbox = shell(OBEY)
    sandbox.start()
    pid = sandbox.pid
    del sandbox
    gc.collect()
    gone(pid)
    assert not errors(records)


def test_beside_a_stop_it_is_logged_exactly_where_stop_raises_it(shell: Any, records: Any) -> None:
    """The program dies a little earlier or later than it is told to stop."""
    with shell(OBEY, name="other"):  # keeps the shared thread alive from one to the next
        for attempt in range(60):
            records.all.clear()
            sandbox = shell(OBEY if attempt % 2 else "printf '{\"ready\":true}'")
            sandbox.start()
            if attempt % 2:
                os.kill(sandbox.pid, signal.SIGKILL)
            by_itself = False
            try:
                sandbox.stop()
            except ProcessExitedError:
                by_itself = True
                records.wait_for(ENDED)
            except ExitStatusError:
                pass  # killed when it had been told already
            assert len(errors(records)) == by_itself, attempt


def test_one_that_ends_without_having_been_told_is_logged_by_stop(
    plugin: Any, records: Any
) -> None:
    """Its stdin is full, so that it could not be told; it ends soon after."""
    sandbox = plugin("""
        import select
        ready()
        pipe = os.open('/proc/self/fd/0', os.O_WRONLY | os.O_NONBLOCK)
        try:
            while os.write(pipe, b'x' * 4096): pass
        except BlockingIOError:
            os.close(pipe)
        closed = select.poll()
        closed.register(0, 0)
        print('full', flush=True)
        closed.poll()
    """)
    sandbox.start()
    records.wait_for("full")
    with pytest.raises(ProcessExitedError):
        sandbox.stop()
    [record] = errors(records)
    assert record.getMessage() == ENDED + "exited with status 0"


def test_many_that_die_together_are_logged_once_each(shell: Any, records: Any) -> None:
    sandboxes = [shell(OBEY, name=f"p{number}") for number in range(20)]
    for sandbox in sandboxes:
        sandbox.start()
    for sandbox in sandboxes:
        os.kill(sandbox.pid, signal.SIGKILL)
    for sandbox in sandboxes:
        records.wait_for(f"plugin {sandbox.name!r} ended by itself: it was ended by SIGKILL")
    assert [thread.name for thread in threading.enumerate()].count("plugkeep-io") == 1
    for sandbox in sandboxes:
        with pytest.raises(ProcessExitedError):
            sandbox.stop()
    assert len(errors(records)) == 20


@contextmanager
def handling(react: Callable[[logging.LogRecord], None]) -> Iterator[threading.Event]:
    """Call `react` with each ERROR of the plugin; yield what is set when it has come back."""
    done = threading.Event()

    class Reactor(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            try:
                react(record)
            finally:
                done.set()

    handler = Reactor(logging.ERROR)
    logger = logging.getLogger("plugkeep.plugin.naughty")
    logger.addHandler(handler)
    try:
        yield done
    finally:
        logger.removeHandler(handler)


def test_a_log_handler_may_stop_and_start_the_plugin_that_has_ended(
    shell: Any, records: Any
) -> None:
    sandbox: ExecSandbox = shell(OBEY)
    sandbox.start()
    first = sandbox.pid

    def again(record: logging.LogRecord) -> None:
        with suppress(ProcessExitedError):
            sandbox.stop()
        sandbox.start()

    with handling(again) as done:
        assert first is not None
        os.kill(first, signal.SIGKILL)
        assert done.wait(30)
        assert sandbox.pid not in (None, first)
        sandbox.stop()
    assert len(errors(records)) == 1


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_log_handler_may_stop_the_plugin_at_its_last_line(
    plugin: Any, records: Any, stream: str
) -> None:
    """Its pipes are closed, then, in the middle of being read to the end."""
    sandbox: ExecSandbox = plugin(
        f"""
        ready()
        os.write({1 if stream == "stdout" else 2}, b'line\\n' * 10_000 + b'last words\\n')
        os._exit(4)
        """
    )

    class Stopper(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.getMessage() == "last words":
                with suppress(ProcessExitedError):
                    sandbox.stop()

    logger, handler = logging.getLogger("plugkeep.plugin.naughty"), Stopper()
    logger.addHandler(handler)
    try:
        sandbox.start()
        assert records.wait_for(ENDED).startswith("exited with status 4")
        for thread in threading.enumerate():
            if thread.name == "plugkeep-io":
                thread.join(30)
    finally:
        logger.removeHandler(handler)
    assert records.lines(stream)[-1] == "last words"
    assert len(errors(records)) == 1


def test_a_log_handler_that_raises_harms_no_other_plugin(
    shell: Any, records: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(record: logging.LogRecord) -> None:
        raise SystemExit("the handler's own")

    first, second = shell(OBEY), shell(OBEY, name="second")
    first.start()
    second.start()
    with handling(fail) as done:
        os.kill(first.pid, signal.SIGKILL)
        assert done.wait(30)
    os.kill(second.pid, signal.SIGKILL)
    records.wait_for("plugin 'second' ended by itself")
    for sandbox in (first, second):
        with pytest.raises(ProcessExitedError):
            sandbox.stop()
    assert "the handler's own" in capsys.readouterr().err


def test_a_host_that_has_not_set_up_logging_reads_it_on_stderr(run_host: RunHost) -> None:
    said = run_host(
        """
        import io, os, select, signal, sys
        sandbox = ExecSandbox("sh", "-c", "printf '{\\"ready\\":true}'; read line", name="quiet")
        sandbox.start()
        reader, writer = os.pipe()
        sys.stderr = os.fdopen(writer, "w", buffering=1)
        os.kill(sandbox.pid, signal.SIGKILL)
        assert select.select([reader], [], [], 30)[0], "nothing was said"
        print(os.read(reader, 1000).decode(), end="")
        """
    )
    assert said == "plugin 'quiet' ended by itself: it was ended by SIGKILL\n"


def test_where_the_system_reaps_the_hosts_children_it_is_still_known_how_they_end(
    run_host: RunHost,
) -> None:
    said = run_host(
        """
        import logging, os, signal, threading
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        ended = threading.Event()
        class Keep(logging.Handler):
            def emit(self, record):
                print(record.getMessage(), record.returncode, record.signal)
                ended.set()
        logging.getLogger("plugkeep.plugin.lost").addHandler(Keep())
        sandbox = ExecSandbox("sh", "-c", "printf '{\\"ready\\":true}'; read line", name="lost")
        sandbox.start()
        os.kill(sandbox.pid, signal.SIGKILL)
        assert ended.wait(30)
        """
    )
    assert said == "plugin 'lost' ended by itself: it was ended by SIGKILL None 9\n"


def test_dying_and_forgotten_at_random_points_deadlocks_nobody(run_host: RunHost) -> None:
    """The garbage collector comes by on the thread that is about to report the very same end."""
    said = run_host(
        """
        import gc, logging, threading
        logging.getLogger("plugkeep").addHandler(logging.NullHandler())
        logging.getLogger("plugkeep").propagate = False
        gc.set_threshold(10)

        class Cycle:
            def __init__(self):
                self.me = self
                self.sandbox = ExecSandbox("sh", "-c", "printf '{\\"ready\\":true}'")
                self.sandbox.start()

        def work():
            for _ in range(40):
                Cycle()

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for _ in range(300):
            gc.collect()  # which does nothing while another thread is still at that
            for thread in threading.enumerate():
                if thread.name == "plugkeep-io":  # it may be at its last line
                    thread.join(0.1)
        # To `threading` a bare thread on which the collector came by may be a dummy, and stays.
        print([each.name for each in threading.enumerate() if not each.name.startswith("Dummy")])
        """
    )
    assert said == "['MainThread']\n"
