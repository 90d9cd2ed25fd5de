"""``file:``: Python files, and what any file can be that is of no use."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from plugkeep.errors import (
    ImportFailedError,
    SourceNotFoundError,
    SymbolNotFoundError,
    UnusableSourceError,
    WrongTypeError,
)
from plugkeep.loaders import load

Write = Callable[[str, str], Path]


@pytest.fixture(autouse=True)
def same_modules() -> Iterator[None]:
    """Forget the modules that the test has loaded."""
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("plugkeep_"):
            del sys.modules[name]


def _loaded() -> set[str]:
    return {name for name in sys.modules if name.startswith("plugkeep_")}


CLOCK = "{PLUGIN}\ndef PluginFactory(): return Clock()\ndef other(): return Clock()\n"


def test_a_file_is_loaded_by_its_symbol_or_another(write: Write) -> None:
    path = write("clock.py", CLOCK)
    assert load(f"file:{path}")().name == "clock"
    assert load(f"file:{path}:other")().name == "clock"


def test_a_path_may_hold_colons_and_spaces(write: Write) -> None:
    path = write("a:b/my clock:v2.py", CLOCK)
    assert load(f"file:{path}")().name == "clock"
    assert load(f"file:{path}:other")().name == "clock"
    odd = write("clock", CLOCK)
    assert load(f"file:{odd}:other")().name == "clock"


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("", SymbolNotFoundError, r"file '.*/bad\.py' has no PluginFactory"),
        ("pluginfactory = 3", SymbolNotFoundError, "did you mean 'pluginfactory'"),
        ("PluginFactory = 3", WrongTypeError, "^PluginFactory has wrong type: found int 3"),
        ("import nowhere", ImportFailedError, r"importing file '.*bad.py' raised ModuleNotFound"),
        ("def broken(:", ImportFailedError, r"SyntaxError: .*\(bad.py, line 1\)"),
        ("'\0'", ImportFailedError, "null bytes"),
        ("raise SystemExit('over')", ImportFailedError, "raised SystemExit: over"),
    ],
)
def test_files_that_do_not_load(
    write: Write, text: str, error: type[Exception], words: str
) -> None:
    path = write("bad.py", text)
    with pytest.raises(error, match=words):
        load(f"file:{path}")


def test_a_file_that_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "latin.py"
    path.write_bytes(b"name = '\xe9'")
    with pytest.raises(ImportFailedError, match=r"SyntaxError: .*latin\.py"):
        load(path)


def test_what_failed_is_no_module_any_more(write: Write) -> None:
    before = _loaded()
    path = write("bad.py", "x = 1\n1 / 0")
    with pytest.raises(ImportFailedError) as caught:
        load(path)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert _loaded() == before


def test_a_failed_reload_leaves_the_module_that_was_there(write: Write) -> None:
    path = write("clock.py", CLOCK)
    plugin = load(path)()
    module = sys.modules[type(plugin).__module__]
    write("clock.py", "1 / 0")
    with pytest.raises(ImportFailedError):
        load(path)
    assert sys.modules[type(plugin).__module__] is module


def test_loading_again_executes_what_the_file_says_now(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    text = "{PLUGIN}\nclass PluginFactory(Clock): version = 1\n"
    path = write("clock.py", text)
    when = path.stat()
    old: Any = load(path)()
    write("clock.py", text.replace("version = 1", "version = 2"))
    os.utime(path, ns=(when.st_atime_ns, when.st_mtime_ns))  # same size, same time
    new: Any = load(path)()
    assert (old.version, new.version) == (1, 2)
    assert type(old) is not type(new)
    assert sorted(tmp_path.iterdir()) == [path], "nothing is written beside the plugin"


def test_loading_a_file_ten_times_keeps_one_module(write: Write) -> None:
    path = write("clock.py", CLOCK)
    before = _loaded()
    for _ in range(10):
        load(path)
    assert len(_loaded() - before) == 1


def test_files_of_one_name_in_two_folders_do_not_meet(write: Write) -> None:
    text = "{PLUGIN}\nclass PluginFactory(Clock): folder = 'FOLDER'\n"
    one = load(write("one/clock.py", text.replace("FOLDER", "one")))
    two = load(write("two/clock.py", text.replace("FOLDER", "two")))
    plugins: list[Any] = [one(), two(), one()]
    assert [plugin.folder for plugin in plugins] == ["one", "two", "one"]
    assert type(plugins[0]).__module__ != type(plugins[1]).__module__
    assert "clock" not in sys.modules


def test_dataclasses_types_and_pickle_work_in_a_file(write: Write) -> None:
    path = write(
        "clock.py",
        """\
        from __future__ import annotations
        from dataclasses import dataclass, field
        from typing import ClassVar, get_type_hints

        @dataclass
        class Clock:
            kind: ClassVar[str] = "clock"
            zone: Zone = field(default_factory=lambda: Zone("UTC"))
            name: str = "clock"
            def start(self): self.hints = get_type_hints(Clock)
            def stop(self): ...

        @dataclass
        class Zone:
            name: str

        PluginFactory = Clock
        """,
    )
    plugin: Any = load(path)()
    plugin.start()
    assert plugin.hints["zone"] is type(plugin.zone)
    del plugin.hints
    assert pickle.loads(pickle.dumps(plugin)) == plugin


def test_a_traceback_shows_the_file_s_own_lines(write: Write) -> None:
    import traceback

    path = write("clock.py", "def PluginFactory():\n    return 1 / 0  # the culprit\n")
    try:
        load(path)()
    except Exception as error:
        text = "".join(traceback.format_exception(error))
    assert f'File "{path}", line 2, in PluginFactory' in text
    assert "return 1 / 0  # the culprit" in text


# --- Files of no use --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["file", "so", "exec"])
def test_what_is_no_file(kind: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "file").touch(mode=0o755)
    os.mkfifo(tmp_path / "pipe", 0o755)
    for name, error, words in (
        ("folder", UnusableSourceError, "is a folder"),
        ("loop", UnusableSourceError, "Too many levels of symbolic links"),
        ("pipe", UnusableSourceError, "is no ordinary file"),
        ("x" * 300, UnusableSourceError, "File name too long"),
        ("dangling", SourceNotFoundError, "there is no file"),
        ("file/below", SourceNotFoundError, "there is no file"),
        ("absent", SourceNotFoundError, "there is no file"),
    ):
        with pytest.raises(error, match=words) as caught:
            load(f"{kind}:{tmp_path}/{name}")
        assert isinstance(caught.value, OSError)


def test_a_missing_file_tells_the_near_ones(write: Write, tmp_path: Path) -> None:
    write("clock.py", CLOCK)
    with pytest.raises(SourceNotFoundError, match=r"did you mean 'clock.py'\?"):
        load(f"file:{tmp_path}/clok.py")


AS_NOBODY = """
import os, sys
from plugkeep.errors import LoadError
from plugkeep.loaders import load, so, file, exec as program
os.setgroups([]); os.setgid(65534); os.setuid(65534)
for source in sys.argv[1:]:
    try:
        print(load(source))
    except LoadError as error:
        print(type(error).__name__, error)
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_files_that_this_user_may_not_use() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        root = Path(folder)
        root.chmod(0o755)
        for name in ("secret.py", "secret.so", "program", "closed/clock.py"):
            (root / name).parent.mkdir(exist_ok=True)
            (root / name).write_text("#!/bin/sh\n")
            (root / name).chmod(0o600)
        (root / "closed").chmod(0o700)
        sources = ["file:secret.py", "so:secret.so", "exec:./program", "file:closed/clock.py"]
        done = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, *sources],
            cwd=root,
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert all(line.startswith("UnusableSourceError") for line in lines), lines
    assert "may not be read by this user" in lines[0]
    assert "may not be read by this user" in lines[1]
    assert "is not executable by this user; chmod +x" in lines[2]
    assert "Permission denied" in lines[3]
