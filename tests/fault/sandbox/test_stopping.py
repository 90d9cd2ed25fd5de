"""Plugins that do not stop as they should: stop tells how it went, and always comes to an end."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from plugkeep.errors import (
    AlreadyStartedError,
    ExitStatusError,
    NotStartedError,
    PluginError,
    ProcessExitedError,
    StopIgnoredError,
)
from plugkeep.sandbox import ExecSandbox

Gone = Callable[[int | None], None]
Ended = Callable[[ExecSandbox], None]


def test_the_stop_message_and_the_end_of_stdin_is_all_that_it_is_told(
    plugin: Any, tmp_path: Path
) -> None:
    heard = tmp_path / "heard"
    sandbox = plugin(f"ready(); open({str(heard)!r}, 'wb').write(sys.stdin.buffer.read())")
    with sandbox:
        assert not heard.exists() or not heard.read_bytes()
    assert heard.read_bytes() == b'{"cmd":"stop"}\n'


@pytest.mark.parametrize(
    ("end", "told", "returncode", "number"),
    [
        ("sys.exit(7)", "was stopped, and exited with status 7", 7, None),
        ("raise ValueError('full')", "exited with status 1", 1, None),
        ("os.abort()", "was ended by SIGABRT", None, signal.SIGABRT),
        ("os.kill(os.getpid(), 40)", "was ended by signal 40", None, 40),
    ],
)
def test_a_bad_end_after_stop(
    plugin: Any, end: str, told: str, returncode: int | None, number: int | None
) -> None:
    sandbox = plugin(f"ready(); sys.stdin.readline(); print('oh no', file=sys.stderr)\n{end}")
    sandbox.start()
    with pytest.raises(ExitStatusError, match=told) as caught:
        sandbox.stop()
    error = caught.value
    assert (error.plugin, error.returncode, error.signal) == ("naughty", returncode, number)
    assert error.stderr[0] == "oh no"
    assert "\n    oh no" in str(error)
    sandbox.start()
    with pytest.raises(ExitStatusError):
        sandbox.stop()


@pytest.mark.parametrize(
    ("fault", "told", "returncode", "number"),
    [
        (("exit-after-ready", "--status=0"), "it exited with status 0", 0, None),
        (("exit-after-ready", "--status=1"), "it exited with status 1", 1, None),
        (("kill-after-ready",), "it was ended by SIGKILL", None, 9),
    ],
)
def test_a_plugin_that_ended_by_itself(
    faulty: Any,
    ended: Ended,
    fault: tuple[str, ...],
    told: str,
    returncode: int | None,
    number: int | None,
) -> None:
    sandbox = faulty(*fault)
    sandbox.start()
    ended(sandbox)
    with pytest.raises(AlreadyStartedError, match="stop it first"):
        sandbox.start()
    with pytest.raises(
        ProcessExitedError, match=f"by itself before it was to stop: {told}"
    ) as caught:
        sandbox.stop()
    assert (caught.value.returncode, caught.value.signal) == (returncode, number)
    with pytest.raises(NotStartedError):
        sandbox.stop()


@pytest.mark.parametrize(
    ("fault", "told", "number"),
    [
        ("ignore-stop", "sent SIGTERM, it was ended by SIGTERM", signal.SIGTERM),
        (
            "ignore-stop-and-sigterm",
            "nor after SIGTERM; it was ended by SIGKILL",
            signal.SIGKILL,
        ),
    ],
)
def test_a_plugin_that_ignores_stop_is_ended_by_force(
    faulty: Any, fault: str, told: str, number: int
) -> None:
    sandbox = faulty(fault, stop_timeout=1)  # and a second more in which to obey SIGTERM
    sandbox.start()
    with pytest.raises(
        StopIgnoredError, match=rf"within 1 s of being told to stop.*{told}"
    ) as caught:
        sandbox.stop()
    error = caught.value
    assert isinstance(error, TimeoutError)
    assert (error.timeout, error.returncode, error.signal) == (1, None, number)
    assert sandbox.pid is None


def test_a_plugin_that_obeys_sigterm_alone_ends_in_order(plugin: Any) -> None:
    sandbox = plugin(
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); ready(); time.sleep(600)",
        stop_timeout=1,
    )
    sandbox.start()
    with pytest.raises(StopIgnoredError, match="sent SIGTERM, it exited with status 0") as caught:
        sandbox.stop()
    assert (caught.value.timeout, caught.value.returncode, caught.value.signal) == (1, 0, None)
    assert sandbox.pid is None


def test_a_plugin_that_has_stopped_itself_can_still_end_in_order(plugin: Any) -> None:
    sandbox = plugin(
        """
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        ready()
        os.kill(os.getpid(), signal.SIGSTOP)
        time.sleep(600)
        """,
        stop_timeout=1,
    )
    sandbox.start()
    with pytest.raises(StopIgnoredError, match="sent SIGTERM, it exited with status 0"):
        sandbox.stop()


def test_an_interrupted_terminal_does_not_reach_the_plugin(plugin: Any) -> None:
    """It is in a session of its own, so that the host decides when it ends."""
    sandbox = plugin("ready()\nfor line in sys.stdin: break\nos.write(2, b'%d' % os.getsid(0))")
    with sandbox:
        assert os.getsid(sandbox.pid) == os.getpgid(sandbox.pid) == sandbox.pid != os.getsid(0)


def test_a_grandchild_that_holds_the_pipes_ends_with_the_plugin(
    plugin: Any, records: Any, gone: Gone
) -> None:
    sandbox = plugin("""
        if not os.fork(): time.sleep(600)
        print('{"ready":true}', flush=True)
        if not os.fork(): print('grandchild', os.getpid(), flush=True); time.sleep(600)
        sys.stdin.readline()
    """)
    with sandbox:
        grandchild = int(records.wait_for("grandchild "))
    gone(grandchild)


def test_a_grandchild_that_has_fled_cannot_hold_up_stop(
    plugin: Any, records: Any, gone: Gone
) -> None:
    """One with a session of its own is beyond the group; it floods the pipe, and stop returns."""
    sandbox = plugin("""
        ready()
        if not os.fork():
            os.setsid()
            print('grandchild', os.getpid(), flush=True)
            try:
                while True: os.write(1, b'still here\\n' * 100)
            except BrokenPipeError:
                os._exit(0)
        sys.stdin.readline()
    """)
    with sandbox:
        grandchild = int(records.wait_for("grandchild "))
    gone(grandchild)  # by itself, for nobody reads any more


@pytest.mark.parametrize("streams", ["1", "2", "1, 2"])
def test_closing_its_outputs_is_no_end(plugin: Any, streams: str) -> None:
    with plugin(
        f"ready()\nfor each in ({streams},): os.close(each)\nsys.stdin.readline()"
    ) as sandbox:
        assert sandbox.pid


def test_a_plugin_that_has_closed_its_stdin_is_ended_by_force(plugin: Any, records: Any) -> None:
    sandbox = plugin(
        "ready(); os.close(0); print('deaf', flush=True); time.sleep(600)", stop_timeout=0.2
    )
    sandbox.start()
    records.wait_for("deaf")
    with pytest.raises(StopIgnoredError, match="SIGTERM"):
        sandbox.stop()


def test_a_plugin_that_has_filled_its_own_stdin_is_ended_by_force(
    plugin: Any, records: Any
) -> None:
    sandbox = plugin(
        """
        ready()
        pipe = os.open('/proc/self/fd/0', os.O_WRONLY | os.O_NONBLOCK)
        try:
            while os.write(pipe, b'x' * 4096): pass
        except BlockingIOError:
            print('full', flush=True)
        time.sleep(600)
        """,
        stop_timeout=0.2,
    )
    sandbox.start()
    records.wait_for("full")
    with pytest.raises(StopIgnoredError):
        sandbox.stop()


def test_exiting_while_stop_is_written_is_one_end_or_the_other(plugin: Any) -> None:
    """Whichever comes first, it is told, and nothing hangs or leaks."""
    for _ in range(20):
        sandbox = plugin("ready()")
        sandbox.start()
        with suppress(ProcessExitedError):
            sandbox.stop()
        assert sandbox.pid is None


def test_of_two_that_stop_it_one_does(plugin: Any) -> None:
    sandbox = plugin("ready(); sys.stdin.readline()")
    for _ in range(10):
        sandbox.start()
        outcomes: list[object] = []

        def stop(outcomes: list[object] = outcomes) -> None:
            try:
                outcomes.append(sandbox.stop())
            except NotStartedError as error:
                outcomes.append(error)

        threads = [threading.Thread(target=stop) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert outcomes.count(None) == 1, outcomes
        assert len(outcomes) == 4


def test_of_two_that_start_it_one_does(plugin: Any) -> None:
    sandbox = plugin("ready(); sys.stdin.readline()")
    outcomes: list[object] = []

    def start() -> None:
        try:
            outcomes.append(sandbox.start())
        except AlreadyStartedError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count(None) == 1, outcomes
    assert len(outcomes) == 4
    sandbox.stop()


def test_fifty_side_by_side(plugin: Any) -> None:
    sandboxes = [plugin("ready(); sys.stdin.readline()", name=f"p{n}") for n in range(50)]
    failures: list[PluginError] = []

    def live(sandbox: ExecSandbox) -> None:
        try:
            for _ in range(2):
                with sandbox:
                    assert sandbox.pid
        except PluginError as error:
            failures.append(error)

    threads = [threading.Thread(target=live, args=(sandbox,)) for sandbox in sandboxes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert "plugkeep-io" not in [thread.name for thread in threading.enumerate()]


def test_many_running_at_once_share_one_thread(plugin: Any, records: Any) -> None:
    talk = "ready(); print(sys.argv[1], flush=True); sys.stdin.readline()"
    sandboxes = [plugin(talk, f"up {n}.", name=f"p{n}") for n in range(10)]
    before = threading.active_count()
    for number, sandbox in enumerate(sandboxes):
        sandbox.start()
        records.wait_for(f"up {number}.")
    assert threading.active_count() <= before + 1
    for sandbox in sandboxes:
        sandbox.stop()
    assert threading.active_count() == before


def test_with_tells_both_errors(plugin: Any) -> None:
    sandbox = plugin("ready(); sys.stdin.readline(); sys.exit(2)")
    with pytest.raises(KeyError) as caught, sandbox:
        raise KeyError("the body's own")
    assert "exited with status 2" in caught.value.__notes__[0]
    with pytest.raises(ExitStatusError), sandbox:
        pass
