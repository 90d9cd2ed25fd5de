"""The host, the keeper or the zygote is killed, and nothing is left running or waiting."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from typing import Any

import pytest

RunHost = Callable[..., str]
Gone = Callable[[int], None]

THREAD = """\
import threading, time
threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
"""


def test_when_the_host_is_killed_all_descendants_are(begin_host: Any, gone: Gone) -> None:
    """Those, too, that have left session and parent, while a copy of the host lives on."""
    host = begin_host(
        """
        plugin = '''
        import os, signal
        def descend(ways):
            if ways:
                reader, writer = os.pipe()
                if not os.fork():
                    if ways[0] == "session":
                        os.setsid()
                    descend(ways[1:])
                    os.write(writer, b".")
                    if ways[0] == "orphan":
                        os._exit(0)
                    signal.pause()
                os.read(reader, 1)
            os.write(2, f"pid {os.getpid()}".encode() + bytes([10]))
        descend(["session", "orphan", "session"])
        descend(["orphan", "orphan", "child"])
        os.write(1, b'{"ready":true}')
        signal.pause()
        '''
        from textwrap import dedent
        for number in range(5):
            ExecSandbox(sys.executable, "-S", "-c", dedent(plugin), name=f"p{number}").start()
        say("keeper", keeper())
        if copy := os.fork():
            say("copy", copy)
        signal.pause()
        """,
    )
    pids: dict[str, list[int]] = {"pid": [], "keeper": [], "copy": []}
    while not pids["copy"] or len(pids["pid"]) < 5 * 8:
        line = host.stdout.readline()
        assert line, "the host has ended"
        if words := re.search(r"(pid|keeper|copy) (\d+)$", line):
            pids[words[1]].append(int(words[2]))
    host.kill()
    for pid in (*pids["pid"], *pids["keeper"]):
        gone(pid)
    os.kill(pids["copy"][0], signal.SIGKILL)


def test_when_the_keeper_dies_its_plugins_do_and_the_next_start_has_another(
    run_host: RunHost,
) -> None:
    said = run_host(
        """
        import threading, select
        sandboxes = [ExecSandbox("sh", "-c", OBEY, name=f"p{n}") for n in range(3)]
        for sandbox in sandboxes:
            sandbox.start()
        pids = [sandbox.pid for sandbox in sandboxes]
        first = keeper()
        watched = [os.pidfd_open(pid) for pid in pids]
        os.kill(first, signal.SIGKILL)
        for descriptor in watched:
            assert select.select([descriptor], [], [], 30)[0]
        for sandbox in sandboxes:
            try:
                sandbox.stop()
            except Exception as error:
                say(error)
        with sandboxes[0]:
            say(keeper() != first, keeper() > 0)
        """
    )
    lines = said.splitlines()
    assert sum(line.startswith("ERROR the keeper (process ") for line in lines) == 1
    assert "was ended by SIGKILL" in next(line for line in lines if "the keeper (" in line)
    assert sum("ended when its keeper died" in line for line in lines) >= 3
    assert lines[-1] == "True True"


def test_a_keeper_that_dies_while_it_launches_is_an_error(run_host: RunHost) -> None:
    said = run_host(
        """
        import threading
        sandbox = ExecSandbox("sh", "-c", OBEY)
        with sandbox:
            pass
        os.kill(keeper(), signal.SIGSTOP)
        threading.Timer(0.2, os.kill, [keeper(), signal.SIGKILL]).start()
        try:
            sandbox.start()
        except Exception as error:
            say(type(error).__name__, error)
        with sandbox:
            say("another")
        """
    )
    assert "LaunchError no plugin can start: the keeper has died" in said
    assert said.endswith("another\n")


def test_a_keeper_that_stands_still_does_not_hold_up_a_start_beyond_its_limit(
    run_host: RunHost,
) -> None:
    said = run_host(
        """
        sandbox = ExecSandbox("sh", "-c", OBEY, start_timeout=0.3)
        with sandbox:
            pass
        os.kill(keeper(), signal.SIGSTOP)
        try:
            sandbox.start()
        except Exception as error:
            say(type(error).__name__, error)
        os.kill(keeper(), signal.SIGCONT)
        with sandbox:
            say("goes on")
        """
    )
    assert "LaunchError" in said
    assert "no plugin was launched within 0." in said
    assert said.endswith("goes on\n")


def test_the_keeper_is_not_ended_by_what_ends_a_whole_service(run_host: RunHost) -> None:
    said = run_host(
        """
        with ExecSandbox("sh", "-c", OBEY) as sandbox:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
                os.kill(keeper(), number)
            first = keeper()
        with sandbox:
            say(keeper() == first)
        """
    )
    assert said == "True\n"


def test_a_forked_copy_of_the_host_has_a_keeper_of_its_own(run_host: RunHost) -> None:
    said = run_host(
        """
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # fork beside threads
        sandbox = ExecSandbox("sh", "-c", OBEY)
        sandbox.start()
        first = keeper()
        pid = os.fork()
        if not pid:
            with ExecSandbox("sh", "-c", OBEY):
                say(keeper() != first)
            os._exit(0)
        say(os.waitpid(pid, 0)[1])
        sandbox.stop()
        say(keeper() == first)
        """
    )
    assert said == "True\n0\nTrue\n"


def test_a_zygote_that_dies_is_replaced(run_host: RunHost, source: Any) -> None:
    said = run_host(
        """
        sandbox = isolate("file:" + sys.argv[1])
        with sandbox:
            first = zygote()
            os.kill(first, signal.SIGKILL)
            assert sandbox.call("pid") == sandbox.pid
        for _ in range(2):
            with sandbox:
                assert sandbox.call("pid") == sandbox.pid
        say(zygote() not in (0, first))
        """,
        source(),
    )
    reason = "not by a fork: the zygote has died: it was ended by SIGKILL"
    assert said == f"INFO plugin 'small' is started in a fresh interpreter, {reason}\nTrue\n"


def test_a_zygote_that_dies_again_and_again_is_not_tried_any_more(
    run_host: RunHost, source: Any
) -> None:
    said = run_host(
        """
        from plugkeep.sandbox.keeper import zygote as module
        module.RUNNER = ("-c", "raise SystemExit(3)")
        sandbox = isolate("file:" + sys.argv[1])
        for _ in range(5):
            with sandbox:
                assert sandbox.call("pid") == sandbox.pid
        say(zygote())
        """,
        source(),
    )
    lines = said.splitlines()
    assert [line.partition("not by a fork: ")[2] for line in lines[:-1]] == [
        *["the zygote has died: it exited with status 3"] * 3,
        *["the zygote has died 3 times in a row"] * 2,
    ]
    assert lines[-1] == "0"


def test_a_zygote_that_stands_still_is_done_away_with(run_host: RunHost, source: Any) -> None:
    said = run_host(
        """
        import plugkeep.sandbox.keeper.client as client
        sandbox = isolate("file:" + sys.argv[1])
        with sandbox:
            first = zygote()
        os.kill(first, signal.SIGSTOP)
        client.PATIENCE = 0.2
        with sandbox:
            assert sandbox.call("pid") == sandbox.pid
        say(zygote() != first)
        """,
        source(),
    )
    assert "not by a fork: the zygote has died: it did not answer in time" in said
    assert said.endswith("True\n")


def test_a_zygote_killed_at_any_moment_of_a_fork_costs_nobody_his_plugin(
    run_host: RunHost, source: Any
) -> None:
    said = run_host(
        """
        import threading, time
        def kill(victim, after):
            time.sleep(after)
            os.kill(victim, signal.SIGKILL)
        sandbox = isolate("file:" + sys.argv[1])
        killed = 0
        for attempt in range(40):
            with sandbox:
                pass
            if victim := zygote():
                killer = threading.Thread(target=kill, args=(victim, attempt % 30 * 2e-4))
                killer.start()
                with sandbox:
                    assert sandbox.call("pid") == sandbox.pid
                killer.join()
                killed += 1
        say(killed > 15)
        """,
        source(),
    )
    assert said.endswith("True\n")


def test_hundreds_of_requests_at_once(run_host: RunHost, source: Any) -> None:
    said = run_host(
        """
        import resource
        from concurrent.futures import ThreadPoolExecutor
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        with isolate("file:" + sys.argv[1]):
            pass
        def one(number):
            with isolate("file:" + sys.argv[1], name=f"p{number}", start_timeout=None) as sandbox:
                return sandbox.call("pid")
        with ThreadPoolExecutor(200) as pool:
            say(len(set(pool.map(one, range(400)))))
        """,
        source(),
    )
    assert said == "400\n"


@pytest.mark.parametrize(
    ("top", "why"),
    [
        (THREAD, "starts threads when it is imported"),
        ("import os; os.chdir('/')", "changes the working directory when it is imported"),
        (
            "import signal; signal.signal(signal.SIGUSR1, print)",
            "changes how signals are handled when it is imported",
        ),
        ("file = open('/dev/null')", "opens or closes files when it is imported"),
        ("import logging; logging.basicConfig()", "sets up logging when it is imported"),
        ("raise RuntimeError('no')", "cannot be imported: RuntimeError: no"),
        ("import os; os._exit(3)", None),
    ],
    ids=["threads", "folder", "signals", "files", "logging", "raises", "exits"],
)
def test_a_module_that_is_not_fit_for_it_is_not_imported_before_a_fork(
    run_host: RunHost, source: Any, tmp_path: Any, top: str, why: str | None
) -> None:
    (tmp_path / "unfit_module.py").write_text(top)
    said = run_host(
        """
        from plugkeep import preimport
        preimport("json", "unfit_module", "decimal")
        sandbox = isolate("file:" + sys.argv[1])
        for _ in range(2):
            with sandbox:
                assert sandbox.call("pid") == sandbox.pid
                assert sandbox.call("cwd") == os.getcwd()
        from plugkeep.sandbox.keeper.zygote import zygote
        say(zygote() is not None and zygote().modules)
        """,
        source(),
    )
    if why:
        assert said.splitlines() == [
            "WARNING module 'unfit_module' is not imported before plugins are forked: it " + why,
            "('json', 'decimal')",
        ]
    else:
        assert said.count("INFO plugin 'small' is started in a fresh interpreter") == 2


@pytest.mark.parametrize(
    "top",
    [
        THREAD,
        "os.chdir('/')",
        "import signal; signal.signal(signal.SIGUSR1, print)",
        "if not os.fork(): os._exit(0)",
    ],
    ids=["threads", "folder", "signals", "forks"],
)
def test_what_one_plugin_does_at_its_import_is_no_affair_of_the_next(
    run_host: RunHost, source: Any, top: str
) -> None:
    said = run_host(
        """
        for _ in range(3):
            with isolate("file:" + sys.argv[1]) as sandbox:
                assert sandbox.call("parent") == keeper()
        say("all")
        """,
        source(top),
    )
    assert said == "all\n"


def test_what_a_host_gives_up_is_not_had_by_what_it_starts_from_then_on(run_host: RunHost) -> None:
    said = run_host(
        """
        before = ExecSandbox("sh", "-c", OBEY, name="before")
        before.start()
        first = keeper()
        os.umask(0o027)
        os.nice(3)
        if not os.getuid():
            os.setgroups([4711])
            os.setresgid(4711, 4711, 4711)
        with ExecSandbox("sh", "-c", "echo $(id -G) $(umask) $(nice) >&2;" + OBEY, name="after"):
            pass
        say(*os.getgroups(), "0027", os.nice(0))
        say(keeper() != first, before.pid is not None)
        before.stop()
        """,
        cwd="/tmp",
    )
    logged, expected, last = said.splitlines()
    assert logged == f"WARNING {expected}"
    assert last == "True True"


def test_a_host_whose_other_code_waits_for_all_children_disturbs_nothing(
    run_host: RunHost, source: Any
) -> None:
    said = run_host(
        """
        import threading
        def wait():
            try:
                while True:
                    os.wait()
            except ChildProcessError:
                pass
        sandbox = isolate("file:" + sys.argv[1])
        with sandbox:
            waiter = threading.Thread(target=wait)
            waiter.start()
        with sandbox:
            say(sandbox.call("pid") == sandbox.pid)
        os.kill(keeper(), signal.SIGKILL)
        waiter.join()
        with sandbox:
            say(sandbox.call("pid") == sandbox.pid)
        """,
        source(),
    )
    first, died, second = said.splitlines()
    assert (first, second) == ("True", "True")
    assert died.endswith("has died, and all that it kept: how is unknown")


def test_processes_that_multiprocessing_forks_have_plugins_of_their_own(
    run_host: RunHost, source: Any
) -> None:
    said = run_host(
        """
        import multiprocessing
        def one(number):
            with isolate("file:" + sys.argv[1], name=f"p{number}") as sandbox:
                return sandbox.call("pid")
        ours = one(0)
        with multiprocessing.get_context("fork").Pool(2) as pool:
            say(len({ours, *pool.map(one, range(4))}))
        """,
        source(),
    )
    assert said == "5\n"


def test_nothing_piles_up_in_the_helpers(run_host: RunHost, source: Any) -> None:
    said = run_host(
        """
        def held():
            return [len(os.listdir(f"/proc/{pid}/fd")) for pid in (keeper(), zygote())]
        kinds = isolate("file:" + sys.argv[1]), ExecSandbox("sh", "-c", OBEY)
        missing = ExecSandbox("/does/not/exist")
        def all_kinds():
            try:
                missing.start()
            except FileNotFoundError:
                pass
            for sandbox in kinds:
                with sandbox:
                    pass
        all_kinds()
        before = held()
        for _ in range(20):
            all_kinds()
        say(held() == before or (before, held()))
        """,
        source(),
    )
    assert said == "True\n"
