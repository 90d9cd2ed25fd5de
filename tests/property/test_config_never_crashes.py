from __future__ import annotations

import json
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hypothesis import given
from hypothesis import strategies as st

from plugkeep.config import HostConfig, read_config
from plugkeep.config._lines import key_lines
from plugkeep.config.typed import set_config
from plugkeep.errors import ConfigError
from plugkeep.spec import PluginSpec

KEYS = [
    "host", "plugins", "discover", "start_timeout", "stop_timeout", "workers", "source", "config",
    "requires", "isolation", "restart", "enabled", "entry_points", "directories", "a", "b", "a.b",
    "", "c d", "é", "\x7f",
]  # fmt: skip
TEXTS = ["5s", "file:x.py", "exec:./x", "none", "process", "permanent", "a", "b", "", "\n", "\0"]

keys = st.sampled_from(KEYS) | st.text(max_size=3)
scalars = st.one_of(
    st.sampled_from(TEXTS),
    st.booleans(),
    st.integers(min_value=-(2**70), max_value=2**70),
    st.sampled_from(["nan", "inf", "1.5", "1979-05-27", "07:32:00", "1e9"]).map(
        lambda text: type("Raw", (str,), {})(text)
    ),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=5),
    max_leaves=15,
)
plugin_like = st.dictionaries(keys, values, max_size=8)
documents = st.fixed_dictionaries(
    {},
    optional={
        "host": plugin_like,
        "plugins": st.dictionaries(keys, plugin_like | values, max_size=4),
        "other": values,
    },
)


def toml(value):
    """Write a value as TOML, all in one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml_text(k)} = {toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    if type(value) is str:
        return toml_text(value)
    return str(value)


def toml_text(text):
    return re.sub("\x7f", r"\\u007f", json.dumps(text, ensure_ascii=False))


def read(content):
    """Return the configuration or the ConfigError; anything else is a failure."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "plugkeep.toml")
        file.write_bytes(content)
        try:
            return read_config(file)
        except ConfigError as error:
            return error


@given(documents)
def test_a_file_of_any_values_fits_or_is_rejected_with_problems_that_have_lines(document):
    text = "\n".join(f"{toml_text(key)} = {toml(value)}" for key, value in document.items())
    result = read(text.encode())
    if isinstance(result, HostConfig):
        assert {spec.name for spec in result.plugins} <= document.get("plugins", {}).keys()
    else:
        assert all(re.search(r"plugkeep\.toml:\d+: ", problem) for problem in result.problems)


@given(st.binary() | st.text(alphabet="[]{}=\"'#,.\n ab1\\").map(str.encode))
def test_a_file_of_any_bytes_fits_or_is_rejected_with_problems(content):
    result = read(content)
    if isinstance(result, ConfigError):
        assert result.problems
        assert all(problem.startswith(str(result.path)) for problem in result.problems)


@given(st.dictionaries(st.from_regex(r"[a-z]{1,5}", fullmatch=True), values, max_size=6))
def test_each_key_is_on_the_line_where_it_was_written(document):
    text = "\n\n".join(f"{key} = {toml(value)} # x = 1" for key, value in document.items())
    lines = {key: line for key, line in key_lines(text).items() if len(key) == 1}
    assert lines == {(key,): 2 * index + 1 for index, key in enumerate(document)}


@dataclass
class Inner:
    a: int = 0


@dataclass
class Settings:
    a: str
    b: Literal["a", "b"] = "a"
    host: Inner | None = None
    config: dict[str, Inner] | None = None


class Plugin:
    config: Settings


@given(plugin_like)
def test_any_table_becomes_the_plugins_type_or_a_list_of_misfits(table):
    plugin = Plugin()
    misfits = set_config(plugin, PluginSpec(name="p", source="file:x.py", config=table))
    if misfits:
        assert not hasattr(plugin, "config")
        assert not any("cannot be set" in message for _, message in misfits), misfits
    elif table:
        assert isinstance(plugin.config, Settings)
