"""A forked plugin, item by item beside the same one in a fresh interpreter."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from plugkeep.host import Host
from plugkeep.loaders.isolation import isolate
from plugkeep.sandbox import Sandbox
from plugkeep.sandbox.keeper.zygote import _early

PLUGIN = """
import gc, locale, logging, os, random, resource, signal, subprocess, sys, threading, time, warnings
from plugkeep import expose

AT_IMPORT = {"cwd": os.getcwd(), "argv": list(sys.argv), "streams": None}

def listing():
    for name in os.listdir("/proc/self/fd"):
        try:
            yield int(name), os.readlink(f"/proc/self/fd/{name}").split("[")[0]
        except OSError:
            pass

def stream(file):
    return [type(file).__name__, file.encoding, file.errors, file.line_buffering, file.fileno(),
            file.isatty(), file.newlines, file.name, file.mode]

class Look:
    name = "look"
    def start(self): ...
    def stop(self): ...

    @expose
    def look(self):
        main = sys.modules["__main__"]
        return {
            "environment": [list(each) for each in os.environb.items()],
            "environment in C": sorted(subprocess.check_output("env").splitlines()),
            "working directory": [os.getcwd(), AT_IMPORT["cwd"]],
            "descriptors": sorted(map(list, listing())),
            "handlers": [repr(signal.getsignal(n)).split(" at 0x")[0]
                         for n in sorted(signal.valid_signals())],
            "signals in C": [line for line in open("/proc/self/status")
                             if line.startswith(("SigBlk", "SigIgn", "SigCgt"))],
            "mask": sorted(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, ()))),
            "argv": [sys.argv, AT_IMPORT["argv"], sys.orig_argv],
            "flags": repr(sys.flags),
            "options": [sys.warnoptions, sys._xoptions],
            "executable": [sys.executable, sys.prefix, sys.base_prefix],
            "path": sys.path,
            "__main__": sorted(vars(main)),
            "__main__ is": [main.__name__, main.__file__, main.__package__, main.__spec__.name,
                            repr(type(main.__loader__))],
            "locale": [locale.setlocale(locale.LC_ALL), locale.getpreferredencoding(False),
                       sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()],
            "time zone": [list(time.tzname), time.timezone],
            "streams": [stream(sys.stdin), stream(sys.stdout), stream(sys.stderr)],
            "warnings": [repr(each) for each in warnings.filters],
            "logging": [logging.root.level, logging.raiseExceptions, logging.root.manager.disable,
                        [type(each).__name__ for each in logging.root.handlers]],
            "logging elsewhere": [
                each.name for each in logging.root.manager.loggerDict.values()
                if isinstance(each, logging.Logger) and (each.handlers or each.level)
            ],
            "threads": [[each.name, each.daemon] for each in threading.enumerate()
                        if each.name != "plugkeep-io"],  # which the runner has when it needs it
            "umask": [os.umask(0o22), os.umask(0o22)],
            "limits": [list(resource.getrlimit(n)) for n in range(16)],
            "who": [os.getresuid(), os.getresgid(), os.getgroups(), os.nice(0)],
            "session": [os.getsid(0) == os.getpid(), os.getpgrp() == os.getpid()],
            "parent": os.getppid(),
            "children": open(f"/proc/self/task/{os.getpid()}/children").read(),
            "collector": [gc.isenabled(), list(gc.get_threshold())],
            "recursion": sys.getrecursionlimit(),
            "hooks": [repr(sys.excepthook)[:40], len(sys.path_hooks), len(sys.meta_path)],
            "tracing": [sys.gettrace(), sys.getprofile()],
            "group of the terminal": os.path.exists("/dev/tty") and os.getsid(0) == os.getpid(),
        }

    @expose
    def draw(self):
        return random.random()

    @expose
    def draw_numpy(self):
        import numpy
        return float(numpy.random.random())

    @expose
    def key(self):
        import multiprocessing
        return bytes(multiprocessing.current_process().authkey)

    @expose
    def pid(self):
        return os.getpid()

PluginFactory = Look
"""

Make = Callable[..., Sandbox]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Return a function that makes a sandbox of the plugin that looks around."""
    source = tmp_path / "look.py"
    source.write_text(dedent(PLUGIN))
    return lambda **options: isolate(f"file:{source}", **options)


@pytest.fixture
def looks(make: Make) -> Callable[..., tuple[dict[str, Any], dict[str, Any]]]:
    """Return a function that returns what a forked one, and a fresh one, see."""

    def look(**options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        seen = []
        for fork in (True, False):
            with make(fork=fork, **options) as sandbox:
                assert is_forked(sandbox) is fork
                seen.append(sandbox.call("look"))
        return seen[0], seen[1]

    return look


def is_forked(sandbox: Sandbox) -> bool:
    """Say so by the command line, which a fork has of the zygote."""
    return b"--zygote" in Path(f"/proc/{sandbox.pid}/cmdline").read_bytes()


def encoded(environment: dict[str, str]) -> dict[bytes, bytes]:
    return {os.fsencode(name): os.fsencode(value) for name, value in environment.items()}


def test_it_sees_what_a_fresh_one_sees(looks: Any) -> None:
    forked, fresh = looks()
    for what, expected in fresh.items():
        assert forked[what] == expected, what


def test_with_an_environment_folder_and_time_zone_of_its_own(looks: Any, tmp_path: Path) -> None:
    env = {"PATH": os.environ["PATH"], "TZ": "Asia/Tokyo", "EMPTY": "", "MORE": "ü\udc80=x"}
    env |= dict(_early(os.environ))
    folder = tmp_path / "of its own"
    folder.mkdir()
    forked, fresh = looks(env=env, cwd=folder)
    assert forked == fresh
    assert forked["time zone"][1] == -9 * 3600
    assert forked["working directory"] == [str(folder)] * 2
    assert dict(forked["environment"]) == encoded(env)


def test_with_what_the_host_has_changed_since_the_zygote_was_there(
    make: Make, looks: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with make():
        pass
    monkeypatch.setenv("PLUGKEEP_TEST_OF_CHANGES", "yes")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path / "more"))
    before = os.umask(0o077)
    try:
        forked, fresh = looks()
    finally:
        os.umask(before)
    assert forked == fresh
    assert forked["umask"][0] == 0o077
    assert forked["path"][0] == str(tmp_path / "more")


def test_an_environment_of_any_size(make: Make) -> None:
    env = dict(os.environ) | {f"LARGE_{n}": "x" * 100_000 for n in range(10)}
    with make(env=env) as sandbox:
        assert is_forked(sandbox)
        assert dict(sandbox.call("look")["environment"]) == encoded(env)


@pytest.mark.parametrize("method", ["draw", "draw_numpy", "key"])
def test_nothing_random_is_shared(make: Make, preimported: Any, method: str) -> None:
    preimported("random", "numpy", "multiprocessing.process")
    random.seed(1)
    drawn = set()
    for _ in range(3):
        with make() as sandbox:
            assert is_forked(sandbox)
            drawn.add(sandbox.call(method))
    assert len(drawn) == 3


@pytest.fixture
def preimported() -> Iterator[Callable[..., None]]:
    """Return a function that has modules imported before the fork, for this test."""
    from plugkeep.sandbox.preimports import preimport

    yield preimport
    preimport()


def test_a_module_is_imported_before_the_fork(
    make: Make, preimported: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "imported_by.py").write_text("import os\nPID = os.getpid()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    source = tmp_path / "asks.py"
    source.write_text(
        dedent("""
        import imported_by
        from plugkeep import expose
        class PluginFactory:
            name = "asks"
            def start(self): ...
            def stop(self): ...
            @expose
            def by(self): return imported_by.PID
        """)
    )
    preimported("imported_by")
    by = set()
    for _ in range(2):
        with isolate(f"file:{source}") as sandbox:
            by.add(sandbox.call("by"))
            assert sandbox.pid not in by
    assert len(by) == 1


@pytest.mark.parametrize(
    ("name", "value"), [("PYTHONHASHSEED", "7"), ("LD_BIND_NOW", "1"), ("LANG", "C")]
)
def test_what_acts_when_an_interpreter_comes_up_is_had_from_a_fresh_one(
    make: Make, caplog: pytest.LogCaptureFixture, name: str, value: str
) -> None:
    caplog.set_level("INFO", "plugkeep.sandbox")
    with make(env={**os.environ, name: value}) as sandbox:
        assert not is_forked(sandbox)
        assert dict(sandbox.call("look")["environment"])[name.encode()] == value.encode()
    (message,) = caplog.messages
    assert message == (
        "plugin 'look' is started in a fresh interpreter, not by a fork: its environment has "
        f"{name} of its own, which must be there from the start"
    )


@pytest.mark.parametrize("forks", [True, False])
def test_a_configuration_can_ask_for_a_fresh_interpreter(tmp_path: Path, forks: bool) -> None:
    (tmp_path / "look.py").write_text(PLUGIN)
    config = tmp_path / "plugkeep.toml"
    config.write_text(
        f"""
        [plugins.look]
        source = "file:look.py:Look"
        isolation = "process"
        fork = {str(forks).lower()}
        """
    )
    with Host.from_file(config) as host:
        sandbox = host.registry["look"]
        assert isinstance(sandbox, Sandbox)
        assert is_forked(sandbox) is forks


def test_another_interpreter_is_no_fork(make: Make) -> None:
    with make(python=sys.executable) as sandbox:
        assert not is_forked(sandbox)
