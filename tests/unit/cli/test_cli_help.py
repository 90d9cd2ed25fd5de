"""The examples in the help texts are true: each is typed as it stands."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from plugkeep.cli._app import app

COMMANDS = app.list_commands(None)


def examples():
    """Yield each command with the lines of its help that can be typed."""
    for name in COMMANDS:
        epilog = app.get_command(None, name).epilog
        yield from (line.strip() for line in epilog.splitlines() if line.startswith("  plugkeep "))


@pytest.fixture
def shop(shell):
    """The folder that the examples are about."""
    for file in ("plugkeep.toml", "shop.toml"):
        shell.write(file, '[plugins.clock]\nsource = "file:clock.py"\n')
    shell.write(
        "clock.py",
        """
        class PluginFactory:
            name = "clock"
            def start(self): ...
            def stop(self): ...
            def now(self): return 12.5
            def add(self, hours, unit): return [hours, unit["unit"]]
            def format(self, style, utc): return [style, utc]
        """,
    )
    shell.write("plugins/tea/plugin.toml", 'source = "exec:./tea"\n')
    return shell


@pytest.mark.parametrize("example", list(examples()))
def test_an_example_works(shop, example):
    program, command, *args = shlex.split(example)
    assert program == "plugkeep"
    result = shop.run(command, *args) if command != "run" else run_to_the_end(shop, args)
    assert result.returncode == 0, result.stderr
    assert "error" not in result.stderr


def run_to_the_end(shop, args):
    process = shop.start("run", *args)
    try:
        for line in process.stdout:
            if "running" in line:
                process.send_signal(signal.SIGINT)
                break
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    return subprocess.CompletedProcess(args, process.returncode, out, err)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_examples(shell, command):
    result = shell.run(command, "--help")
    assert result.returncode == 0
    assert "Examples:" in result.stdout
    assert re.search(rf"^    plugkeep {command}", result.stdout, re.MULTILINE)
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_the_help_lists_every_command_in_the_order_of_use(shell):
    result = shell.run("--help")
    found = [line.split()[0] for line in result.stdout.partition("Commands:\n")[2].splitlines()]
    assert found == COMMANDS


def test_the_installed_command_is_the_same(shell):
    command = [str(Path(sys.executable).with_name("plugkeep")), "--help"]
    assert shell.run(args=command).stdout == shell.run("--help").stdout
