"""Run a host with plugins of every kind under load and random faults, and hold it to its promises.

    python tests/soak [--seconds 300] [--seed N] [--plugins 50] [--every 0.5]

What is done to whom, and what is called, follows from the seed, which is printed. In the end:
every call was answered once, rightly, or failed with a named error in time; nothing is left of
processes, descriptors, threads and memory; all stopped in the exact reverse of their starts; and
the events of each plugin go along the table of states. Exits with 1 where any of it is not so.
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import random
import sys
import tempfile
import time
from pathlib import Path

from books import Books, held
from faults import Mischief, plan
from load import Load
from plugins import make_host

#: MiB that a host may have more in the end than after its first start and stop. The interpreter's
#: own arenas are not given back at once, so a fraction of this comes and goes.
MEMORY = 24.0


def main() -> int:
    arguments = parse()
    seed = arguments.seed
    print(f"seed {seed}: {arguments.plugins} plugins, {arguments.seconds:g} s", flush=True)
    logging.disable(logging.CRITICAL)  # what is said about each fault would fill the screen
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        os.environ["TMPDIR"] = tempfile.tempdir = folder
        return soak(arguments, random.Random(seed), Path(folder))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=300.0, help="how long there are faults")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32), help="for a rerun")
    parser.add_argument("--plugins", type=int, default=50)
    parser.add_argument("--every", type=float, default=0.5, help="seconds between two faults")
    return parser.parse_args()


def soak(arguments: argparse.Namespace, dice: random.Random, folder: Path) -> int:
    host = make_host(dice, arguments.plugins, folder)
    host.start()
    host.stop()  # so that what is there for good is there before it is counted
    before = held()
    books = Books(host)
    errors = host.start()
    print(f"up: {books.up()} of {arguments.plugins}, {len(errors)} failed", flush=True)
    load = Load(host, dice.randrange(2**32))
    mischief = Mischief(host, plan(dice, host, arguments.seconds, arguments.every))
    begin = time.monotonic()
    load.begin()
    mischief.run(lambda: progress(begin, books, load, mischief))
    load.end()
    mischief.make_up()
    problems = [*load.problems(), *books.stop(), *left_over(before)]
    report(time.monotonic() - begin, books, load, mischief, problems)
    return 1 if problems else 0


def progress(begin: float, books: Books, load: Load, mischief: Mischief) -> None:
    print(
        f"{time.monotonic() - begin:6.1f} s  {mischief.done:4} faults  {load.made:8} calls  "
        f"{books.failures:4} failures  {books.up():3} up",
        flush=True,
    )


def left_over(before: dict[str, float]) -> list[str]:
    """Return what is left, once all has had its time to go."""
    end = time.monotonic() + 30
    while True:
        gc.collect()
        now = held()
        more = {what: now[what] - before[what] for what in now if what != "memory"}
        if not any(count > 0 for count in more.values()) or time.monotonic() > end:
            break
        time.sleep(0.2)
    found = [f"{count:g} {what} are left over" for what, count in more.items() if count > 0]
    grown = now["memory"] - before["memory"]
    print(f"memory: {grown:+.1f} MiB")
    return found + ([f"{grown:.1f} MiB of memory are left over"] if grown > MEMORY else [])


def report(took: float, books: Books, load: Load, mischief: Mischief, problems: list[str]) -> None:
    print(f"{took:.0f} s, {mischief.done} faults: {mischief.tally()}")
    print(f"{load.made} calls: {load.tally()}")
    print(f"{len(books.events)} events: {books.tally()}")
    for problem in problems:
        print(f"PROBLEM: {problem}")
    print("all of it holds" if not problems else f"{len(problems)} problems", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
