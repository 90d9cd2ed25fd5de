"""How long a host's children outlive it, when it is killed by SIGKILL."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from _measure import Row, at_most, medians

#: What a plugin is here, with its share of grandchildren: orphans in sessions of their own.
PROGRAM = r"""
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int count, char **words) {
    char byte;
    if (count != 3 || open(words[1], O_WRONLY) < 0) return 1;
    if (strcmp(words[2], "tied") == 0) prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (strcmp(words[2], "forks") == 0) {
        if (fork() == 0) {
            setsid();
            if (fork() == 0)
                for (;;) pause();
            _exit(0);
        }
        wait(NULL);
    }
    if (write(1, "{\"ready\":true}\n", 15) != 15) return 1;
    while (read(0, &byte, 1) == 1) continue;
    for (;;) pause();
}
"""
#: Half of the programs have a grandchild that has left parent and session.
OURS = """
import os, signal, sys
from plugkeep import ExecSandbox
program, pipe, count = sys.argv[1:]
kept = []
for n in range(int(count)):
    kept.append(ExecSandbox(program, pipe, ["alone", "forks"][n % 2], name=f"p{n}"))
    kept[-1].start()
os.write(1, b".")
signal.pause()
"""
#: The programs see to it themselves, and have no children, of which the kernel would know nothing.
PEER = """
import os, signal, subprocess, sys
program, pipe, count = sys.argv[1:]
kept = []
for n in range(int(count)):
    command = [program, pipe, "tied"]
    kept.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
    kept[-1].stdout.readline()
os.write(1, b".")
signal.pause()
"""


def run(quick: bool = False) -> list[Row]:
    count = 100
    with tempfile.TemporaryDirectory() as folder:
        source, program = Path(folder, "plugin.c"), Path(folder, "plugin")
        source.write_text(PROGRAM)
        subprocess.run(["cc", "-O2", "-o", program, source], check=True)
        os.mkfifo(pipe := Path(folder, "pipe"))
        samples: dict[str, Callable[[], float]] = {
            name: partial(outlived, host, program, pipe, count)
            for name, host in (("ours", OURS), ("peer", PEER))
        }
        took = medians(samples, rounds=5 if quick else 25)
    claim = (
        f"a host with {count} programs, half of which have left a grandchild in a session of its "
        "own, is killed: until all are gone (beside: PDEATHSIG, programs without children)"
    )
    return [at_most(100, "ms", claim, took["ours"] * 1e3, took["peer"] * 1e3)]


def outlived(script: str, program: Path, pipe: Path, count: int) -> float:
    """Return the seconds from a host's end to that of all that it has run.

    All of them hold the pipe open for as long as they are there.
    """
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    command = [sys.executable, "-c", script, str(program), str(pipe), str(count)]
    with os.fdopen(reader, "rb", 0) as ends, subprocess.Popen(command, stdout=-1) as host:
        assert host.stdout
        assert host.stdout.read(1) == b"."
        begin = time.perf_counter()
        host.kill()
        ended, _, _ = select.select([ends], [], [], 60)
        assert ended, "some are still there"
        return time.perf_counter() - begin


if __name__ == "__main__":
    for row in run():
        print(row)
