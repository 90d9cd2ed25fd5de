"""Finding entry points: the first call in a new process, with the cache warm, beside its peers.

The folders are as pip leaves them: every distribution has entry points, one in ten has one in the
group. A last one has a tenth of them with any. Besides, only the standard library is on the path.
Each process makes one call, and times its imports and the call apart.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from _measure import Row, at_most_times, medians, on_one_core

GROUP = "plugkeep.plugins"
SIZES = (50, 200, 1000)

#: What each imports, and its call.
FINDERS = {
    "plugkeep": (
        "from plugkeep.discovery import discover_entry_points",
        "discover_entry_points(GROUP)",
    ),
    # It does without its cache where the interpreter lies below /tmp, as in a clone made there.
    "stevedore": (
        "sys.executable = '/usr/bin/python3'; from stevedore import _cache",
        "_cache.get_group_all(GROUP)",
    ),
    "importlib.metadata": ("from importlib import metadata", "metadata.entry_points(group=GROUP)"),
}

PROGRAM = """
import sys
from time import perf_counter
GROUP = {group!r}
first = perf_counter()
{importing}
imported = perf_counter()
sys.path[:] = [sys.argv[1], *(entry for entry in sys.path if not entry.endswith("-packages"))]
begin = perf_counter()
found = {call}
end = perf_counter()
print(len(found), imported - first, end - begin)
"""


def run(quick: bool = False) -> list[Row]:
    on_one_core()
    rounds = 7 if quick else 41
    with TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = f"{folder}/cache"
        os.environ.pop("PLUGKEEP_CACHE_DIR", None)
        sites = {size: make_site(Path(folder, f"site-{size}"), size) for size in SIZES}
        sparse = make_site(Path(folder, "sparse"), 1000, sparse=True)
        time.sleep(1)  # what was made just now is not cached yet
        rows = [row for size, site in sites.items() for row in measure(site, size, rounds)]
        claim = "entry points, 1,000 distributions, of which 100 have any, beside stevedore"
        took = medians(calls(sparse, 1000), rounds)
        return [*rows, at_most_times(0.25, "ms", claim, took["plugkeep"], took["stevedore"])]


def measure(site: Path, size: int, rounds: int) -> list[Row]:
    call = medians(calls(site, size), rounds)
    whole = medians(
        {name: sample(name, site, size, whole=True) for name in ("plugkeep", "stevedore")}, rounds
    )
    claim = f"entry points, {size:,} distributions"
    limit = 0.1 if size == 1000 else 1
    ours, peer, plain = (call[name] for name in FINDERS)
    return [
        at_most_times(limit, "ms", f"{claim}, beside stevedore", ours, peer),
        at_most_times(limit, "ms", f"{claim}, beside importlib.metadata", ours, plain),
        at_most_times(1, "ms", f"{claim}, with imports, beside stevedore", *whole.values()),
    ]


def calls(site: Path, size: int) -> dict[str, Callable[[], float]]:
    """Return the samples of the calls, having filled the caches and written the bytecode."""
    samples = {name: sample(name, site, size, whole=False) for name in FINDERS}
    medians(samples, rounds=2)
    return samples


def sample(finder: str, site: Path, size: int, *, whole: bool) -> Callable[[], float]:
    importing, call = FINDERS[finder]
    program = PROGRAM.format(group=GROUP, importing=importing, call=call)
    command = [sys.executable, "-I", "-c", program, str(site)]

    def take() -> float:
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found, imports, first_call = map(float, output.split())
        assert found == size // 10, f"{finder} found {found:.0f} of {size // 10}"
        return 1000 * (first_call + (imports if whole else 0))

    return take


def make_site(site: Path, size: int, *, sparse: bool = False) -> Path:
    """Install distributions of which each has entry points, or if `sparse` only one in ten."""
    for number in range(size):
        name = f"distribution_{number}"
        info = site / f"{name}-1.{number}.dist-info"
        info.mkdir(parents=True)
        declared = number % 10 == 0
        plugin = f"[{GROUP}]\nplugin-{number} = {name}.plugins:Plugin\n" if declared else ""
        script = f"[console_scripts]\n{name} = {name}.__main__:main\n"
        files = {
            "METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.{number}\n",
            "WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            "entry_points.txt": plugin if sparse else script + plugin,
            "INSTALLER": "pip\n",
            "RECORD": f"{info.name}/RECORD,,\n",
        }
        for file, content in files.items():
            if content:
                (info / file).write_text(content)
    return site


if __name__ == "__main__":
    for row in run(quick="--quick" in sys.argv):
        print(row)
