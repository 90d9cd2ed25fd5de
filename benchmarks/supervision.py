"""How soon a death is noticed and made up for, and what is left behind by a thousand of them."""

from __future__ import annotations

import gc
import logging
import os
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from _measure import Row, at_most, at_most_times, seconds

from plugkeep import ExecSandbox, Host, PluginSpec, Registry, RestartPolicy
from plugkeep.errors import PluginError
from plugkeep.events import Started

PLUGIN = """
import os, signal, time
from plugkeep import expose

class PluginFactory:
    name = "mortal"
    version = 1
    def start(self): ...
    def stop(self): ...

    @expose
    def have_child(self):
        # It has all that we have open, and outlives us.
        child = os.fork()
        if not child:
            os.setsid()
            time.sleep(3600)
        return child

    @expose
    def wait(self):
        time.sleep(3600)

    @expose
    def echo(self, value):
        return value

    @expose
    def which(self, value):
        return [VERSION, os.getpid(), value]
"""
IGNORES = "trap '' TERM; echo '{\"ready\": true}'; while :; do read line || sleep 0.05; done"
OBEYS = "echo '{\"ready\": true}'; read line"
#: Seconds that stopping 100 plugins may take, some of which ignore it.
SHUTDOWN = 5.0


def run(quick: bool = False) -> list[Row]:
    logging.disable(logging.CRITICAL)  # who has died is known
    with tempfile.TemporaryDirectory() as folder:
        write(folder, 1)
        return [
            failed_call(folder, sandboxes=20 if quick else 100),
            answered_again(folder, rounds=10 if quick else 40),
            *reloads(folder, count=5 if quick else 25),
            *crashes(folder, count=100 if quick else 1000),
            *stopping(plugins=100),
        ]


def write(folder: str, version: int) -> None:
    Path(folder, "mortal.py").write_text(PLUGIN.replace("VERSION", str(version)))


@contextmanager
def host_of(folder: str, count: int = 1, **policy: Any) -> Iterator[Host]:
    """Yield a running host with so many plugins that come back."""
    host = Host()
    host.add(
        *(
            PluginSpec(
                name=f"mortal-{number}",
                source="file:mortal.py",
                base=folder,
                isolation="process",
                restart=RestartPolicy(**policy),
            )
            for number in range(count)
        )
    )
    host.registry.workers = 4
    if errors := host.start():
        raise errors[0]
    try:
        yield host
    finally:
        host.stop()  # what has just been killed says so


def sandbox_of(host: Host, number: int = 0) -> Any:
    return host.registry[f"mortal-{number}"]


# --- death ----------------------------------------------------------------------------------------


def failed_call(folder: str, sandboxes: int) -> Row:
    """From the SIGKILL of a child to the failure of its call, its descriptors still held open."""
    with host_of(folder, sandboxes) as host:
        orphans = [sandbox_of(host, number).call("have_child") for number in range(sandboxes)]
        took = [time_to_fail(sandbox_of(host, number)) for number in range(sandboxes)]
        for orphan in orphans:
            os.kill(orphan, signal.SIGKILL)
    claim = f"SIGKILL of one of {sandboxes} children, to the failure of its call (median)"
    return at_most(2.5, "ms", claim, statistics.median(took) * 1e3)


def time_to_fail(sandbox: Any) -> float:
    failed: list[float] = []
    waiting = threading.Event()

    def call() -> None:
        waiting.set()
        try:
            sandbox.call("wait")
        except PluginError:
            failed.append(time.perf_counter())

    thread = threading.Thread(target=call)
    thread.start()
    waiting.wait()
    time.sleep(0.02)  # so that it is under way
    pid = sandbox.pid
    begin = time.perf_counter()
    os.kill(pid, signal.SIGKILL)
    thread.join()
    return failed[0] - begin


def answered_again(folder: str, rounds: int) -> Row:
    """From the SIGKILL of a forked plugin to its next answer, beside its start to ready."""
    up = threading.Event()
    again, start = [], []
    with host_of(folder, when="permanent", intensity=10_000, delay=0) as host:
        sandbox = sandbox_of(host)
        host.registry.subscribe(lambda event: up.set() if isinstance(event, Started) else None)
        for _ in range(rounds):
            up.clear()
            pid = sandbox.pid
            begin = time.perf_counter()
            os.kill(pid, signal.SIGKILL)
            up.wait()
            sandbox.call("echo", 1)
            again.append(time.perf_counter() - begin)
            host.registry.stop("mortal-0")
            start.append(seconds(lambda: host.registry.start("mortal-0")))
    claim = "SIGKILL of a forked plugin to calls answered again, beside its start to ready"
    return at_most_times(
        2, "ms", claim, statistics.median(again) * 1e3, statistics.median(start) * 1e3
    )


# --- reload ---------------------------------------------------------------------------------------


def reloads(folder: str, count: int) -> list[Row]:
    """Eight threads call all the time while the plugin is reloaded."""
    failures: list[BaseException] = []
    wrong: list[Any] = []
    over = threading.Event()
    calls = [0] * 8

    def load(index: int) -> None:
        number = index
        while not over.is_set():
            number += 8
            try:
                _, _, answer = sandbox.call("which", number)
            except BaseException as error:
                failures.append(error)
            else:
                calls[index] += 1
                if answer != number:
                    wrong.append((number, answer))

    with host_of(folder) as host:
        sandbox = sandbox_of(host)
        threads = [threading.Thread(target=load, args=(index,)) for index in range(8)]
        for thread in threads:
            thread.start()
        for version in range(2, count + 2):
            write(folder, version)
            host.reload("mortal-0")
            if sandbox.call("which", 0)[0] != version:
                wrong.append(version)
        over.set()
        for thread in threads:
            thread.join()
    write(folder, 1)
    claim = f"{count} reloads under 8 threads, {sum(calls)} calls:"
    return [
        at_most(0, "", f"{claim} failed", len(failures)),
        at_most(0, "", f"{claim} lost, or answered twice or wrongly", len(wrong)),
    ]


# --- what is left ---------------------------------------------------------------------------------


def crashes(folder: str, count: int) -> list[Row]:
    """So many crashes and restarts of one plugin; what there is more of than after the first."""
    up = threading.Event()
    with host_of(folder, when="permanent", intensity=10**6, delay=0) as host:
        sandbox = sandbox_of(host)
        host.registry.subscribe(lambda event: up.set() if isinstance(event, Started) else None)

        def crash() -> None:
            up.clear()
            os.kill(sandbox.pid, signal.SIGKILL)
            up.wait()
            sandbox.call("echo", 1)

        for _ in range(max(count // 10, 20)):
            crash()
        before = held()
        for _ in range(count):
            crash()
        after = held()
    claim = f"{count} crashes and restarts: more"
    more = {what: after[what] - before[what] for what in after}
    return [
        at_most(0, "", f"{claim} descriptors, threads and processes", max(more["open"], 0)),
        at_most(2, "MiB", f"{claim} resident memory", more["memory"]),
    ]


def held() -> dict[str, float]:
    """Return how much this process holds, once what is idle has ended."""
    gc.collect()
    time.sleep(1.5)  # idle threads end
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return {"open": min(opened() for _ in range(5)), "memory": resident / 2**20}


def opened() -> int:
    """Count descriptors, threads and processes; some of them may just be on their way out."""
    time.sleep(0.2)
    return len([*Path("/proc/self/fd").iterdir()]) + threading.active_count() + len(descendants())


def descendants() -> set[int]:
    found: set[int] = set()
    todo = [os.getpid()]
    while todo:
        pid = todo.pop()
        try:
            texts = [each.read_text() for each in Path(f"/proc/{pid}/task").glob("*/children")]
        except OSError:
            continue
        children = {int(number) for text in texts for number in text.split()}
        todo += children - found
        found |= children
    return found


def stopping(plugins: int) -> list[Row]:
    """Stop plugins of which a tenth ignore it, within a deadline."""
    registry = Registry(workers=8)
    for number in range(plugins):
        script = IGNORES if number % 10 == 5 else OBEYS
        registry.register(ExecSandbox("sh", "-c", script, name=f"p{number}", start_timeout=60))
    errors = registry.start_all()
    if errors:
        raise errors[0]
    pids = {registry[name].pid for name in registry}  # type: ignore[attr-defined]
    took = seconds(lambda: registry.stop_all(timeout=SHUTDOWN))
    claim = f"stopping {plugins} plugins of which a tenth ignore it, with {SHUTDOWN:g} s for all"
    return [
        at_most(SHUTDOWN + 0.5, "s", claim, took),
        at_most(0, "", f"{claim}: processes left", sum(map(exists, pids))),
    ]


def exists(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


if __name__ == "__main__":
    run_one: Callable[..., list[Row]] = run
    for row in run_one(quick="--quick" in sys.argv):
        print(row)
