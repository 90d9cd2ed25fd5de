"""How a file limits calls, for one plugin and for all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from plugkeep import ConfigError, Host, PluginSpec
from plugkeep.config import read_config


def limits(folder: Path, text: str) -> tuple[Any, ...]:
    """Return the limits of each plugin of a file."""
    (folder / "a.py").write_text("")
    file = folder / "plugkeep.toml"
    file.write_text(text)
    return tuple((spec.max_calls, spec.max_waiting) for spec in read_config(file).plugins)


A = '[plugins.a]\nsource = "file:a.py"\nisolation = "process"\n'


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (A, (None, None)),
        (A + "max_calls = 4\n", (4, None)),
        (A + "max_calls = 4\nmax_waiting = 0\n", (4, 0)),
        ("[host]\nmax_calls = 4\nmax_waiting = 9\n" + A, (4, 9)),
        ("[host]\nmax_calls = 4\nmax_waiting = 9\n" + A + "max_calls = 1\n", (1, 9)),
        ("[host]\nmax_calls = 4\nmax_waiting = 9\n" + A + "max_calls = false\n", (None, None)),
        ("[host]\nmax_waiting = 9\n" + A, (None, None)),
        ("[host]\nmax_calls = 4\n" + A + "max_waiting = 2\n", (4, 2)),
    ],
)
def test_limits_are_a_plugins_own_or_the_hosts(tmp_path, text, found):
    assert limits(tmp_path, text) == (found,)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("max_calls = 0", "max_calls: expected a whole number from 1 to 100000, or false, found"),
        ("max_calls = true", "found the boolean true"),
        ('max_waiting = "9"', "max_waiting: expected a whole number from 0 to 100000, or false"),
        ("max_waiting = 9", "max_waiting: is of no use without max_calls"),
        ("max_calls = false\nmax_waiting = 9", "max_waiting: is of no use without max_calls"),
    ],
)
def test_what_does_not_fit_is_told(tmp_path, key, message):
    with pytest.raises(ConfigError) as caught:
        limits(tmp_path, f"{A}{key}\n")
    (problem,) = caught.value.problems
    assert message in problem


def test_they_are_about_a_process_of_the_plugins_own(tmp_path):
    here = '[plugins.a]\nsource = "file:a.py"\n'
    with pytest.raises(ConfigError, match="max_calls: is about a process of the plugin's own"):
        limits(tmp_path, here + "max_calls = 3\n")
    assert limits(tmp_path, "[host]\nmax_calls = 3\n" + here) == ((3, None),)


def test_a_spec_is_held_to_it_too():
    with pytest.raises(ValueError, match="max_calls of plugin 'a' is 0"):
        PluginSpec(name="a", source="file:a.py", max_calls=0)
    with pytest.raises(ValueError, match="there is no max_calls"):
        PluginSpec(name="a", source="file:a.py", max_waiting=1)


def test_the_sandbox_has_them(tmp_path):
    (tmp_path / "a.py").write_text("PluginFactory = None")
    config = tmp_path / "plugkeep.toml"
    config.write_text(A + "max_calls = 3\nmax_waiting = 5\n")
    sandbox: Any = Host.from_file(config).registry["a"]
    assert sandbox._entrance.turnstile.at_once == 3
    assert sandbox._entrance.turnstile.waiting == 5
