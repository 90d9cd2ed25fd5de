"""What plugins print after ready: all of it is read and logged, in bounded memory."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest

from plugkeep.errors import ExitStatusError
from plugkeep.sandbox import ExecSandbox

ENDED = "\nsys.stdin.readline()\n"


def test_each_line_is_a_record_of_the_plugins_logger(plugin: Any, records: Any) -> None:
    sandbox = plugin(
        """
        print('early', file=sys.stderr)
        ready()
        print('one')
        print('two\\r')
        print()
        print('thr\\u00e9\\u00e9', flush=True)
        os.write(1, b'f\\xffour\\n')
        print('oops', file=sys.stderr)
        sys.stdin.readline()
        os.write(1, b'unended')
        os.write(2, b'unended, too')
        """,
        name="talker",
        env={"PYTHONIOENCODING": "utf-8", "PYTHONUTF8": "1"},
    )
    with sandbox:
        pass
    assert records.lines("stdout") == ["one", "two", "thréé", "f\ufffdour", "unended"]
    assert records.lines("stderr") == ["early", "oops", "unended, too"]
    assert {record.name for record in records.all} == {"plugkeep.plugin.talker"}
    assert {vars(record)["plugin"] for record in records.all} == {"talker"}
    levels = {(vars(record)["stream"], record.levelno) for record in records.all}
    assert levels == {("stdout", logging.INFO), ("stderr", logging.WARNING)}


def test_a_percent_sign_is_no_format(plugin: Any, records: Any) -> None:
    with plugin("ready(); print('100% %s %d', flush=True)" + ENDED):
        pass
    assert records.lines("stdout") == ["100% %s %d"]


@pytest.mark.parametrize("streams", ["1,", "2,", "1, 2"])
def test_a_flood_blocks_nobody_and_is_logged_to_the_last_line(
    plugin: Any, records: Any, streams: str
) -> None:
    sandbox = plugin(f"""
        ready()
        for number in range(20000):
            for stream in ({streams}): os.write(stream, b'line %d\\n' % number)
        sys.stdin.readline()
        for stream in ({streams}): os.write(stream, b'the last\\n' * 1000)
    """)
    with sandbox:
        pass
    expected = [f"line {number}" for number in range(20000)] + ["the last"] * 1000
    for number, stream in ((1, "stdout"), (2, "stderr")):
        if str(number) in streams:
            assert records.lines(stream) == expected


def test_a_flood_that_never_ends_does_not_hold_up_stop(plugin: Any) -> None:
    sandbox = plugin("""
        ready()
        os.set_blocking(0, False)
        import select
        while not select.select([0], [], [], 0)[0]: os.write(1, b'y\\n' * 20000)
    """)
    logging.getLogger("plugkeep.plugin.naughty").setLevel(logging.ERROR)
    try:
        with sandbox:
            assert sandbox.pid
    finally:
        logging.getLogger("plugkeep.plugin.naughty").setLevel(logging.NOTSET)


def test_a_flood_before_ready_does_not_hold_it_up(plugin: Any, records: Any) -> None:
    with plugin("os.write(2, b'noise\\n' * 30_000); ready()" + ENDED):
        pass
    assert records.lines("stderr") == ["noise"] * 30_000


@pytest.mark.parametrize("stream", [1, 2])
def test_an_endless_line_costs_no_memory(run_host: Callable[..., str], stream: int) -> None:
    said = run_host(
        """
        import logging, resource, sys
        lines = []
        class Keep(logging.Handler):
            def emit(self, record):
                lines.append(record.getMessage())
        logger = logging.getLogger("plugkeep.plugin.endless")
        logger.addHandler(Keep())
        logger.setLevel(logging.INFO)
        logger.propagate = False

        def run(size):
            with ExecSandbox(
                sys.executable, "-S", "-E", "-c",
                "import os, sys\\n"
                "os.write(1, b'{\\"ready\\":true}')\\n"
                f"for _ in range({size}): os.write({sys.argv[1]}, b'x' * 2**20)\\n"
                f"os.write({sys.argv[1]}, b'\\\\nnext')\\n"
                "sys.stdin.readline()",
                name="endless", stop_timeout=60,
            ):
                pass
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

        before = run(1)
        after = run(100)
        lines = [(len(line), line[-42:].strip("x")) for line in lines]
        print(after - before < 8 * 1024 or f"{after - before} KiB more", lines)
        """,
        str(stream),
    )
    note = " [cut: a line is logged up to 65536 bytes]"
    cut = (65536 + len(note), note)
    assert said == f"True {[cut, (4, 'next'), cut, (4, 'next')]}\n"


def test_what_was_printed_last_is_in_the_error(plugin: Any) -> None:
    sandbox = plugin("""
        ready()
        sys.stdin.readline()
        os.write(2, b'x' * 200_000)
        os.write(2, b'\\nthe reason')
        sys.exit(9)
    """)
    sandbox.start()
    with pytest.raises(ExitStatusError) as caught:
        sandbox.stop()
    cut, reason = caught.value.stderr
    assert cut == "x" * 1000 + "..."
    assert reason == "the reason"


def test_a_log_handler_may_stop_the_plugin_whose_line_it_handles(plugin: Any, ended: Any) -> None:
    """Reading happens on the thread that stop would wait for; the fixture sees to the leaks."""
    sandbox: ExecSandbox = plugin("""
        signal.signal(signal.SIGUSR1, lambda *_: print('stop me\\nand lose nothing', flush=True))
        ready()
        sys.stdin.readline()
        print('bye')
    """)
    logger = logging.getLogger("plugkeep.plugin.naughty")
    handled: list[str] = []

    class Stopper(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.getMessage() == "stop me":
                sandbox.stop()
            handled.append(record.getMessage())

    handler = Stopper()
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        sandbox.start()
        assert sandbox.pid
        os.kill(sandbox.pid, signal.SIGUSR1)
        ended(sandbox)
        for thread in threading.enumerate():
            if thread.name == "plugkeep-io":
                thread.join(30)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)
    assert sorted(handled) == ["and lose nothing", "bye", "stop me"]


def test_a_log_handler_that_raises_harms_nobody(
    plugin: Any, records: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    class Broken(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            raise SystemExit("the handler's own")

    logger = logging.getLogger("plugkeep.plugin.naughty")
    broken = Broken()
    logger.addFilter(broken)
    try:
        with plugin("ready(); print('lost', flush=True)" + ENDED):
            pass
    finally:
        logger.removeFilter(broken)
    assert "the handler's own" in capsys.readouterr().err
    with plugin("ready(); print('found', flush=True)" + ENDED):
        pass
    assert records.lines("stdout") == ["found"]
