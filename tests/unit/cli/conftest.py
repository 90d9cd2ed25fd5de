"""The command line as a process of its own, in a folder with a host."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from textwrap import dedent

import pytest

PATIENCE = 60

PLUGIN = """
class PluginFactory:
    name = {name!r}
    def start(self):
        {start}
    def stop(self):
        {stop}
    {more}
"""


class Shell:
    """A folder, and ``plugkeep`` run in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "PLUGKEEP_CACHE_DIR": "",
        }

    def write(self, name: str, text: str) -> Path:
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(dedent(text))
        return file

    def plugin(
        self, name: str, keys: str = "", *, start: str = "...", stop: str = "...", more: str = ""
    ) -> None:
        """Add a plugin to the folder and its plugkeep.toml."""
        self.code(name, start=start, stop=stop, more=more)
        with (self.folder / "plugkeep.toml").open("a") as config:
            config.write(f'[plugins."{name}"]\nsource = "file:{name}.py"\n{keys}\n')

    def code(self, name: str, *, start: str = "...", stop: str = "...", more: str = "") -> None:
        """Write the file of a plugin, and not its table."""
        self.write(f"{name}.py", PLUGIN.format(name=name, start=start, stop=stop, more=more))

    def run(self, *args: str, **options) -> subprocess.CompletedProcess[str]:
        """Run ``plugkeep`` to its end."""
        return subprocess.run(
            **{"args": [sys.executable, "-m", "plugkeep", *args],
               "capture_output": True, "text": True, "timeout": PATIENCE, "cwd": self.folder,
               "env": self.env, "stdin": subprocess.DEVNULL, **options},
        )  # fmt: skip

    def script(self, text: str) -> subprocess.CompletedProcess[str]:
        """Run lines of a shell in which ``plugkeep`` is a command."""
        command = f'plugkeep() {{ "{sys.executable}" -m plugkeep "$@"; }}\n{text}'
        # timeout ends the whole pipeline, not the shell alone.
        return self.run(args=["timeout", "-k", "1", f"{PATIENCE - 5}", "/bin/sh", "-ec", command])

    def start(self, *args: str, **options) -> subprocess.Popen[str]:
        """Start ``plugkeep`` and leave it running."""
        return subprocess.Popen(
            [sys.executable, "-m", "plugkeep", *args],
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True,
               "cwd": self.folder, "env": self.env, "stdin": subprocess.DEVNULL, **options},
        )  # fmt: skip


class Session:
    """A running ``plugkeep run``, and what it has printed."""

    def __init__(self, process):
        self.process = process
        # A command that hangs is a failure, not a test that never ends.
        self._watchdog = threading.Timer(PATIENCE, process.kill)
        self._watchdog.start()

    def until(self, pattern):
        """Return the lines up to one that has `pattern` in it."""
        lines = []
        for line in self.process.stdout:
            lines.append(line.rstrip("\n"))
            if re.search(pattern, line):
                return lines
        pytest.fail(f"{pattern!r} never came: {lines}; {self.process.stderr.read()}")

    def end(self, number=None):
        """Send a signal, and return the exit status, the rest of stdout and stderr."""
        if number is not None:
            self.process.send_signal(number)
        out, err = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out.splitlines(), err

    def close(self):
        self._watchdog.cancel()
        self._watchdog.join()
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@pytest.fixture
def start(shell: Shell):
    sessions = []

    def start(*args, **options):
        sessions.append(Session(shell.start("run", *args, **options)))
        return sessions[-1]

    yield start
    for session in sessions:
        session.close()
