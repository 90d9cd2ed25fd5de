"""Reloading plugins in processes of their own: what can be known is known before the old stops."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from plugkeep import Host
from plugkeep.errors import ConfigError, PluginError
from plugkeep.lifecycle import State

LIBRARY = """
from pathlib import Path
from plugkeep import expose

class PluginFactory:
    name = "library"
    config: dict[str, int]
    def start(self): self.note("start")
    def stop(self): self.note("stop")
    def note(self, what):
        with Path(__file__).with_name("notes").open("a") as notes:
            notes.write(f"{what} {what_it_is}\\n")
    @expose
    def size(self): return self.config["size"]

what_it_is = "the old"
"""


@pytest.fixture
def host(folder: Any) -> Host:
    folder.write("library.py", LIBRARY)
    folder.table(
        "library",
        'source = "file:library.py"\nisolation = "process"\nconfig = { size = 3 }',
    )
    folder.plugin("reader", 'requires = ["library"]')
    return Host.from_file(folder.config)


def test_a_new_version_takes_the_place_of_the_old(folder: Any, host: Host) -> None:
    with host:
        library: Any = host.registry["library"]
        old = library.pid
        folder.notes()
        folder.write("library.py", LIBRARY.replace("the old", "the new"))
        host.reload("library", overlap=False)
        assert folder.notes() == ["stop reader", "stop the old", "start the new", "start reader"]
        new: Any = host.registry["library"]
        assert new is library
        assert new.pid not in (old, None)
        assert new.call("size") == 3


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("what_it_is =", "what is it", r"library.source: .*SyntaxError"),
        ("import expose", "import exposed", r"library.source: .*cannot import name 'exposed'"),
        ("PluginFactory", "Plugin", r"library.source: .*has no PluginFactory"),
        (
            'name = "library"',
            "def __init__(self): raise OSError('no shelf')",
            r"library.source: .*OSError: no shelf",
        ),
        (
            "config: dict[str, int]",
            "config: dict[str, str]",
            r"library.config: .*expected a text, found a whole number",
        ),
        ("from plugkeep", "import os; os._exit(7)\nfrom plugkeep", r"library.source: .*status 7"),
    ],
)
def test_one_that_cannot_be_had_leaves_the_old_running(
    folder: Any, host: Host, old: str, new: str, told: str
) -> None:
    others = _children()
    with host:
        library: Any = host.registry["library"]
        pid = library.pid
        folder.notes()
        folder.write("library.py", LIBRARY.replace(old, new))
        with pytest.raises(ConfigError, match=rf"(?s)plugkeep.toml:\d+: plugins.{told}"):
            host.reload("library")
        assert folder.notes() == []
        assert host.registry["library"] == library
        assert library.pid == pid
        assert library.call("size") == 3
        assert _children() - others == {pid}


def test_an_event_loop_goes_on_meanwhile(folder: Any, host: Host) -> None:
    async def main() -> None:
        steps, was_done = 0, asyncio.Event()

        async def count() -> None:
            nonlocal steps
            while not was_done.is_set():
                steps += 1
                await asyncio.sleep(0.001)

        async with host:
            library: Any = host.registry["library"]
            folder.write("library.py", "what is it?")
            counting = asyncio.create_task(count())
            with pytest.raises(ConfigError, match="SyntaxError"):
                await host.areload("library")
            was_done.set()
            await counting
            assert await library.acall("size") == 3
        assert steps > 3

    asyncio.run(main())


def test_one_that_does_not_start_is_told_with_what_is_left(folder: Any, host: Host) -> None:
    with host:
        folder.write("library.py", LIBRARY.replace('self.note("start")', "1 / 0"))
        with pytest.raises(PluginError, match="ZeroDivisionError") as caught:
            host.reload("library", overlap=False)
        assert caught.value.plugin == "library"
        assert str(caught.value).endswith(
            "; after the reload it is the new 'library' that is there, and it is failed"
        )
        assert "reader" in "".join(caught.value.__notes__)
        assert host.registry.state("reader") is State.STOPPED
        folder.write("library.py", LIBRARY)
        host.reload("library")
        assert host.registry.state("library") is State.RUNNING


def test_what_is_only_tried_is_neither_started_nor_stopped(folder: Any, host: Host) -> None:
    others = _children()
    host.reload("library")
    assert folder.notes() == []
    assert host.registry.state("library") is State.REGISTERED
    assert _children() == others


def _children() -> set[int]:
    """Return the keeper's child processes; a test before may have kept some on purpose."""
    from plugkeep.sandbox.keeper.client import keepers
    from plugkeep.sandbox.keeper.zygote import zygote

    warm = zygote()
    found: set[int] = set()
    for pid in (each.pid for each in keepers()):
        found.update(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
    return found - {warm.pid if warm else 0}
