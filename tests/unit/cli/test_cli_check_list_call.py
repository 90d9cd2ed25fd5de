from __future__ import annotations

import json
import re
import signal
import sys
from pathlib import Path

import pytest

from plugkeep import __version__

# --- all commands -----------------------------------------------------------------------------


def test_the_version(shell):
    result = shell.run("--version")
    assert (result.returncode, result.stdout) == (0, f"plugkeep, version {__version__}\n")


def test_a_command_that_is_none(shell):
    result = shell.run("chek")
    assert result.returncode == 2
    assert "No such command 'chek'" in result.stderr


@pytest.mark.parametrize("command", ["run", "check", "list", "graph"])
def test_a_missing_file_is_named(shell, command):
    result = shell.run(command)
    assert result.returncode == 2
    assert "plugkeep.toml: there is no such file" in result.stdout + result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("package", ["click", "rich"])
def test_what_is_not_installed_is_said(shell, package):
    shell.write(f"hide/{package}.py", f"raise ModuleNotFoundError('no', name={package!r})")
    shell.env["PYTHONPATH"] = str(shell.folder / "hide")
    result = shell.run("--version")
    assert result.returncode == 2
    assert result.stderr == (
        f"plugkeep: the command line needs {package}, which is not installed; "
        "install it with: pip install 'plugkeep[cli]'\n"
    )


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&-"])
def test_a_closed_stream_is_no_reason_to_fail(shell, closed):
    shell.plugin("a")
    result = shell.script(f"plugkeep check {closed}")
    assert (result.returncode, "Traceback" in result.stderr) == (0, False)


@pytest.mark.parametrize("command", ["list", "graph --format svg", "check --json", "list --json"])
def test_a_reader_that_goes_away_is_no_reason_for_a_traceback(shell, command):
    for number in range(300):
        shell.plugin(f"plugin-{number}-{'x' * 200}")
    result = shell.script(f"plugkeep {command} | head -c 10")
    assert (result.returncode, result.stderr, len(result.stdout)) == (0, "", 10)


@pytest.mark.parametrize(
    "command",
    [
        "list",
        "graph",
        "check",
        "check --json",
        "graph -o /dev/full",
        "--help",
        "check --help",
        "call plugkeep.toml a one",
        "call --json plugkeep.toml a one",
    ],
)
def test_a_full_disk_is_named(shell, command):
    shell.plugin("a", more="def one(self): return 1")
    result = shell.script(f"plugkeep {command} > /dev/full")
    assert result.returncode == 1
    assert re.fullmatch(r"Error: .*No space left on device\n", result.stderr), result.stderr
    assert "raised" not in result.stderr


def test_what_the_encoding_of_stdout_lacks_is_escaped(shell):
    shell.plugin("café")
    shell.env["PYTHONIOENCODING"] = "ascii"
    result = shell.run("list")
    assert result.returncode == 0
    assert "caf\\xe9" in result.stdout


USAGE = {
    "too much": "check --json a b",
    "too little": "call --json ok",
    "a bad value": "run --workers 0 ok --json",
    "no such option": "list --json --nonsense",
    "no such command": "--json nonsense",
    "nothing of the kind": "run --serve x --json",
}


@pytest.mark.parametrize("command", USAGE.values(), ids=USAGE)
def test_a_command_line_that_does_not_fit_is_said_in_json_too(shell, command):
    result = shell.run(*command.split())
    assert (result.returncode, result.stderr) == (2, "")
    error = json.loads(result.stdout)["error"]
    assert error.keys() == {"type", "message", "plugin"}
    assert error["message"]
    without = shell.run(*command.replace("--json", "").split())
    assert (without.returncode, without.stdout) == (2, "")
    assert without.stderr.startswith("Usage: ")


def test_json_after_two_dashes_is_an_argument(shell):
    result = shell.run("check", "--", "--json", "b")
    assert (result.returncode, result.stdout) == (2, "")
    assert "unexpected extra argument" in result.stderr


@pytest.mark.parametrize("steering", ["\x1b[31m", "\x9b31m", "\x7f", "\u202e"])
def test_nothing_from_a_file_or_a_plugin_steers_the_terminal(shell, steering):
    code = f"\\u{ord(steering[0]):04x}"
    shell.plugin("a", more=f"def one(self): return {steering!r}",
                 start=f"import logging; logging.warning({steering!r})")  # fmt: skip
    shell.write("wrong.toml", f'[plugins."{code}red"]\n')
    shell.write(
        "good.toml", f'[plugins.a]\nsource = "file:a.py"\n[plugins.b]\nsource="exec:{code}"'
    )
    shell.write("raises.py", f"raise RuntimeError({steering!r})")
    shell.write("raises.toml", '[plugins.a]\nsource = "file:raises.py"')
    shown = {
        command: shell.run(*command.split())
        for command in (
            "check wrong.toml",
            "list wrong.toml",
            "list good.toml",
            "check raises.toml --load",
            "graph raises.toml --load",
            "call good.toml a one",
            "list good.toml --json",
            "graph good.toml --format svg",
        )
    }
    for command, result in shown.items():
        assert code in result.stdout + result.stderr, (command, result)
        assert steering[0] not in result.stdout + result.stderr, command
    assert json.loads(shown["call good.toml a one"].stdout) == steering
    assert code in shown["call good.toml a one"].stderr, "what is logged is shown raw"


# --- what stands beside the file --------------------------------------------------------------

BESIDE = {
    "check": "check {} --load",
    "call": "call {} shop one",
    "graph": "graph {} --load",
    "run": "run {}",
}


@pytest.mark.parametrize("command", BESIDE.values(), ids=BESIDE)
def test_modules_beside_the_file_can_be_imported(shell, command):
    shell.write("there/shop/db.py", "import sibling\nPluginFactory = sibling.Plugin\n")
    shell.write(
        "there/sibling.py",
        """
        import sys
        class Plugin:
            name = "shop"
            def start(self): assert "run" not in sys.argv, "started"
            def stop(self): ...
            def one(self): return 1
        """,
    )
    shell.write("there/plugkeep.toml", '[plugins.shop]\nsource = "python:shop.db"\n')
    program = str(Path(sys.executable).with_name("plugkeep"))
    result = shell.run(args=[program, *command.format("there/plugkeep.toml").split()])
    assert "No module named" not in result.stdout + result.stderr
    assert ("started" in result.stdout) == ("run" in command)
    assert result.returncode == ("run" in command), result


# --- check ------------------------------------------------------------------------------------


def test_a_file_that_fits(shell):
    shell.plugin("a", start="raise SystemExit('started')")
    shell.plugin("b", "restart = { intensity = 3 }")
    result = shell.run("check")
    assert result.returncode == 0
    assert result.stdout == (
        'warning: plugkeep.toml:6: plugins.b.restart: fits, but without a when it is "temporary": '
        'never started again; add when = "permanent" or "transient"\n'
        "plugkeep.toml fits: 2 plugins\n"
    )


def test_a_file_that_does_not_fit(shell):
    shell.write("shop.toml", "[host]\nworker = 3\n[plugins.a]\n")
    result = shell.run("check", "shop.toml")
    assert result.returncode == 2
    assert result.stdout.splitlines() == [
        "error: shop.toml:2: host.worker: unknown key; did you mean 'workers'?",
        (
            'error: shop.toml:3: plugins.a: has no source; expected source = "...", such as '
            '"file:./clock.py", "python:shop.db" or "exec:./clock"'
        ),
        "shop.toml does not fit: 2 problems",
    ]


def test_an_empty_file_fits_and_is_warned_of(shell):
    shell.write("plugkeep.toml", "")
    result = shell.run("check")
    assert (result.returncode, result.stdout) == (
        0,
        "warning: plugkeep.toml: has no plugins\nplugkeep.toml fits: 0 plugins\n",
    )


def test_check_as_json(shell):
    shell.write("plugkeep.toml", "[host]\nworker = 3\n")
    result = shell.run("check", "--json")
    assert result.returncode == 2
    assert json.loads(result.stdout) == {
        "file": "plugkeep.toml",
        "ok": False,
        "plugins": [],
        "problems": [
            {
                "file": "plugkeep.toml",
                "line": 2,
                "key": "host.worker",
                "message": "unknown key; did you mean 'workers'?",
            }
        ],
        "warnings": [],
    }


def test_with_load_the_plugins_themselves_are_checked_and_none_is_started(shell):
    shell.plugin("a", start="raise SystemExit('started')")
    shell.write("b.py", "import a_module_that_is_not_there")
    shell.write("plugkeep.toml", (shell.folder / "plugkeep.toml").read_text() + "[plugins.b]\n"
                'source = "file:b.py"\n')  # fmt: skip
    assert shell.run("check").returncode == 0
    result = shell.run("check", "--load")
    assert result.returncode == 2
    assert "error: plugkeep.toml:5: plugins.b.source: importing" in result.stdout
    assert "a_module_that_is_not_there" in result.stdout


def test_with_load_requirements_of_the_plugins_own_are_checked(shell):
    shell.plugin("a", more="requires = ('nobody',)")
    result = shell.run("check", "--load", "--json")
    (problem,) = json.loads(result.stdout)["problems"]
    assert problem["message"] == "'a' requires 'nobody', which is not registered"


UNLOADABLE = {
    "an import error": ("import nowhere", "file:a.py"),
    "a syntax error": ("def :", "file:a.py"),
    "an exit": ("raise SystemExit(3)", "file:a.py"),
    "a factory that raises": ("def PluginFactory(): raise OSError('no disk')", "file:a.py"),
    "no plugin": ("PluginFactory = dict", "file:a.py"),
    "a class without a stop": (
        "class PluginFactory:\n    def start(self): ...\n    __repr__ = lambda self: 'shop'",
        "file:a.py",
    ),
    "no such name": ("PluginFactory = None", "file:a.py:Other"),
    "no such file": ("", "file:gone.py"),
    "no such module": ("", "python:nowhere.at_all"),
}


@pytest.mark.parametrize(("code", "source"), UNLOADABLE.values(), ids=UNLOADABLE)
def test_with_load_a_plugin_with_its_own_process_is_tried_there(shell, code, source):
    shell.write("a.py", code)
    told = {}
    for isolation in ("none", "process"):
        lines = f'[plugins.a]\nsource = "{source}"\nisolation = "{isolation}"\n'
        shell.write("plugkeep.toml", lines)
        result = shell.run("check", "--load", "--json")
        assert (result.returncode, result.stderr) == (2, "")
        (told[isolation],) = json.loads(result.stdout)["problems"]
    assert told["process"] == told["none"]
    assert (told["none"]["line"], told["none"]["key"]) == (2, "plugins.a.source")


def test_with_load_a_plugin_that_ends_its_own_process_is_a_problem(shell):
    shell.plugin("a", 'isolation = "process"', more="import os; os._exit(3)")
    result = shell.run("check", "--load")
    assert result.returncode == 2
    assert "error: plugkeep.toml:2: plugins.a.source: plugin 'a'" in result.stdout
    assert "exited with status 3" in result.stdout


def test_with_load_a_configuration_for_another_process_is_checked(shell):
    shell.plugin(
        "a", 'isolation = "process"\nconfig = { hours = "one" }', more="config: dict[str, int]"
    )
    result = shell.run("check", "--load")
    assert result.returncode == 2
    assert "error: plugkeep.toml:4: plugins.a.config: " in result.stdout
    assert "expected a whole number, found a text" in result.stdout


def test_with_load_a_plugin_with_its_own_process_is_not_started(shell):
    shell.plugin("a", 'isolation = "process"', start="open('started', 'w').close()")
    result = shell.run("check", "--load")
    assert (result.returncode, result.stdout) == (0, "plugkeep.toml fits: 1 plugin\n")
    assert not (shell.folder / "started").exists()


def test_what_plugins_print_does_not_get_into_the_json(shell):
    shell.plugin("a", more="import os; print('noise'); os.write(1, b'more noise')")
    result = shell.run("check", "--load", "--json")
    assert json.loads(result.stdout)["ok"] is True
    assert "noise" in result.stderr


# --- list -------------------------------------------------------------------------------------


def add_manifest(shell):
    shell.write("plugins/tea/plugin.toml", 'source = "exec:./tea"\nversion = "1.2"\n')


def test_list_of_a_file(shell):
    shell.plugin("database")
    shell.plugin("api", 'requires = ["database"]')
    shell.plugin("till", 'grants = ["api"]')
    result = shell.run("list")
    assert (result.returncode, result.stdout) == (
        0,
        (
            "NAME      VERSION  SOURCE            ISOLATION  REQUIRES  GRANTS  FROM\n"
            "database  -        file:database.py  none                         plugkeep.toml\n"
            "api       -        file:api.py       none       database          plugkeep.toml\n"
            "till      -        file:till.py      none                 api     plugkeep.toml\n"
        ),
    )


def test_list_of_a_directory_needs_no_file(shell):
    add_manifest(shell)
    result = shell.run("list", "--directory", "plugins")
    assert result.stdout.splitlines()[1].split() == [
        "tea",
        "1.2",
        "exec:./tea",
        "process",
        "plugins/tea/plugin.toml",
    ]


def test_list_of_entry_points(shell):
    shell.write("site/acme-1.5.dist-info/METADATA", "Name: acme\nVersion: 1.5\n")
    shell.write(
        "site/acme-1.5.dist-info/entry_points.txt",
        "[plugkeep.plugins]\nacme = acme.plugin\n[acme.themes]\ndark = acme.dark\n",
    )
    shell.env["PYTHONPATH"] = str(shell.folder / "site")
    result = shell.run("list", "--entry-points")
    assert result.stdout.splitlines()[1].split() == [
        "acme",
        "1.5",
        "python:acme.plugin",
        "none",
        "acme",
        "1.5",
    ]
    result = shell.run("list", "--group", "acme.themes", "--json")
    (dark,) = json.loads(result.stdout)["plugins"]
    assert (dark["name"], dark["version"], dark["origin"]) == ("dark", "1.5", "acme 1.5")


def test_list_as_json(shell):
    add_manifest(shell)
    shell.plugin("api", 'restart = "transient"\ngrants = ["tea"]')
    shell.plugin("tea")
    result = shell.run("list", "plugkeep.toml", "--directory", "plugins", "--json")
    api, _, tea = json.loads(result.stdout)["plugins"]
    assert api == {
        "name": "api",
        "version": None,
        "source": "file:api.py",
        "base": str(shell.folder),
        "requires": [],
        "grants": ["tea"],
        "isolation": "none",
        "restart": "transient",
        "description": "",
        "origin": "plugkeep.toml",
    }
    assert (tea["name"], tea["version"]) == ("tea", "1.2")


def test_errors_as_json(shell):
    shell.write("plugkeep.toml", "[host]\nworker = 3\n")
    result = shell.run("list", "--json")
    assert result.returncode == 2
    error = json.loads(result.stdout)["error"]
    assert error["type"] == "ConfigError"
    assert error["problems"] == [
        "plugkeep.toml:2: host.worker: unknown key; did you mean 'workers'?"
    ]


# --- call -------------------------------------------------------------------------------------

METHODS = """
    def show(self, *args, **kwargs):
        print("printed")
        return [args, kwargs]
    async def later(self):
        return "in time"
    def fail(self):
        raise LookupError("not today")
    def leave(self):
        raise SystemExit(7)
    def opaque(self):
        import datetime
        return {"day": datetime.date(2026, 1, 2), 3: object, "big": 2**70}
    def endless(self):
        loop = []
        loop.append(loop)
        return loop
    def nan(self):
        return float("nan")
    def _private(self): ...
    @property
    def broken(self): raise RuntimeError
"""


@pytest.fixture
def clock(shell):
    shell.plugin("base", start="print('base starts')", stop="print('base stops')")
    shell.plugin("clock", 'requires = ["base"]', more=METHODS.strip())
    shell.plugin("other", start="raise RuntimeError('must not be started')")
    return shell


def test_the_result_is_json_and_only_what_is_needed_is_started(clock):
    result = clock.run("call", "plugkeep.toml", "clock", "show", "1", "two", "[3]", "x=4", "y=five",
                       '"a=b"', "-5", 'z={"w": null}')  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == [
        [1, "two", [3], "a=b", -5],
        {"x": 4, "y": "five", "z": {"w": None}},
    ]
    assert result.stderr.splitlines() == ["base starts", "printed", "base stops"]


def test_an_asynchronous_method(clock):
    assert json.loads(clock.run("call", "plugkeep.toml", "clock", "later").stdout) == "in time"


def test_a_method_of_an_asynchronous_plugin_runs_in_its_loop(shell):
    shell.write(
        "beat.py",
        """
        import asyncio
        class PluginFactory:
            name = "beat"
            async def start(self): self.loop = asyncio.get_running_loop()
            async def stop(self): assert self.loop is asyncio.get_running_loop()
            async def same(self): return self.loop is asyncio.get_running_loop()
            def plain(self): return self.loop is asyncio.get_running_loop()
        """,
    )
    shell.write("plugkeep.toml", '[plugins.beat]\nsource = "file:beat.py"\n')
    for method in ("same", "plain"):
        result = shell.run("call", "plugkeep.toml", "beat", method)
        assert (result.returncode, result.stdout) == (0, "true\n"), result.stderr


def test_values_that_json_has_not(clock):
    result = clock.run("call", "plugkeep.toml", "clock", "opaque")
    assert json.loads(result.stdout) == {
        "day": "2026-01-02",
        "3": "<class 'object'>",
        "big": 2**70,
    }


ARRAYS = """
import numpy
from plugkeep import expose

class PluginFactory:
    name = "a"
    def start(self): ...
    def stop(self): ...
    @expose
    def grid(self): return numpy.arange(6).reshape(2, 3)
    @expose
    def mixed(self):
        return {"a": numpy.float32(1.5), "b": [numpy.bool_(True), b"ab"], "c": numpy.array(3)}
    @expose
    def days(self): return numpy.array(["2026-01-02"], dtype="datetime64[D]")
    @expose
    def hole(self): return numpy.array([1.0, float("nan")])
"""


@pytest.mark.parametrize("isolation", ["none", "process"])
def test_arrays_are_lists_and_bytes_are_base64(shell, isolation):
    shell.plugin("a", f'isolation = "{isolation}"')
    shell.write("a.py", ARRAYS)
    returned = {
        method: json.loads(shell.run("call", "plugkeep.toml", "a", method).stdout)
        for method in ("grid", "mixed", "days")
    }
    assert returned == {
        "grid": [[0, 1, 2], [3, 4, 5]],
        "mixed": {"a": 1.5, "b": [True, "YWI="], "c": 3},
        "days": ["2026-01-02"],
    }
    result = shell.run("call", "plugkeep.toml", "a", "hole")
    assert (result.returncode, result.stdout) == (1, "")
    assert "the result cannot be written as JSON" in result.stderr


def test_an_arrow_table_is_a_list_of_objects(shell):
    table = "return __import__('pyarrow').table({'item': ['tea', 'pot'], 'count': [1, 2]})"
    shell.plugin("a", more=f"def table(self): {table}")
    result = shell.run("call", "plugkeep.toml", "a", "table")
    assert json.loads(result.stdout) == [{"item": "tea", "count": 1}, {"item": "pot", "count": 2}]


def test_a_number_of_a_precision_of_its_own_is_a_text(shell):
    shell.plugin("a", more="def one(self): return __import__('numpy').longdouble('1.5')")
    result = shell.run("call", "plugkeep.toml", "a", "one")
    assert "1.5" in json.loads(result.stdout)


CALL_ERRORS = {
    "no plugin": (["clok", "show"], "plugkeep.toml has no plugin 'clok'; did you mean 'clock'?"),
    "no method": (["clock", "shw"], "'clock' has no public method 'shw'; did you mean 'show'?"),
    "nothing near": (["clock", "xyz"], "no public method 'xyz'; there are: endless, fail, later,"),
    "private": (["clock", "_private"], "has no public method '_private'"),
    "start": (["clock", "start"], "has no public method 'start'"),
    "property": (["clock", "broken"], "has no public method 'broken'"),
    "raises": (["clock", "fail"], "fail() of plugin 'clock' raised LookupError: not today"),
    "exits": (["clock", "leave"], "leave() of plugin 'clock' raised SystemExit: 7"),
    "arguments": (["clock", "later", "1"], "later() of plugin 'clock' raised TypeError"),
    "endless": (["clock", "endless"], "the result cannot be written as JSON"),
    "nan": (["clock", "nan"], "the result cannot be written as JSON"),
    "no start": (["other", "anything"], "'other' failed to start: RuntimeError: must not be"),
}  # fmt: skip


@pytest.mark.parametrize(("args", "message"), CALL_ERRORS.values(), ids=CALL_ERRORS)
def test_a_call_that_fails_says_why(clock, args, message):
    result = clock.run("call", "plugkeep.toml", *args)
    assert (result.returncode, result.stdout) == (1, "")
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_errors_of_a_call_as_json(clock):
    result = clock.run("call", "--json", "plugkeep.toml", "clock", "fail")
    assert result.returncode == 1
    assert json.loads(result.stdout)["error"] == {
        "type": "CallError",
        "message": "fail() of plugin 'clock' raised LookupError: not today",
        "plugin": "clock",
    }


def test_a_result_is_printed_although_a_stop_fails_afterwards(shell):
    shell.plugin("a", stop="raise RuntimeError('stuck')", more="def one(self): return 1")
    result = shell.run("call", "plugkeep.toml", "a", "one")
    assert (result.returncode, result.stdout) == (1, "1\n")
    assert "plugin 'a' failed to stop: RuntimeError: stuck" in result.stderr


def test_ctrl_c_ends_a_call_and_stops_what_was_started(shell, until_asleep):
    hang = "def hang(self):\n        print('hanging', flush=True)\n"
    hang += "        __import__('threading').Event().wait()"
    shell.plugin("a", stop="print('stopped')", more=hang)
    process = shell.start("call", "plugkeep.toml", "a", "hang", env=shell.env)
    try:
        assert process.stderr.readline() == "hanging\n"
        until_asleep(process.pid)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert (process.returncode, out, err) == (130, "", "stopped\n")


def test_a_method_that_interrupts_is_told_in_json(shell):
    shell.plugin("a", more="def hang(self): raise KeyboardInterrupt")
    result = shell.run("call", "plugkeep.toml", "a", "hang", "--json")
    assert (result.returncode, result.stderr) == (130, "")
    assert json.loads(result.stdout)["error"] == {
        "type": "KeyboardInterrupt",
        "message": "interrupted",
        "plugin": None,
    }


def test_a_program_at_level_0_has_no_methods(shell):
    program = shell.write("tea", "#!/bin/sh\necho '{\"ready\": true}'\nread line\n")
    program.chmod(0o755)
    shell.write("plugkeep.toml", '[plugins.tea]\nsource = "exec:./tea"\n')
    result = shell.run("call", "plugkeep.toml", "tea", "brew")
    assert result.returncode == 1
    assert "plugin 'tea' has no method 'brew': it speaks level 0" in result.stderr
