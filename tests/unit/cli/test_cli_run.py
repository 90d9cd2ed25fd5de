from __future__ import annotations

import json
import os
import pty
import re
import signal
import socket
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path
from xml.etree import ElementTree

import pytest

PATIENCE = 60
RUNNING = re.compile(r"(\d+) of (\d+) plugins running after [\d.msh]+; Ctrl-C stops them")
HANG = "__import__('threading').Event().wait()"


def untimed(lines):
    """Return lines without the time that each step took."""
    return [re.sub(r"(in|after) [\d.]+(ms|s)", r"\1 TIME", line) for line in lines]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_plugins_are_shown_starting_and_stopping_in_order(shell, start, number):
    shell.plugin("api", 'requires = ["database"]')
    shell.plugin("database")
    session = start()
    assert untimed(session.until(RUNNING)) == [
        "✓ database  started in TIME",
        "✓ api       started in TIME",
        "2 of 2 plugins running after TIME; Ctrl-C stops them",
    ]
    status, lines, err = session.end(number)
    assert (status, err) == (0, "")
    assert untimed(lines) == ["✓ api       stopped in TIME", "✓ database  stopped in TIME"]


def test_a_plugin_that_fails_is_shown_and_the_others_run(shell, start):
    shell.plugin("good")
    shell.plugin("bad", start="raise RuntimeError('no luck')")
    shell.plugin("user", 'requires = ["bad"]')
    session = start()
    assert untimed(session.until(RUNNING)) == [
        "✓ good  started in TIME",
        "✗ bad   failed after TIME: plugin 'bad' failed to start: RuntimeError: no luck",
        "- user  skipped: plugin 'user' was not started: 'bad', which it requires, is failed",
        "1 of 3 plugins running after TIME; Ctrl-C stops them",
    ]
    status, lines, _ = session.end(signal.SIGINT)
    assert (status, untimed(lines)) == (1, ["✓ good  stopped in TIME"])


def test_a_plugin_that_fails_to_stop_is_shown(shell, start):
    shell.plugin("a", stop="raise RuntimeError('stuck')")
    session = start()
    session.until(RUNNING)
    status, lines, _ = session.end(signal.SIGINT)
    assert status == 1
    assert untimed(lines) == [
        "✗ a  failed to stop after TIME: plugin 'a' failed to stop: RuntimeError: stuck"
    ]


def test_a_strict_run_ends_at_the_first_failure(shell, start):
    shell.plugin("good")
    shell.plugin("bad", start="raise RuntimeError('no luck')")
    status, lines, _ = start("--strict").end()
    assert status == 1
    assert untimed(lines)[-1] == "✓ good  stopped in TIME"


def test_when_nothing_runs_it_ends(shell, start):
    shell.plugin("bad", start="raise RuntimeError('no luck')")
    status, lines, _ = start().end()
    assert status == 1
    assert untimed(lines)[-1] == "0 of 1 plugins running after TIME"


def test_a_file_without_plugins_is_nothing_to_run(shell, start):
    shell.write("plugkeep.toml", "")
    status, lines, err = start().end()
    assert (status, lines) == (2, [])
    assert err == "Error: plugkeep.toml has no plugins: there is nothing to run\n"


def test_nothing_is_started_when_anything_does_not_fit(shell, start):
    shell.plugin("a", start="print('started')")
    shell.plugin("b", "sorce = 1")
    status, lines, err = start().end()
    assert (status, lines) == (2, [])
    assert err == "Error: plugkeep.toml:6: plugins.b.sorce: unknown key; did you mean 'source'?\n"


def test_missing_requirements_of_the_plugins_own_are_a_misfit(shell, start):
    shell.plugin("a", more="requires = ('nobody',)")
    status, lines, err = start().end()
    assert (status, lines) == (2, [])
    assert "'a' requires 'nobody', which is not registered" in err


def test_a_second_ctrl_c_gives_up_a_stop_that_hangs(shell, start, until_asleep):
    shell.plugin("a")
    shell.plugin(
        "hung",
        stop="import plugkeep.host.running, threading; plugkeep.host.running.SETTLE = 0; "
        "print('hanging', flush=True); threading.Event().wait()",
    )
    session = start()
    session.until(RUNNING)
    session.process.send_signal(signal.SIGINT)
    session.until("hanging")
    until_asleep(session.process.pid)
    status, lines, _ = session.end(signal.SIGINT)
    assert status == 1
    assert "✗ hung  failed to stop" in lines[0]
    assert untimed(lines[1:]) == ["✓ a     stopped in TIME"]


def test_workers_of_the_command_line_go_before_those_of_the_file(shell, start):
    # Each waits for the other: one after the other they would wait for ever.
    os.mkfifo(shell.folder / "pipe")
    shell.plugin("a", start="open('pipe', 'w').close()")
    shell.plugin("b", start="open('pipe').close()")
    session = start("--workers", "2")
    assert RUNNING.match(session.until(RUNNING)[-1])[1] == "2"
    assert session.end(signal.SIGINT)[0] == 0


def test_what_plugins_log_and_programs_print_is_shown_on_stderr(shell, start):
    program = shell.write(
        "tea",
        """\
        #!/bin/sh
        echo '{"ready": true}'
        echo whistling
        echo steaming >&2
        read line
        """,
    )
    program.chmod(0o755)
    shell.write("plugkeep.toml", '[plugins.tea]\nsource = "exec:./tea"\n')
    shell.plugin("a", start="import logging; logging.getLogger('mine').info('hello')")
    session = start()
    session.until(RUNNING)
    status, _, err = session.end(signal.SIGTERM)
    assert status == 0
    assert {"tea: whistling", "tea: steaming", "mine: hello"} <= set(err.splitlines())
    quiet = start("--log-level", "warning")
    quiet.until(RUNNING)
    err = quiet.end(signal.SIGTERM)[2]
    assert "steaming" in err
    assert "whistling" not in err


@pytest.mark.parametrize("level", ["warning", "error"])
def test_why_a_plugin_with_its_own_process_cannot_be_loaded_is_shown_once(shell, level):
    shell.write("bad.py", "def helper():\n    raise RuntimeError('no luck')\nhelper()\n")
    shell.write("bad.toml", '[plugins.bad]\nsource = "file:bad.py"\nisolation = "process"\n')
    result = shell.run("run", "bad.toml", "--log-level", level)
    assert result.returncode == 1
    (line,) = (each for each in result.stdout.splitlines() if each.startswith("✗ bad"))
    assert "exited with status 1" in line
    assert "RuntimeError: no luck" in result.stdout
    for trace in ("Traceback (most recent call last)", 'bad.py", line 2, in helper'):
        assert (result.stdout + result.stderr).count(trace) == 1, result
        assert (trace in result.stderr) == (level == "warning")


def test_the_error_of_a_call_leaves_to_the_log_what_is_there(shell):
    program = shell.write("tea", "#!/bin/sh\necho no water >&2; echo no tea >&2; exit 3\n")
    program.chmod(0o755)
    shell.write("plugkeep.toml", '[plugins.tea]\nsource = "exec:./tea"\n')
    result = shell.run("call", "plugkeep.toml", "tea", "brew")
    assert result.returncode == 1
    *log, error = result.stderr.splitlines()
    assert log == ["tea: no water", "tea: no tea"]
    assert error.startswith("Error: plugin 'tea' failed to start: ")
    assert error.endswith("; its stderr, see the log, ends with: no tea")


def test_events_as_json_lines_which_nothing_else_gets_into(shell, start):
    shell.plugin("bad", start="print('noise'); raise RuntimeError('no luck')")
    shell.plugin("good")
    session = start("--json")
    said = [json.loads(line) for line in session.until('"running"')]
    status, lines, err = session.end(signal.SIGINT)
    said += [json.loads(line) for line in lines]
    assert [(each["event"], each.get("plugin")) for each in said] == [
        ("starting", "bad"),
        ("start-failed", "bad"),
        ("starting", "good"),
        ("started", "good"),
        ("running", None),
        ("stopping", "good"),
        ("stopped", "good"),
        ("ended", None),
    ]
    failed, started, running, ended = said[1], said[3], said[4], said[7]
    assert failed["error"] == {
        "type": "StartError",
        "message": "plugin 'bad' failed to start: RuntimeError: no luck",
        "plugin": "bad",
    }
    assert started["error"] is None
    assert 0 <= started["duration"] < PATIENCE
    assert (running["plugins"], running["total"]) == (["good"], 2)
    assert (ended["status"], status) == (1, 1)
    assert "noise" in err


@pytest.mark.parametrize(("option", "lines"), [("", 1), ("--json", 3)])
def test_when_nobody_reads_any_more_all_is_stopped(shell, option, lines):
    # The second plugin starts when the reader has gone, so there is more to say to nobody.
    os.mkfifo(shell.folder / "pipe")
    shell.plugin("a", stop="open('stopped', 'w').close()")
    shell.plugin("b", start="open('pipe').close()")
    result = shell.script(f"plugkeep run {option} | {{ head -n {lines}; exec <&-; : > pipe; }}")
    assert (result.returncode, result.stderr, result.stdout.count("\n")) == (0, "", lines)
    assert (shell.folder / "stopped").exists()


def test_a_full_disk_is_no_reason_to_stop(shell, start):
    shell.plugin("a", stop="import logging; logging.info('a stops')")
    shell.plugin("b", start="import logging; logging.info('b starts')")
    with Path("/dev/full").open("w") as full:
        session = start(stdout=full)
        said = []
        for line in session.process.stderr:
            said.append(line)
            if "b starts" in line:
                session.process.send_signal(signal.SIGTERM)
        session.process.wait(PATIENCE)
    assert "root: a stops\n" in said
    assert said[0] == "Error: cannot print any more: No space left on device\n"
    assert sum("Error" in line or "Traceback" in line for line in said) == 1, said


#: ``plugkeep`` that gets a signal as soon as all is running.
ENDED = """
import os, signal
from plugkeep.cli import main
from plugkeep.host import running

wait = running._wait
running._wait = lambda *args: (os.kill(os.getpid(), signal.SIGTERM), wait(*args))
main()
"""


@pytest.mark.parametrize("streams", ["> /dev/full", "> /dev/full 2>&1", "2> /dev/full"])
@pytest.mark.parametrize("option", ["", "--json"])
def test_a_full_disk_is_no_reason_for_another_exit_status(shell, streams, option):
    shell.plugin("a", start="import logging; logging.warning('hello')")
    shell.plugin("b", stop="open('stopped', 'w').close()")
    shell.write("ended.py", ENDED)
    result = shell.script(f"'{sys.executable}' ended.py run {option} {streams}")
    assert result.returncode == 0, result
    assert "Traceback" not in result.stderr
    assert (shell.folder / "stopped").exists()


LATE = """
import atexit, os, signal
from plugkeep.cli import main, _late

def signals(*_):
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(os.getpid(), number)

class Late(_late._Late):
    def give_back(self):
        signals()
        super().give_back()

_late._Late = Late
atexit.register(signals)
main()
"""


@pytest.mark.parametrize("command", [["run"], ["call", "plugkeep.toml", "a", "one"]])
def test_signals_after_the_end_change_nothing(shell, command):
    shell.plugin("a", start="raise OSError('no luck')")
    shell.write("late.py", LATE)
    result = shell.run(args=[sys.executable, "late.py", *command])
    assert result.returncode == 1, result
    assert "Traceback" not in result.stderr


def test_a_signal_before_the_start_ends_it(shell):
    shell.plugin("a")
    early = LATE.replace("def give_back", "def take_over").replace(
        "signals()\n        super().give_back()",
        "super().take_over()\n        os.kill(os.getpid(), signal.SIGTERM)",
    )
    shell.write("early.py", early)
    result = shell.run(args=[sys.executable, "early.py", "run"])
    assert (result.returncode, result.stdout) == (-signal.SIGTERM, "")


@pytest.mark.parametrize("module", ["click", "plugkeep.cli._app", "plugkeep.cli.run", "uvicorn"])
def test_ctrl_c_during_imports_is_no_reason_for_a_traceback(greeter, shell, module):
    shell.write(
        "interrupted.py",
        f"""
        import os, signal, sys
        class Finder:
            def find_spec(self, name, path=None, target=None):
                if name == {module!r}:
                    os.kill(os.getpid(), signal.SIGINT)
        sys.meta_path.insert(0, Finder())
        from plugkeep.cli import main
        main()
        """,
    )
    result = shell.run(args=[sys.executable, "interrupted.py", "run", "--serve", "0"])
    assert "Traceback" not in result.stderr
    assert result.returncode in ({0, 1} if module == "uvicorn" else {130}), result


# --- serving ----------------------------------------------------------------------------------

GREET = """
    async def start(self): self.loop = asyncio.get_running_loop()
    async def stop(self): ...
    def routes(self): return [Route("GET", "/greet", self.greet)]
    async def greet(self, request):
        return f"in the same loop: {asyncio.get_running_loop() is self.loop}"
"""


@pytest.fixture
def greeter(shell):
    code = (
        f"import asyncio\nfrom plugkeep import Route\nclass PluginFactory:\n    name = 'g'{GREET}"
    )
    shell.write("greeter.py", code)
    shell.write("plugkeep.toml", '[plugins.greeter]\nsource = "file:greeter.py"\n')


def get(url):
    with urllib.request.urlopen(url, timeout=PATIENCE) as response:
        return response.read().decode()


@pytest.mark.parametrize("address", ["127.0.0.1:0", "0", ":0"])
def test_routes_of_plugins_are_served(greeter, start, address):
    session = start("--serve", address, "--log-level", "warning")
    line = session.until("2 of 2 plugins running")[-1]
    url = re.search(r"at (http://127\.0\.0\.1:\d+); Ctrl-C stops them", line)[1]
    assert get(f"{url}/greet") == "in the same loop: True"
    status, lines, err = session.end(signal.SIGINT)
    assert (status, err) == (0, "")
    assert untimed(lines) == [
        "✓ web-server  stopped in TIME",
        "✓ greeter     stopped in TIME",
    ]


def test_where_routes_are_served_is_told_to_programs(greeter, start):
    session = start("--serve", "127.0.0.1:0", "--json")
    running = json.loads(session.until('"running"')[-1])
    assert get(f"{running['url']}/greet").startswith("in the same loop")
    assert session.end(signal.SIGTERM)[0] == 0


def test_bodies_have_a_limit_where_one_is_given(greeter, start):
    session = start("--serve", "127.0.0.1:0", "--max-body", "1kB", "--json")
    url = json.loads(session.until('"running"')[-1])["url"]
    with pytest.raises(urllib.error.HTTPError, match="413"):
        urllib.request.urlopen(f"{url}/greet", data=bytes(1001), timeout=PATIENCE)
    with pytest.raises(urllib.error.HTTPError, match="405"):  # it is no route for POST
        urllib.request.urlopen(f"{url}/greet", data=bytes(1000), timeout=PATIENCE)
    assert session.end(signal.SIGTERM)[0] == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--serve", "0", "--max-body", "much"], "'much' is not a size"),
        (["--max-body", "1MiB"], "it is for --serve, which is not given"),
    ],
)
def test_a_limit_of_bodies_that_does_not_fit(greeter, shell, options, said):
    result = shell.run("run", *options)
    assert result.returncode == 2
    assert said in result.stderr


def test_with_an_address_that_is_taken_it_ends(greeter, shell):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = shell.run("run", "--serve", f"127.0.0.1:{taken.getsockname()[1]}")
    assert result.returncode == 1
    assert "✗ web-server  failed" in result.stdout
    assert "Address already in use" in result.stdout
    assert "plugins running" not in result.stdout
    assert "✓ greeter     stopped" in result.stdout


@pytest.mark.parametrize("address", ["here", "1.2.3.4", "localhost:99999", "a:b:80", "80:"])
def test_an_address_that_is_none(shell, address):
    result = shell.run("run", "--serve", address)
    assert result.returncode == 2
    assert f"'{address}' is no HOST:PORT, such as 127.0.0.1:8000 or 8000" in result.stderr


def test_a_server_that_is_not_installed(greeter, shell, start):
    shell.write("hide/uvicorn.py", "raise ModuleNotFoundError('no', name='uvicorn')")
    shell.env["PYTHONPATH"] = str(shell.folder / "hide")
    session = start("--serve", "0", "--strict")
    status, lines, _ = session.end()
    assert status == 1
    assert any("pip install 'plugkeep[serve]'" in line for line in lines)


# --- on a terminal ----------------------------------------------------------------------------


class Terminal:
    """A pseudo-terminal with a command at its other end."""

    def __init__(self, shell, *args):
        self._master, slave = pty.openpty()
        env = {**shell.env, "TERM": "xterm", "COLUMNS": "100"}
        self.process = shell.start(
            "run", *args, stdin=slave, stdout=slave, stderr=slave, env=env, start_new_session=True,
            preexec_fn=lambda: __import__("fcntl").ioctl(0, __import__("termios").TIOCSCTTY, 0),
        )  # fmt: skip
        os.close(slave)
        self.shown = ""
        self._watchdog = threading.Timer(PATIENCE, self.process.kill)
        self._watchdog.start()

    def until(self, text):
        """Read until `text` has been shown since the last time."""
        seen = len(self.shown)
        while text not in self.shown[seen:]:
            try:
                self.shown += os.read(self._master, 4096).decode(errors="replace")
            except OSError:  # the other end is closed
                pytest.fail(f"{text!r} was never shown: {self.shown}")

    def type(self, keys):
        os.write(self._master, keys)

    def rest(self):
        """Read to the end, and return the exit status."""
        try:
            while chunk := os.read(self._master, 4096):
                self.shown += chunk.decode(errors="replace")
        except OSError:  # so says Linux that the other end is closed
            pass
        return self.process.wait(PATIENCE)

    def close(self):
        self._watchdog.cancel()
        self._watchdog.join()
        self.process.kill()
        self.process.wait()
        os.close(self._master)

    @property
    def plain(self):
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.shown).replace("\r", "")


@pytest.fixture
def terminal(shell):
    opened = []

    def terminal(*args):
        opened.append(Terminal(shell, *args))
        return opened[-1]

    yield terminal
    for each in opened:
        each.close()


def test_on_a_terminal_ctrl_c_stops_all_and_a_timeline_is_drawn(shell, terminal):
    shell.plugin("database")
    shell.plugin("api", 'requires = ["database"]')
    screen = terminal()
    screen.until("Ctrl-C stops them")
    assert re.search(r"database +\S*[█▏▎▍▌▋▊▉]+ +[\d.]+ms", screen.plain), screen.plain
    screen.type(b"\x03")
    assert screen.rest() == 0
    api, database = screen.plain.rfind("api       stopped"), screen.plain.rfind("database  stopped")
    assert 0 < api < database
    assert "\x1b[32m" in screen.shown
    assert "Traceback" not in screen.shown


def test_on_a_terminal_it_is_shown_which_plugin_is_being_waited_for(shell, terminal):
    os.mkfifo(shell.folder / "pipe")
    shell.plugin("slow", start="open('pipe').close()")
    screen = terminal()
    screen.until("starting slow")
    with (shell.folder / "pipe").open("w"):
        screen.until("Ctrl-C stops them")
    screen.type(b"\x03")
    assert screen.rest() == 0
    assert screen.shown.rfind("\x1b[?25h") > screen.shown.rfind("\x1b[?25l"), "no cursor any more"


def test_ctrl_c_ends_a_start_that_hangs(shell, terminal, until_asleep):
    shell.plugin("a")
    shell.plugin("hung", start=HANG)
    screen = terminal()
    screen.until("starting hung")
    until_asleep(screen.process.pid)
    screen.type(b"\x03")
    assert screen.rest() == 1
    assert "hung  failed after" in screen.plain
    assert "a     stopped" in screen.plain


def test_no_color_is_respected(shell, terminal):
    shell.plugin("a")
    shell.env["NO_COLOR"] = "1"
    screen = terminal()
    screen.until("Ctrl-C stops them")
    screen.type(b"\x03")
    screen.rest()
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", screen.shown)


def test_the_timeline_shows_what_each_start_consisted_of(shell, start):
    shell.plugin("far", 'isolation = "process"')
    shell.plugin("bad", start="raise RuntimeError('no luck')")
    shell.plugin("user", 'requires = ["bad"]')
    session = start("--timeline", "start.svg")
    session.until(RUNNING)
    drawing = ElementTree.parse(shell.folder / "start.svg")
    titles = [title.text for title in drawing.iter("{http://www.w3.org/2000/svg}title")]
    assert [re.sub(r" [\d.]+m?s$", "", title) for title in titles] == [
        "3 plugins, started in",
        *("far: launch", "far: import", "far: start"),
        "bad: failed",
    ]
    assert session.end(signal.SIGINT)[0] == 1


def test_a_timeline_that_cannot_be_written_is_told_before_anything_starts(shell, start):
    shell.plugin("a")
    status, lines, err = start("--timeline", "nowhere/start.svg").end()
    assert (status, lines) == (2, [])
    assert "there is no folder 'nowhere'" in err
    status, lines, err = start("--timeline", ".").end()
    assert (status, lines) == (2, [])
    assert "is a directory" in err


def test_a_timeline_that_cannot_be_written_after_all_ends_nothing(shell, start):
    shell.plugin("a", start="import shutil; shutil.rmtree('gone')")
    (shell.folder / "gone").mkdir()
    session = start("--timeline", "gone/start.svg")
    session.until(RUNNING)
    status, _, err = session.end(signal.SIGINT)
    assert status == 0
    assert "the timeline could not be written to gone/start.svg: No such file or" in err
