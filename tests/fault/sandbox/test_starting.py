"""Plugins that do not come up: each failure has its error, and none leaves anything."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from plugkeep.errors import (
    AlreadyStartedError,
    ExitedBeforeReadyError,
    InvalidReadyError,
    NotStartedError,
    ProcessExitedError,
    ReadyTimeoutError,
)
from plugkeep.wire.ready import MAX_BYTES

SERVE = "\nfor line in sys.stdin: break\n"


def test_it_starts_and_stops_and_starts_again(plugin: Any, records: Any) -> None:
    sandbox = plugin("ready()" + SERVE + "print('bye')")
    assert sandbox.pid is None
    for _ in range(3):
        sandbox.start()
        assert os.getpgid(sandbox.pid) == sandbox.pid
        sandbox.stop()
        assert sandbox.pid is None
    assert records.lines("stdout") == ["bye"] * 3


def test_starting_twice_is_refused_and_harms_nothing(plugin: Any) -> None:
    sandbox = plugin("ready()" + SERVE)
    with sandbox:
        pid = sandbox.pid
        with pytest.raises(AlreadyStartedError, match="'naughty' has been started already"):
            sandbox.start()
        assert sandbox.pid == pid


def test_stopping_what_does_not_run_is_refused(plugin: Any) -> None:
    sandbox = plugin("ready()" + SERVE)
    with pytest.raises(NotStartedError, match="has not been started"):
        sandbox.stop()
    with sandbox:
        pass
    with pytest.raises(NotStartedError, match="has been stopped already"):
        sandbox.stop()


@pytest.mark.parametrize(
    ("end", "told", "returncode", "number"),
    [
        ("sys.exit(3)", "exited with status 3 before", 3, None),
        ("pass", "exited with status 0 before", 0, None),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "was ended by SIGSEGV before", None, 11),
        ("os.write(1, b'{\"rea'); sys.exit(4)", "exited with status 4 before", 4, None),
    ],
)
def test_exit_before_ready(
    plugin: Any, end: str, told: str, returncode: int | None, number: int | None
) -> None:
    sandbox = plugin(f"sys.stderr.write('no disk\\nnor memory'); sys.stderr.flush(); {end}")
    with pytest.raises(ExitedBeforeReadyError, match=told) as caught:
        sandbox.start()
    error = caught.value
    assert (error.plugin, error.returncode, error.signal) == ("naughty", returncode, number)
    assert error.stderr == ("no disk", "nor memory")
    assert "\n    no disk\n    nor memory" in str(error)
    assert sandbox.pid is None


def test_only_the_last_lines_of_stderr_are_quoted(plugin: Any) -> None:
    sandbox = plugin("""
        for number in range(5000): print('line', number, file=sys.stderr)
        sys.exit('y' * 5000)
    """)
    with pytest.raises(ExitedBeforeReadyError) as caught:
        sandbox.start()
    *lines, last = caught.value.stderr
    assert lines == [f"line {number}" for number in range(4981, 5000)]
    assert last == "y" * 1000 + "..."


def test_silence_ends_at_the_limit(shell: Any) -> None:
    sandbox = shell("echo waiting >&2; exec sleep 600", start_timeout=1)
    with pytest.raises(ReadyTimeoutError, match=r"within 1 s") as caught:
        sandbox.start()
    assert isinstance(caught.value, TimeoutError)
    assert caught.value.timeout == 1
    assert caught.value.stderr == ("waiting",)


def test_a_stopped_process_that_never_got_ready_is_killed(plugin: Any) -> None:
    sandbox = plugin("os.kill(os.getpid(), signal.SIGSTOP)", start_timeout=0.5)
    with pytest.raises(ReadyTimeoutError):
        sandbox.start()


def test_slow_drops_do_not_extend_the_limit(plugin: Any) -> None:
    sandbox = plugin(
        "while True: os.write(1, b' '); os.write(2, b'.'); time.sleep(0.01)", start_timeout=0.5
    )
    with pytest.raises(ReadyTimeoutError):
        sandbox.start()


@pytest.mark.parametrize(
    ("text", "reason", "received"),
    [
        ("b'Starting up...\\n'", "has 'S' at byte 0", b"Starting up...\n"),
        ("bytes(range(255, 0, -1)) * 300", r"has '\\xff' at byte 0", bytes(range(255, 55, -1))),
        ("b'{\"ready\": 1}'", 'has no "ready": true', b'{"ready": 1}'),
        (f"b'  [' + b' ' * {MAX_BYTES}", "has '\\[' at byte 2", b"[" + b" " * 199),
        (f"b' ' * {MAX_BYTES} + b'{{'", "is longer than 1048576 bytes", b"{"),
    ],
)
def test_what_is_no_ready_message_is_refused_at_once(
    plugin: Any, text: str, reason: str, received: bytes
) -> None:
    # The plugin stays: were the refusal not at once, the start would last for ever.
    sandbox = plugin(
        f"""
        text = {text}
        while text: text = text[os.write(1, text):]
        time.sleep(600)
        """,
        start_timeout=None,
    )
    with pytest.raises(InvalidReadyError, match=reason) as caught:
        sandbox.start()
    assert caught.value.received == received


@pytest.mark.parametrize(("size", "is_ready"), [(900_000, True), (1_100_000, False)])
def test_a_megabyte_of_json_is_where_it_ends(plugin: Any, size: int, is_ready: bool) -> None:
    sandbox = plugin(f"""
        os.set_blocking(1, True)
        text = b'{{"names": [' + b'"name", ' * ({size} // 8) + b'0], "ready": true}}'
        while text: text = text[os.write(1, text):]
        for line in sys.stdin: break
    """)
    if is_ready:
        with sandbox:
            assert sandbox.pid
    else:
        with pytest.raises(InvalidReadyError, match="longer than 1048576 bytes"):
            sandbox.start()


def test_ready_may_come_in_pieces_without_a_newline(plugin: Any) -> None:
    message = json.dumps({"name": "päckchen", "ready": True}, indent=1)
    sandbox = plugin(
        """
        for byte in os.fsencode(sys.argv[1]):
            os.write(1, bytes([byte]))
            os.write(2, b'.')
        """
        + SERVE.strip().replace("\n", "\n        "),
        message,
    )
    with sandbox:
        assert sandbox.pid


def test_what_follows_ready_on_its_line_is_logged(plugin: Any, records: Any) -> None:
    with plugin('os.write(1, b\'{"ready":true}{"more":1}\\n  \\nnext\\n\')' + SERVE):
        records.wait_for("next")
    assert records.lines("stdout") == ['{"more":1}', "next"]


@pytest.mark.parametrize("said", ["", '{"ready"'])
def test_closing_stdout_before_ready_is_refused(plugin: Any, said: str) -> None:
    sandbox = plugin(
        f"os.write(1, {said.encode()!r}); os.close(1); time.sleep(600)", start_timeout=None
    )
    with pytest.raises(InvalidReadyError, match=r"is empty|ends in the middle"):
        sandbox.start()


def test_closing_stdout_and_then_exiting_is_an_exit(plugin: Any) -> None:
    sandbox = plugin("os.close(1); sys.exit(5)")
    with pytest.raises(ExitedBeforeReadyError, match="status 5"):
        sandbox.start()


def test_a_plugin_that_puts_itself_in_the_background_has_exited(
    plugin: Any, records: Any, gone: Callable[[int | None], None]
) -> None:
    sandbox = plugin("""
        if os.fork(): os._exit(0)
        print('daemon', os.getpid(), file=sys.stderr, flush=True)
        time.sleep(600)
    """)
    with pytest.raises(ExitedBeforeReadyError, match="exited with status 0"):
        sandbox.start()
    for line in records.lines("stderr"):  # it may have been killed before it said so
        gone(int(line.split()[1]))


def test_a_failed_start_takes_the_whole_group_with_it(
    shell: Any, records: Any, gone: Callable[[int | None], None]
) -> None:
    sandbox = shell("sleep 600 & echo child $! >&2; sleep 600 & echo child $! >&2; echo no; wait")
    with pytest.raises(InvalidReadyError):
        sandbox.start()
    for line in records.lines("stderr"):
        gone(int(line.split()[1]))
    assert len(records.lines("stderr")) == 2


def test_after_a_failed_start_it_can_start(plugin: Any, tmp_path: Any) -> None:
    flag = tmp_path / "second"
    sandbox = plugin(f"""
        if not os.path.exists({str(flag)!r}): sys.exit(open({str(flag)!r}, 'w').close())
        ready()
        for line in sys.stdin: break
    """)
    with pytest.raises(ExitedBeforeReadyError):
        sandbox.start()
    with pytest.raises(NotStartedError, match="failed"):
        sandbox.stop()
    with sandbox:
        assert sandbox.pid


def test_ready_that_comes_with_the_exit_counts(plugin: Any) -> None:
    """It was ready, if not for long: the start succeeds however late we come to read."""
    for _ in range(10):
        sandbox = plugin("ready()")
        sandbox.start()
        with suppress(ProcessExitedError):  # unless the message came before its end
            sandbox.stop()


def test_while_it_starts_others_are_told_so(plugin: Any, records: Any) -> None:
    """The lock is not held meanwhile: start, stop and pid answer from another thread."""
    sandbox = plugin("""
        print('up', file=sys.stderr, flush=True)
        signal.signal(signal.SIGUSR1, lambda *_: ready())
        print('armed', file=sys.stderr, flush=True)
        for line in sys.stdin: break
    """)
    starter = threading.Thread(target=sandbox.start)
    starter.start()
    records.wait_for("armed")
    with pytest.raises(AlreadyStartedError, match="is being started"):
        sandbox.start()
    with pytest.raises(NotStartedError, match="is still being started"):
        sandbox.stop()
    os.kill(sandbox.pid, signal.SIGUSR1)
    starter.join()
    sandbox.stop()
