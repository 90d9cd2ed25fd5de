"""Measure every published claim, each beside its peers, and print one table.

    python benchmarks/run.py [--quick] [--json] [NAME ...]

Every module here with a function ``run(quick=False)`` is a benchmark; it returns rows as
described in `_measure`, and runs in a process of its own. NAME picks some of them.

Exits with 1 when a target is missed, with 2 when a benchmark cannot be run at all.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

from _measure import Row

HERE = Path(__file__).parent
LOAD = os.getloadavg()[0]
COLUMNS = ("claim", "ours", "peer", "ratio", "target", "met")


def main() -> int:
    names = sorted(
        path.stem for path in HERE.glob("*.py") if path.stem != "run" and path.stem[0] != "_"
    )
    arguments = parse(names)
    if arguments.here:
        print(json.dumps(importlib.import_module(arguments.here).run(quick=arguments.quick)))
        return 0
    rows: list[Row] = []
    broken: list[str] = []
    for name in arguments.names or names:
        print(f"measuring {name} ...", file=sys.stderr, flush=True)
        found = apart(name, quick=arguments.quick)
        rows.extend(found or ())
        if found is None:
            broken.append(name)
    report(rows, as_json=arguments.json)
    missed = [row["claim"] for row in rows if not row["met"]]
    for what, which in (("could not be run", broken), ("missed", missed)):
        if which:
            print(f"{what}: {'; '.join(which)}", file=sys.stderr)
    return 2 if broken else int(bool(missed))


def parse(names: list[str]) -> argparse.Namespace:
    summary, _, rest = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=summary, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of: {', '.join(names)}")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, rougher figures")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--here", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    unknown = sorted({*arguments.names} - {*names})
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there are: {', '.join(names)}")
    return arguments


def apart(name: str, *, quick: bool) -> list[Row] | None:
    """Run one benchmark in a process of its own, so that none warms or burdens the next."""
    command = [sys.executable, __file__, "--here", name, *(["--quick"] if quick else [])]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if result.returncode:
        return None
    rows: list[Row] = json.loads(result.stdout.splitlines()[-1])
    return rows


def machine() -> dict[str, str]:
    return {
        "Python": platform.python_version(),
        "kernel": f"{platform.system()} {platform.release()}",
        "cores": str(len(os.sched_getaffinity(0))),
        "processor": processor(),
        "load before": f"{LOAD:.1f}",  # of other programs; theirs and ours share the cores
    }


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def report(rows: list[Row], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"machine": machine(), "rows": rows}, indent=2))
        return
    print(", ".join(f"{name} {value}" for name, value in machine().items()), end="\n\n")
    table = [COLUMNS, *(cells(row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    table.insert(1, tuple("-" * width for width in widths))
    for line in table:
        print("|", " | ".join(map(str.ljust, line, widths)), "|")


def cells(row: Row) -> tuple[str, ...]:
    peer = "" if row["peer"] is None else figure(row["peer"], row["unit"])
    ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f}"
    met = "yes" if row["met"] else "NO"
    return row["claim"], figure(row["ours"], row["unit"]), peer, ratio, row["target"], met


def figure(value: float, unit: str) -> str:
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:.{digits}f} {unit}"


if __name__ == "__main__":
    sys.exit(main())
