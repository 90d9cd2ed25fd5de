"""``plugkeep run --reload``: real processes, real files, real signals."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import pytest

RUNNING = r"\d+ of \d+ plugins running"
PROCESS = 'isolation = "process"\n'


def untimed(lines):
    """Return lines without the time that each step took."""
    return [re.sub(r"(in|after) [\d.]+(ms|s)", r"\1 TIME", line) for line in lines]


def threads_of(pid):
    return {
        task.joinpath("comm").read_text().strip() for task in Path(f"/proc/{pid}/task").iterdir()
    }


@pytest.fixture
def run(start):
    """Start it, and wait until it runs."""

    def run(*args):
        session = start("--reload", *args)
        session.until("running")
        return session

    return run


def test_a_plugin_is_reloaded_when_its_file_changes(shell, run):
    shell.plugin("a")
    shell.plugin("b", 'requires = ["a"]')
    session = run()
    shell.code("a", start="print('anew', flush=True)")
    assert session.until("✓ a  reloaded") == [
        "a.py has changed: reloading a",
        "anew",
        "✓ a  reloaded",
    ]
    status, lines, err = session.end(signal.SIGINT)
    assert (status, err) == (0, "")
    assert untimed(lines) == ["✓ b  stopped in TIME", "✓ a  stopped in TIME"]


def test_what_fails_is_told_and_the_next_change_tries_again(shell, run):
    shell.plugin("a", stop="print('the first stops', flush=True)")
    session = run()
    for start, words in (("1 / 0", "ZeroDivisionError"), ("syntax error", "SyntaxError")):
        shell.code("a", start=start)
        *_, line = session.until("not reloaded")
        assert line.startswith("✗ a  not reloaded: ")
        assert words in line
    shell.code("a", start="print('the second', flush=True)")
    assert session.until("✓ a  reloaded")[1:3] == ["the second", "✓ a  reloaded"]
    session.until("the first stops")
    assert session.end(signal.SIGTERM)[0] == 0


def test_packages_programs_and_plugins_in_processes_are_watched_as_well(shell, run):
    shell.write("shop/__init__.py", "")
    shell.write("shop/prices.py", "TEA = 1")
    plugin = "from shop.prices import TEA\nfrom shop.plain import PluginFactory"
    shell.write(
        "shop/plain.py",
        "from shop.prices import TEA\nclass PluginFactory:\n    name = 'a'\n"
        "    def start(self): print('tea is', TEA, flush=True)\n    def stop(self): ...\n",
    )
    program = shell.write("bell", "#!/bin/sh\necho '{\"ready\": true}'\nread stop\n")
    program.chmod(0o755)
    shell.write("shop/alone.py", plugin)
    shell.write(
        "plugkeep.toml",
        '[plugins.bell]\nsource = "exec:./bell"\n'
        '[plugins.here]\nsource = "python:shop.plain"\n'
        f'[plugins.apart]\nsource = "python:shop.plain"\n{PROCESS}',
    )
    session = run()
    new = shell.write("new", "#!/bin/sh\necho '{\"ready\": true}'\nread stop; : again\n")
    new.chmod(0o755)
    new.replace(program)
    assert session.until("✓ bell   reloaded")[0] == "bell has changed: reloading bell"
    shell.write("shop/plain.py", (shell.folder / "shop/plain.py").read_text() + "\n")
    lines = session.until("✓ apart  reloaded")
    assert lines[0] == "shop/plain.py has changed: reloading here, apart"
    assert "✓ here   reloaded" in lines
    shell.write("shop/prices.py", "TEA = 2")
    assert session.until("✓ apart")[0] == "shop/prices.py has changed: reloading apart"
    status, _, err = session.end(signal.SIGTERM)
    assert status == 0
    assert "several plugins', or can be loaded only once: shop/prices.py" in err
    assert "apart: tea is 2" in err


def test_several_files_at_once_are_one_change_in_the_order_of_start(shell, run):
    shell.plugin("z", 'requires = ["a"]')
    shell.plugin("a")
    session = run()
    for name in ("z", "a"):
        (shell.folder / f"{name}.py").write_text((shell.folder / f"{name}.py").read_text() + "\n")
    assert session.until("✓ z  reloaded") == [
        "a.py, z.py have changed: reloading a, z",
        "✓ a  reloaded",
        "✓ z  reloaded",
    ]
    assert session.end(signal.SIGINT)[0] == 0


def test_the_file_of_the_host_is_gone_by_as_it_changes(shell, run):
    shell.plugin("a")
    show = "print('b', self.config, flush=True)"
    shell.plugin("b", 'requires = ["a"]', start=show, more="config: dict")
    shell.plugin("c")
    text = (shell.folder / "plugkeep.toml").read_text()
    shell.plugin("d", start="print('d', flush=True)")
    whole = (shell.folder / "plugkeep.toml").read_text()
    shell.write("plugkeep.toml", text)
    session = run()

    shell.write("plugkeep.toml", whole)
    assert untimed(session.until("✓ d")) == [
        "plugkeep.toml has changed",
        "d",
        "✓ d  started in TIME",
    ]

    shell.write("plugkeep.toml", whole.replace('requires = ["a"]', "config = { size = 3 }", 1))
    lines = session.until("b  started|b  reloaded")
    assert lines[0] == "plugkeep.toml has changed"
    assert "b {'size': 3}" in lines

    shell.write("plugkeep.toml", "nonsense")
    assert "✗ plugkeep.toml:1: " in session.until("✗")[-1]

    shell.write("plugkeep.toml", '[plugins.d]\nsource = "file:d.py"')
    gone = untimed(session.until("a  stopped"))
    assert gone == ["plugkeep.toml has changed", *(f"✓ {n}  stopped in TIME" for n in "cba")]

    shell.write("plugkeep.toml", "")
    assert session.until("✗") == [
        "plugkeep.toml has changed",
        "✗ plugkeep.toml has no plugins: there is nothing to run",
    ]
    status, lines, err = session.end(signal.SIGINT)
    assert (status, err) == (0, "")
    assert untimed(lines) == ["✓ d  stopped in TIME"]


def test_a_plugin_that_is_in_the_file_and_cannot_be_loaded_is_tried_again(shell, run):
    shell.plugin("a")
    session = run()
    shell.code("b", start="syntax error")
    with (shell.folder / "plugkeep.toml").open("a") as file:
        file.write('[plugins.b]\nsource = "file:b.py"\n')
    assert "SyntaxError" in session.until("✗")[-1]
    shell.code("b")
    assert untimed(session.until("✓ b")) == ["b.py has changed", "✓ b  started in TIME"]
    assert session.end(signal.SIGINT)[0] == 0


def test_a_run_of_which_nothing_starts_waits_for_a_change(shell, start, until_asleep):
    shell.plugin("a", start="raise RuntimeError('no luck')")
    session = start("--reload")
    assert untimed(session.until(RUNNING))[-1] == "0 of 1 plugins running after TIME"
    shell.code("a")
    session.until("✓ a  started")
    until_asleep(session.process.pid)
    assert session.end(signal.SIGINT)[0] == 0


def test_each_step_is_told_to_programs(shell, start):
    shell.plugin("a")
    file = (shell.folder / "plugkeep.toml").read_text()
    session = start("--reload", "--json")
    session.until('"running"')

    def until(event):
        return [json.loads(line) for line in session.until(f'"event": "{event}"')]

    shell.code("a", start="1 / 0")
    changed, failed = until("reload-failed")
    assert changed == {"event": "changed", "files": ["a.py"], "plugins": ["a"]}
    assert (failed["plugin"], failed["error"]["type"]) == ("a", "StartError")
    shell.code("a", start="syntax error")
    failed = until("reload-failed")[-1]
    assert (failed["plugin"], failed["error"]["type"]) == ("a", "ConfigError")
    assert failed["time"] > 0
    shell.write("plugkeep.toml", "[plugins.b]")
    changed, rejected = until("rejected")
    assert changed == {"event": "changed", "files": ["plugkeep.toml"], "plugins": []}
    assert rejected["error"]["type"] == "ConfigError"
    shell.write("plugkeep.toml", file)
    until("changed")
    shell.code("a")
    assert [each["event"] for each in until("reloaded")] == ["changed", "reloaded"]
    assert session.end(signal.SIGINT)[0] == 0


WEB = """
from plugkeep import Route

class PluginFactory:
    name = "web"
    async def start(self): ...
    async def stop(self): ...
    def routes(self):
        return [Route("GET", "/", lambda request: "{}")]
"""


def test_what_is_served_is_served_all_the_time(shell, run):
    shell.write("web.py", WEB.format(1))
    shell.write("plugkeep.toml", '[plugins.web]\nsource = "file:web.py"')
    session = run("--serve", "127.0.0.1:0", "--log-level", "error", "--json")
    port = port_of(session.process.pid)
    said, over = [], threading.Event()

    def ask():
        while not over.is_set():
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as answer:
                said.append((answer.status, answer.read().decode()))

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for version in (2, 3):
            shell.write("web.py", WEB.format(version))
            session.until('"reloaded"')
    finally:
        over.set()
        asking.join()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as answer:
        assert answer.read().decode() == "3"
    assert {status for status, _ in said} == {200}
    assert session.end(signal.SIGTERM)[::2] == (0, "")


def port_of(pid):
    """Return the port that a process listens on."""
    inodes = {str(each.readlink()) for each in Path(f"/proc/{pid}/fd").iterdir()}
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
            return int(fields[1].partition(":")[2], 16)
    return pytest.fail("it listens nowhere")


@pytest.mark.parametrize("kind", ["", PROCESS, "async "], ids=["here", "in a process", "in a loop"])
def test_ctrl_c_ends_a_reload_and_all(shell, run, until_asleep, kind):
    keys, word = (kind, "") if kind == PROCESS else ("", kind)
    text = (
        "import asyncio, pathlib, threading\nclass PluginFactory:\n    name = 'a'\n"
        f"    {word}def start(self):\n        BODY\n    {word}def stop(self): ...\n"
    )
    hang = "await asyncio.Event().wait()" if word else "threading.Event().wait()"
    shell.write("a.py", text.replace("BODY", "..."))
    shell.write("plugkeep.toml", f'[plugins.a]\nsource = "file:a.py"\n{keys}')
    os.mkfifo(shell.folder / "hangs")
    session = run()
    shell.write("a.py", text.replace("BODY", f"pathlib.Path('hangs').write_text('x'); {hang}"))
    (shell.folder / "hangs").read_text()
    until_asleep(session.process.pid)
    status, lines, err = session.end(signal.SIGINT)
    assert (status, [line for line in err.splitlines() if "Traceback" in line]) == (0, [])
    assert untimed(lines)[-1] == "✓ a  stopped in TIME"


def test_without_it_nothing_is_watched(shell, start):
    shell.plugin(
        "a", start="import sys; print([n for n in sys.modules if 'watchfiles' in n], flush=True)"
    )
    session = start()
    assert "[]" in session.until(RUNNING)
    assert not threads_of(session.process.pid) & {"plugkeep-watch"}
    assert session.end(signal.SIGINT)[0] == 0


def test_without_watchfiles_it_says_what_to_install(shell):
    shell.plugin("a")
    code = "import sys; sys.modules['watchfiles'] = None; from plugkeep.cli import main; main()"
    result = subprocess.run(
        [sys.executable, "-c", code, "run", "--reload"],
        cwd=shell.folder, env=shell.env, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        "Error: reloading what has changed needs watchfiles, which is not installed; "
        "install it with: pip install 'plugkeep[reload]'\n"
    )
