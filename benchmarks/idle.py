"""What sandboxes cost that nobody calls: processor time, and threads in the host."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from _measure import Row, at_most, at_most_times
from _ours import plugin

#: Seconds after which all that calls leave to be done is done.
SETTLED = 1.0
#: Less than the scheduler's own bookkeeping for 100 processes could be told from.
UNMEASURABLE = 1.0


def run(quick: bool = False) -> list[Row]:
    many, watched = (20, 1.0) if quick else (100, 5.0)
    before = threads()
    with running(1):
        few_threads = threads() - before
    with running(many):
        many_threads = threads() - before
        used = used_while_idle(watched)
    return [
        at_most(
            UNMEASURABLE,
            "ms/s",
            f"{many} idle sandboxes, each called once: processor time of host and children",
            used,
        ),
        at_most_times(
            1.0,
            "threads",
            f"{many} sandboxes: threads in the host, beside 1 sandbox",
            many_threads,
            few_threads,
        ),
    ]


@contextmanager
def running(count: int) -> Iterator[None]:
    sandboxes = [plugin(name=f"bench-{n}") for n in range(count)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda sandbox: sandbox.start(), sandboxes))
        list(pool.map(lambda sandbox: sandbox.call("echo", "x"), sandboxes))
    time.sleep(SETTLED)
    try:
        yield
    finally:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda sandbox: sandbox.stop(), sandboxes))


def threads() -> int:
    return sum(1 for _ in Path("/proc/self/task").iterdir())


def used_while_idle(watched: float) -> float:
    """Return milliseconds of processor time a second, this process and its descendants together."""
    others, own = descendants_time(), time.process_time_ns()
    time.sleep(watched)
    own = time.process_time_ns() - own  # before looking at the others, which takes some as well
    return (own + descendants_time() - others) / 1e6 / watched


def descendants_time() -> int:
    """Return for how many nanoseconds all threads of all processes below this one have run."""
    return sum(
        int((task / "schedstat").read_text().split()[0])
        for process in descendants(os.getpid())
        for task in Path(f"/proc/{process}/task").iterdir()
    )


def descendants(process: int) -> Iterator[int]:
    for children in Path(f"/proc/{process}/task").glob("*/children"):
        for child in map(int, children.read_text().split()):
            yield child
            yield from descendants(child)


if __name__ == "__main__":
    for row in run():
        print(row)
