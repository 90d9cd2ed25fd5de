"""What the first line of a program costs: a whole process, beside one that imports pluggy.

Both run with the same flags, and with compiled bytecode there already.
"""

from __future__ import annotations

import sys

from _measure import Row, at_most_times, medians, on_one_core, process_seconds


def run(quick: bool = False) -> list[Row]:
    on_one_core()
    lines = {"ours": "from plugkeep import Registry", "peer": "import pluggy", "bare": "pass"}
    samples = {
        name: lambda line=line: process_seconds([sys.executable, "-I", "-c", line]) * 1000
        for name, line in lines.items()
    }
    medians(samples, rounds=2)  # writes the bytecode
    took = medians(samples, rounds=11 if quick else 61)
    claim = f"from plugkeep import Registry, whole process, beside pluggy ({took['bare']:.1f} bare)"
    return [at_most_times(1.25, "ms", claim, took["ours"], took["peer"])]
