"""Whatever a plugin.toml holds, it is a plugin or a list of problems, never a crash."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from plugkeep.discovery import discover_directory
from plugkeep.errors import ConfigError

KEYS = ["name", "source", "version", "requires", "config", "restart", "start_timeout", "sorce"]
VALUES = ["1", "-1.5", "inf", "true", "1979-05-27T07:32:00Z", "[]", "[1]", "{ a = { b = 1 } }"]
TEXTS = [
    "file:",
    "exec:",
    "exec:'",
    "..",
    "~",
    "~nobody/",
    "/",
    ":",
    "python:m",
    "a",
    "5s",
    "\\u0000",
]

texts = st.lists(st.sampled_from(TEXTS), max_size=4).map(lambda parts: f'"{"".join(parts)}"')
lines = st.builds("{} = {}".format, st.sampled_from(KEYS), st.sampled_from(VALUES) | texts)
manifests = st.lists(lines, max_size=6).map("\n".join).map(str.encode)


@pytest.fixture(scope="module")
def manifest() -> Iterator[Path]:
    with TemporaryDirectory() as folder:
        path = Path(folder, "plugin", "plugin.toml")
        path.parent.mkdir()
        yield path


@given(content=manifests | st.binary(max_size=100))
@example(content=b'source = "file:' + b"x" * 5000 + b'"')
@example(content=b'source = "file:' + b"../" * 5000 + b'"')
def test_a_manifest_fits_or_its_problems_are_named(manifest: Path, content: bytes) -> None:
    manifest.write_bytes(content)
    try:
        specs, problems, said = discover_directory(manifest.parents[1]), (), ""
    except ConfigError as error:
        specs, problems, said = [], error.problems, str(error)
    assert all(problem.startswith(f"{manifest}: ") and problem in said for problem in problems)
    assert [spec.base for spec in specs] == ([] if problems else [str(manifest.parent)])
