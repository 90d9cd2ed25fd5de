"""What a sandbox adds to the launch of a program: from start to its ready message."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from _measure import Row, at_most, medians, on_one_core

from plugkeep import ExecSandbox

#: As little as a plugin can be: ready, one line read, end.
PROGRAM = r"""
#include <unistd.h>

int main(void) {
    char byte;
    if (write(1, "{\"ready\":true}\n", 15) != 15) return 1;
    while (read(0, &byte, 1) == 1)
        if (byte == '\n') return 0;
    return 0;
}
"""


def run(quick: bool = False) -> list[Row]:
    on_one_core()  # the hardest case for us: nothing that we do beside the launch is hidden by it
    with tempfile.TemporaryDirectory() as folder:
        program = compiled(Path(folder))
        samples: dict[str, Callable[[], float]] = {
            "sandbox": partial(sandbox, program),
            "popen": partial(popen, program),
        }
        medians(samples, rounds=10)  # what only the first launches pay: imports, page cache
        took = medians(samples, rounds=100 if quick else 500)
    claim = "ExecSandbox of a C program, start to ready, beyond a bare subprocess.Popen"
    # In milliseconds, for what another process launches takes longer by what it takes to ask it,
    # however long the program itself takes.
    return [at_most(2.0, "ms", claim, (took["sandbox"] - took["popen"]) * 1000)]


def compiled(folder: Path) -> str:
    source, program = folder / "plugin.c", folder / "plugin"
    source.write_text(PROGRAM)
    subprocess.run(["cc", "-O2", "-o", program, source], check=True)
    return str(program)


def sandbox(program: str) -> float:
    plugin = ExecSandbox(program)
    begin = time.perf_counter()
    plugin.start()
    took = time.perf_counter() - begin
    plugin.stop()
    return took


def popen(program: str) -> float:
    begin = time.perf_counter()
    process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with process:
        assert process.stdout
        process.stdout.readline()
        took = time.perf_counter() - begin
        process.communicate(b'{"cmd":"stop"}\n')
    return took


if __name__ == "__main__":
    for row in run():
        print(row)
