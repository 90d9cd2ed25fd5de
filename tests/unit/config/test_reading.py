from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from plugkeep.config import examine, read_config
from plugkeep.errors import ConfigError, PluginError
from plugkeep.health import Watchdog
from plugkeep.restart import RestartPolicy

CLOCK = '[plugins.clock]\nsource = "file:clock.py"\n'


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(content):
        data = content if isinstance(content, bytes) else content.encode()
        Path("plugkeep.toml").write_bytes(data)
        return "plugkeep.toml"

    return write


def test_everything_that_a_file_can_say(write, tmp_path):
    config = read_config(
        write("""
            [host]
            start_timeout = "5s"
            stop_timeout = 2.5
            workers = 4

            [plugins.database]
            source = "python:shop.db"
            config = { url = "sqlite:///shop.db", pool = { size = 5 } }

            [plugins.clock]
            source = "exec:./clock --utc"
            requires = ["database", "database"]
            isolation = "process"
            restart = "temporary"
            start_timeout = "1m30s"
            stop_timeout = 1
            enabled = true

            [plugins.old]
            source = "file:old.py"
            enabled = false
        """)
    )
    assert (config.path, config.start_timeout, config.stop_timeout, config.workers) == (
        "plugkeep.toml",
        5.0,
        2.5,
        4,
    )
    assert [spec.name for spec in config.plugins] == ["database", "clock"]
    database, clock = config.plugins
    assert database.source == "python:shop.db"
    assert database.config == {"url": "sqlite:///shop.db", "pool": {"size": 5}}
    assert (database.base, database.origin) == (str(tmp_path), "plugkeep.toml")
    assert (database.requires, database.start_timeout) == ((), None)
    assert clock.requires == ("database",)
    assert (clock.isolation, clock.restart) == ("process", "temporary")
    assert (clock.start_timeout, clock.stop_timeout) == (90.0, 1.0)
    assert config.warnings == ()


def test_an_empty_file_is_a_host_without_plugins(write):
    config = read_config(write(""))
    assert config.plugins == ()
    assert (config.start_timeout, config.stop_timeout, config.workers) == (None, None, None)


def test_the_order_of_the_file_is_the_order_of_registration(write):
    names = ["z", "a", "m", "B", "0"]
    text = "".join(f'[plugins.{name}]\nsource = "file:x.py"\n' for name in names)
    assert [spec.name for spec in read_config(write(text)).plugins] == names


def test_a_byte_order_mark_and_line_ends_of_other_systems_are_read(write):
    config = read_config(write(b"\xef\xbb\xbf" + CLOCK.replace("\n", "\r\n").encode()))
    assert [spec.name for spec in config.plugins] == ["clock"]


def test_plugins_may_require_what_the_host_registers_by_itself(write):
    file = write(CLOCK + 'requires = ["app"]')
    assert read_config(file, known=["app"]).plugins[0].requires == ("app",)
    with pytest.raises(ConfigError, match="requires 'app', which is no plugin here"):
        read_config(file)


def test_a_policy_is_a_word_or_a_table(write):
    config = read_config(
        write(
            CLOCK
            + 'restart = { when = "permanent", intensity = 3, period = "1m", delay = 0, '
            + 'max_delay = "500ms", jitter = 0, dependents = "keep" }\n'
            + 'watchdog = { period = "5s", timeout = "500ms" }\n'
            + '[plugins.a]\nsource = "file:a.py"\nrestart = "transient"\nwatchdog = "10s"\n'
            + '[plugins.b]\nsource = "file:b.py"\n'
        )
    )
    clock, a, b = config.plugins
    assert clock.restart_policy == RestartPolicy(
        when="permanent",
        intensity=3,
        period=60.0,
        delay=0.0,
        max_delay=0.5,
        jitter=0.0,
        dependents="keep",
    )
    assert clock.watchdog == Watchdog(5.0, 0.5)
    assert (a.restart, a.restart_policy) == ("transient", RestartPolicy(when="transient"))
    assert (a.watchdog, b.watchdog, b.restart) == (Watchdog(10.0), None, "temporary")


def test_what_the_host_says_of_supervision_goes_for_plugins_that_do_not(write):
    config = read_config(
        write(
            '[host]\nrestart = { when = "permanent", intensity = 9 }\nwatchdog = "5s"\n'
            + CLOCK
            + '[plugins.word]\nsource = "file:a.py"\nrestart = "transient"\n'
            + "[plugins.table]\n"
            + 'source = "file:a.py"\nrestart = { when = "transient" }\nwatchdog = false\n'
        )
    )
    assert [(each.name, each.restart, each.watchdog) for each in config.plugins] == [
        ("clock", RestartPolicy(when="permanent", intensity=9), Watchdog(5.0)),
        ("word", RestartPolicy(when="transient", intensity=9), Watchdog(5.0)),
        ("table", RestartPolicy(when="transient"), None),
    ]


def test_a_policy_without_a_when_is_told_to_do_nothing(write):
    (warning,) = read_config(write(CLOCK + "restart = { intensity = 3 }")).warnings
    assert str(warning).startswith(
        'plugkeep.toml:3: plugins.clock.restart: fits, but without a when it is "temporary"'
    )


MISFITS = {
    "no TOML": ("plugins = [", "1: is not TOML: Invalid value"),
    "a key twice": (
        CLOCK + 'source = "file:b.py"',
        "3: is not TOML: a key or table is given a second",
    ),
    "a table twice": (CLOCK + CLOCK, "3: is not TOML: a key or table is given a second time here"),
    "a number without end": ("a = " + "9" * 5000, ": holds a number of too many digits"),
    "nested without end": ("a = " + "[" * 20000, ": is nested too deeply"),
    "unknown table": ("[plugin.clock]", "1: plugin: unknown key; did you mean 'plugins'?"),
    "unknown and nothing near": (
        "[xyz]",
        "1: xyz: unknown key; there are: host, plugins, discover",
    ),
    "a plugin at the top": (
        "[clock]\nsource = 'x'",
        "1: clock: unknown table; for a plugin write [plugins.clock]",
    ),
    "a dotted name": (
        "[plugins.a.b]\nsource = 'x'",
        '1: plugins.a.b: unknown key; for a plugin named "a.b" quote',
    ),
    "plugins no table": ("plugins = 3", "1: plugins: expected a table, found the number 3"),
    "plugins an array": ("[[plugins]]", "1: plugins: expected a table, found an array"),
    "host no table": ("host = true", "1: host: expected a table, found the boolean true"),
    "unknown in host": (
        "[host]\nworker = 3",
        "2: host.worker: unknown key; did you mean 'workers'?",
    ),
    "no duration": (
        '[host]\nstart_timeout = "soon"',
        "2: host.start_timeout: expected a duration above 0, such as",
    ),
    "a duration of 0": ("[host]\nstop_timeout = 0", "found the number 0"),
    "a duration of nan": ("[host]\nstop_timeout = nan", "found the number nan"),
    "a duration of true": ("[host]\nstop_timeout = true", "found the boolean true"),
    "no workers": (
        "[host]\nworkers = 0",
        "2: host.workers: expected a whole number from 1 to 1024, found",
    ),
    "no modules": (
        '[host]\npreimport = ["numpy", "a b"]',
        "2: host.preimport: expected names of modules, found the text 'a b'",
    ),
    "half workers": ("[host]\nworkers = 1.5", "found the number 1.5"),
    "a date": ("[host]\nworkers = 1979-05-27", "found the date or time 1979-05-27"),
    "a bad name": (
        '[plugins."a b"]\nsource = "x"',
        "1: plugins.\"a b\": plugin name is 'a b'; a name begins",
    ),
    "an empty name": ('[plugins.""]\nsource = "x"', '1: plugins."": plugin name is empty'),
    "a source only": (
        '[plugins]\nclock = "file:x.py"',
        "2: plugins.clock: expected a table with a source, found the text",
    ),
    "no source": ("[plugins.clock]", '1: plugins.clock: has no source; expected source = "..."'),
    "a misspelt source": (
        "[plugins.clock]\nsorce = 'x'",
        "2: plugins.clock.sorce: unknown key; did you mean 'source'?",
    ),
    "an empty source": (
        '[plugins.clock]\nsource = " "',
        "2: plugins.clock.source: expected a source, such as",
    ),
    "an unknown kind": (
        '[plugins.clock]\nsource = "fil:clock.py"',
        "2: plugins.clock.source: source 'fil:clock.py' is of unknown kind 'fil'; did you mean",
    ),
    "a path to nothing": ('[plugins.a]\nsource = "./nothing"', "2: plugins.a.source: source "),
    "no name in requires": (CLOCK + 'requires = ["a b"]', "3: plugins.clock.requires: plugin name"),
    "discover no table": ("discover = 1", "1: discover: expected a table"),
    "no group": (
        "[discover]\nentry_points = 1",
        "2: discover.entry_points: expected true, the name",
    ),
    "no folder": (
        '[discover]\ndirectories = ["nowhere"]',
        "2: discover.directories: '",
    ),
    "nobody's folder": (
        '[discover]\ndirectories = ["~nobody-of-that-name/x"]',
        "2: discover.directories: Could not determine home directory",
    ),
    "an array of sources": ("[plugins.clock]\nsource = ['a']", "found an array"),
    "config no table": (
        CLOCK + "config = 1",
        "3: plugins.clock.config: expected a table, found the number 1",
    ),
    "requires a text": (
        CLOCK + 'requires = "a"',
        '3: plugins.clock.requires: expected an array of texts, such as ["database"]',
    ),
    "requires numbers": (CLOCK + "requires = [1]", "expected an array of texts"),
    "no isolation": (
        CLOCK + 'isolation = "proces"',
        '3: plugins.clock.isolation: expected "none" or "process", found',
    ),
    "no restart": (
        CLOCK + "restart = 1",
        '3: plugins.clock.restart: expected "temporary", "transient", "permanent", or a table',
    ),
    "an unknown word for restart": (
        CLOCK + 'restart = "always"',
        "found the text 'always'",
    ),
    "a policy with an unknown key": (
        CLOCK + "restart = { intensty = 3 }",
        "3: plugins.clock.restart: has the unknown key 'intensty'; did you mean 'intensity'?",
    ),
    "a negative intensity": (
        CLOCK + 'restart = { when = "permanent", intensity = -1 }',
        "3: plugins.clock.restart: intensity: expected how many restarts there may be",
    ),
    "a period of zero": (
        CLOCK + 'restart = { when = "permanent", period = 0 }',
        "3: plugins.clock.restart: period: expected a duration above 0",
    ),
    "a pause above its cap": (
        CLOCK + 'restart = { when = "permanent", delay = "3s" }',
        "3: plugins.clock.restart: delay is 3 s, which is above max_delay, 2 s",
    ),
    "a watchdog that is none": (
        CLOCK + "watchdog = true",
        '3: plugins.clock.watchdog: expected a duration above 0, such as "5s", a table, or false',
    ),
    "a watchdog without a period": (
        CLOCK + 'watchdog = { timeout = "1s" }',
        '3: plugins.clock.watchdog: has no period; expected one, such as period = "5s"',
    ),
    "enabled no bool": (
        CLOCK + 'enabled = "yes"',
        "3: plugins.clock.enabled: expected true or false, found the text 'yes'",
    ),
    "a timeout of no process": (
        CLOCK + 'call_timeout = "1s"',
        "3: plugins.clock.call_timeout: is about a process of the plugin's own, and it runs",
    ),
    "an environment of no process": (
        CLOCK + 'env = { A = "b" }',
        "3: plugins.clock.env: is about a process of the plugin's own",
    ),
    "a folder of no process": (
        CLOCK + 'cwd = "."',
        "3: plugins.clock.cwd: is about a process of the plugin's own",
    ),
    "an environment of numbers": (
        '[plugins.a]\nsource = "exec:./a"\nenv = { A = 1 }',
        "3: plugins.a.env: expected a text for A, found the number 1",
    ),
    "an environment without a name": (
        '[plugins.a]\nsource = "exec:./a"\nenv = { "A=" = "1" }',
        "3: plugins.a.env: expected names of environment variables, without '='",
    ),
    "an unknown grant": (
        CLOCK + 'grants = ["clok"]',
        "3: plugins.clock.grants: grants 'clok', which is no plugin here; did you mean 'clock'",
    ),
    "unknown requirement": (
        CLOCK + 'requires = ["clok"]',
        "3: plugins.clock.requires: requires 'clok', which is no plugin here; did you ",
    ),
    "a requirement of itself": (
        CLOCK + 'requires = ["clock"]',
        "3: plugins.clock.requires: a cycle: 'clock' requires 'clock'",
    ),
    "a disabled requirement": (
        CLOCK + "requires = ['b']\n[plugins.b]\nenabled = false",
        "requires 'b', which is disabled",
    ),
    "a disabled grant": (
        CLOCK + "grants = ['b']\n[plugins.b]\nenabled = false",
        "3: plugins.clock.grants: grants 'b', which is disabled",
    ),
}


@pytest.mark.parametrize(("content", "problem"), MISFITS.values(), ids=MISFITS)
def test_what_does_not_fit_is_named_with_its_file_line_and_key(write, content, problem):
    with pytest.raises(ConfigError) as caught:
        read_config(write(content))
    error = caught.value
    assert isinstance(error, PluginError)
    assert isinstance(error, ValueError)
    assert error.path == "plugkeep.toml"
    assert any(problem in each for each in error.problems), error.problems
    assert all(each.startswith("plugkeep.toml:") for each in error.problems)
    assert all(each in str(error) for each in error.problems)


def test_every_problem_is_listed_in_the_order_of_the_file(write):
    with pytest.raises(ConfigError) as caught:
        read_config(
            write("""[plugins.a]
source = 1
requires = ["b"]
[plugins.b]
source = "file:b.py"
requires = ["nobody"]
[plugins.c]
source = "file:c.py"
requires = ["d"]
[plugins.d]
source = "file:d.py"
requires = ["c"]
[host]
start_timeout = "never"
""")
        )
    assert [problem.split(": ")[:2] for problem in caught.value.problems] == [
        ["plugkeep.toml:2", "plugins.a.source"],
        ["plugkeep.toml:6", "plugins.b.requires"],
        ["plugkeep.toml:9", "plugins.c.requires"],
        ["plugkeep.toml:14", "host.start_timeout"],
    ]
    assert "'c' requires 'd' requires 'c'" in str(caught.value)
    assert str(caught.value).startswith("plugkeep.toml has 4 problems; nothing has started:\n  ")


def test_a_requirement_of_a_plugin_that_has_problems_is_no_second_problem(write):
    _, problems = examine(write(CLOCK + 'requires = ["b"]\n[plugins.b]\nsource = 1\n'))
    assert [problem.key for problem in problems] == ["plugins.b.source"]


def test_problems_are_data_too(write):
    _, (problem,) = examine(write("[host]\n\nworker = 1"))
    assert (problem.file, problem.line, problem.key) == ("plugkeep.toml", 3, "host.worker")
    assert problem.message == "unknown key; did you mean 'workers'?"


def test_no_character_of_a_key_steers_a_terminal(write):
    _, found = examine(write('[plugins."\\u001b[31mred"]\n[plugins."say \\"\\\\\\U000e0001"]\n'))
    assert [problem.key for problem in found] == [
        r'plugins."\u001b[31mred"',
        r'plugins."say \"\\\U000e0001"',
    ]


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("nowhere.toml", "nowhere.toml: there is no such file"),
        (".", ".: is a directory; expected a TOML file"),
        ("a\0b", "cannot be read"),
        ("/dev/zero", "/dev/zero: is a device; expected a TOML file"),
        ("plugkeep.toml/x", "plugkeep.toml/x: cannot be read: Not a directory"),
    ],
)
def test_what_is_no_readable_file(write, path, problem):
    write("")
    with pytest.raises(ConfigError) as caught:
        read_config(path)
    assert problem in str(caught.value)
    assert caught.value.path == path


def test_a_file_that_is_not_utf_8_is_named_with_the_line_and_the_byte(write):
    with pytest.raises(ConfigError) as caught:
        read_config(write(b"[host]\n# caf\xe9\n"))
    assert str(caught.value) == ("plugkeep.toml:2: is not UTF-8: found byte 0xe9; save it as UTF-8")


def test_a_missing_file_can_be_caught_as_such(write):
    with pytest.raises(FileNotFoundError) as caught:
        read_config("nowhere.toml")
    assert isinstance(caught.value, ConfigError)
    assert caught.value.problems == ("nowhere.toml: there is no such file",)


# --- what is discovered -----------------------------------------------------------------------


def add_manifest(name, text, directory="plugins"):
    folder = Path(directory, name)
    folder.mkdir(parents=True)
    (folder / "plugin.toml").write_text(text)


DISCOVER = '[discover]\ndirectories = ["plugins"]\n'


def test_plugins_in_folders_come_after_those_of_the_file(write, tmp_path):
    add_manifest("b", 'source = "file:b.py"\nversion = "2.1"\n')
    add_manifest("a", 'source = "file:a.py"\nrequires = ["clock"]\n')
    config = read_config(write(DISCOVER + CLOCK + 'requires = ["b"]'))
    assert [spec.name for spec in config.plugins] == ["clock", "a", "b"]
    b = config.plugins[2]
    assert (b.version, b.base) == ("2.1", str(tmp_path / "plugins" / "b"))
    assert b.origin.endswith("plugins/b/plugin.toml")


def test_what_the_file_says_of_a_plugin_goes_before_what_is_found(write):
    add_manifest("clock", 'source = "file:other.py"\n')
    add_manifest("off", 'source = "file:off.py"\n')
    config = read_config(write(DISCOVER + CLOCK + "[plugins.off]\nenabled = false\n"))
    assert [(spec.name, spec.source) for spec in config.plugins] == [("clock", "file:clock.py")]


def test_without_a_source_the_file_adds_to_what_is_found(write):
    add_manifest("bell", 'source = "file:bell.py"\nversion = "2.1"\nrequires = ["clock"]\n')
    config = read_config(write(DISCOVER + CLOCK + '[plugins.bell]\nconfig = { tone = "a" }\n'))
    assert [spec.name for spec in config.plugins] == ["clock", "bell"]
    bell = config.plugins[1]
    assert (bell.source, bell.version, bell.requires) == ("file:bell.py", "2.1", ("clock",))
    assert bell.config == {"tone": "a"}
    assert bell.origin.endswith("plugins/bell/plugin.toml")


def test_without_a_source_and_nothing_found_there_is_none(write):
    add_manifest("bell", 'source = "file:bell.py"\n')
    _, problems = examine(write(DISCOVER + "[plugins.bel]\nconfig = {}\n"))
    assert ["has no source" in str(problem) for problem in problems] == [True]


def test_problems_of_manifests_are_listed_with_those_of_the_file(write):
    add_manifest("a", "sorce = 1\n")
    add_manifest("b", 'source = "file:b.py"\nrequires = ["clok"]\n', "more")
    discover = '[discover]\ndirectories = ["plugins", "more"]\n'
    _, problems = examine(write(discover + CLOCK + "restart = 1\n"))
    found = [f"{Path(problem.file).parent.name}/{problem.message}" for problem in problems]
    assert any(each.startswith("a/sorce: unknown key; did you mean 'source'?") for each in found)
    assert "b/requires 'clok', which is no plugin here; did you mean 'clock'?" in found
    assert any(problem.key == "plugins.clock.restart" for problem in problems)


def test_two_found_plugins_of_one_name_are_a_problem(write):
    add_manifest("a", 'source = "file:a.py"\n')
    add_manifest("a", 'source = "file:a.py"\n', "others")
    file = write('[discover]\ndirectories = ["plugins", "others"]\n')
    with pytest.raises(ConfigError, match="finds two plugins named 'a'"):
        read_config(file)


def test_plugins_of_installed_distributions(write, tmp_path, monkeypatch):
    info = tmp_path / "site" / "acme-1.5.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.5\n")
    text = "[plugkeep.plugins]\nacme = acme.plugin\n[acme.themes]\ndark = acme.dark:Theme\n"
    (info / "entry_points.txt").write_text(text)
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site")])
    monkeypatch.setenv("PLUGKEEP_CACHE_DIR", "")
    (acme,) = read_config(write("[discover]\nentry_points = true")).plugins
    assert (acme.name, acme.source, acme.version) == ("acme", "python:acme.plugin", "1.5")
    (dark,) = read_config(write('[discover]\nentry_points = "acme.themes"')).plugins
    assert dark.source == "python:acme.dark:Theme"
    both = read_config(write('[discover]\nentry_points = ["plugkeep.plugins", "acme.themes"]'))
    assert [spec.name for spec in both.plugins] == ["acme", "dark"]
    assert read_config(write("[discover]\nentry_points = false")).plugins == ()


READ_AS_SOMEBODY_ELSE = """
import os, sys
from plugkeep.config import read_config
if os.getuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    read_config(sys.argv[1])
except Exception as error:
    print(type(error).__name__, error)
"""


def test_a_file_that_may_not_be_read():
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        file = Path(folder, "plugkeep.toml")
        file.touch(mode=0)
        command = [sys.executable, "-c", READ_AS_SOMEBODY_ELSE, file]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    reason = "cannot be read: Permission denied"
    assert result.stdout == f"ConfigError {file}: {reason}\n", result.stderr
