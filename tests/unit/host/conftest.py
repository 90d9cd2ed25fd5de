"""A folder with plugins, written as a user writes them, and the configuration that names them."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

#: A plugin that notes what happens to it in a file beside it, and fails on demand.
NOTING = """
from pathlib import Path

NOTES = Path(__file__).with_name("notes")

class PluginFactory:
    name = "{name}"

    def start(self):
        self.note("start")
        {start}

    def stop(self):
        self.note("stop")
        {stop}

    def note(self, what):
        with NOTES.open("a") as notes:
            notes.write(f"{{what}} {name}\\n")
"""


class Folder:
    """A folder with a host in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "plugkeep.toml"

    def write(self, name: str, text: str) -> Path:
        file = self.path / name
        file.write_text(dedent(text))
        return file

    def plugin(self, name: str, keys: str = "", *, start: str = "...", stop: str = "...") -> None:
        """Add a noting plugin, with `keys` in its table."""
        self.write(f"{name}.py", NOTING.format(name=name, start=start, stop=stop))
        self.table(name, f'source = "file:{name}.py"\n{keys}')

    def table(self, name: str, keys: str) -> None:
        with self.config.open("a") as config:
            config.write(f"[plugins.{name}]\n{keys.strip()}\n")

    def notes(self) -> list[str]:
        """Return what the plugins have noted since they were asked last."""
        file = self.path / "notes"
        lines = file.read_text().splitlines() if file.exists() else []
        file.write_text("")
        return lines


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)
