"""What every test is held to: it leaves nothing running or open, and CI skips none.

A test must give back every descriptor, thread and child process that it opened; one that keeps
something on purpose says so with ``@pytest.mark.keeps("why")``. With PLUGKEEP_NO_SKIPS=1, as CI
sets it, a skipped test counts as a failed one.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import settings

NO_SKIPS = os.environ.get("PLUGKEEP_NO_SKIPS") == "1"
#: Seconds that what a test started has to be gone, counted from the end of the test.
PATIENCE = 5.0

# A shared machine is no place for deadlines; CI tries the same examples at every run.
settings.register_profile("plugkeep", deadline=None, derandomize=NO_SKIPS)
settings.load_profile("plugkeep")

# A shell has what it starts in the background ignore Ctrl-C; the tests of that need the usual.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def own_ledgers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Have keepers here note down what they launch where no other tests' keepers look for it."""
    folder = tmp_path_factory.mktemp("runtime")
    folder.chmod(0o700)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(folder))
        yield


@pytest.fixture(autouse=True)
def no_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a descriptor, a thread or a child process behind."""
    if request.node.get_closest_marker("keeps"):
        yield
        return
    before = _Open()
    yield
    leaks = _Open().beyond(before)
    if leaks:
        gc.collect()
        before.wait_for_the_rest()
        leaks = _Open().beyond(before)
    if leaks:
        pytest.fail("left behind: " + "; ".join(leaks), pytrace=False)


@pytest.fixture(scope="session")
def until_asleep() -> Callable[[int], None]:
    """Wait until the main thread of a process sleeps, and does not only say that it is about to.

    CPython lets a wait that begins just after a signal came hear of the signal at its end only, so
    a test that signals a process that "hangs" has to see it hang first.
    """

    def wait(pid: int) -> None:
        end = time.monotonic() + 60
        while _state(pid) != "S":
            assert time.monotonic() < end, f"process {pid} never came to sleep"
            time.sleep(0.001)

    return wait


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]


class _Open:
    """What this process has open at one moment."""

    def __init__(self) -> None:
        kept, lasting = _keepers()
        self.descriptors = {n: to for n, to in _descriptors().items() if n not in lasting}
        self.threads = set(threading.enumerate())
        self.children = _children("self").union(*map(_children, kept)) - kept

    def beyond(self, other: _Open) -> list[str]:
        """Describe what is open here and was not there."""
        descriptors = self.descriptors.items() - other.descriptors.items()
        return [
            *(f"descriptor {number} of {target}" for number, target in sorted(descriptors)),
            *(f"thread {thread.name!r}" for thread in self.threads - other.threads),
            *(f"child {pid} ({_command(pid)})" for pid in self.children - other.children),
        ]

    def wait_for_the_rest(self) -> None:
        """Wait for what came since to end by itself: threads and children may be on their way."""
        now = _Open()
        for thread in now.threads - self.threads:
            if thread.ident is not None:  # else it is just about to come up
                thread.join(PATIENCE)
        for pid in now.children - self.children:
            _wait_for_exit(pid)


def _descriptors() -> dict[int, str]:
    found = {}
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            target = os.readlink(descriptor)  # noqa: PTH115  (pipe:[1] is no path)
        except OSError:  # the listing's own
            continue
        found[int(descriptor.name)] = target.removesuffix(" (deleted)")
    return found


def _keepers() -> tuple[set[int], set[int]]:
    """Return keeper and zygote, which stay as long as their host, and what we hold them by.

    What they have as children has been left running, and is found.
    """
    client = sys.modules.get("plugkeep.sandbox.keeper.client")
    zygotes = sys.modules.get("plugkeep.sandbox.keeper.zygote")
    lasting = client.keepers() if client else []
    if zygotes and (zygote := zygotes.zygote()):
        lasting.append(zygote)
    return (
        {each.pid for each in lasting},
        {number for each in lasting for number in each.descriptors},
    )


def _children(process: int | str) -> set[int]:
    """Return the children of a process, those included that are dead and were not waited for."""
    found: set[int] = set()
    try:
        tasks = list(Path(f"/proc/{process}/task").iterdir())
    except OSError:  # it is gone
        return found
    for task in tasks:
        try:
            found.update(map(int, (task / "children").read_text().split()))
        except OSError:  # the thread is gone
            continue
    return found


def _command(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return "gone"
    return b" ".join(words).decode(errors="replace").strip() or "dead, not waited for"


def _wait_for_exit(pid: int) -> None:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        select.select([descriptor], [], [], PATIENCE)
    finally:
        os.close(descriptor)


# --- CI skips nothing -------------------------------------------------------------------------


Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return _fail_if_skipped((yield))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return _fail_if_skipped((yield))


def _fail_if_skipped(report: Report) -> Report:
    expected = hasattr(report, "wasxfail")
    if NO_SKIPS and report.skipped and not expected:
        reason = report.longrepr[-1] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"skipped, where nothing may be: {reason}"
    return report
