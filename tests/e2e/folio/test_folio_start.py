"""Folio starts, says what it does, ends in order, and refuses what cannot be."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FOLIO = Path(__file__).parents[3] / "examples" / "folio"
ORDER = ["control", "pages", "library", "markdown", "highlight", "reader", "search", "clock"]
ORDER += ["words", "stats"]


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "note.md").write_text("# A note\n")
    return folder


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 2,000 documents."""
    folder = tmp_path_factory.mktemp("many")
    for number in range(2000):
        file = folder / f"part {number // 100}" / f"{number}.md"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"# Note {number}\n\n{'some words to find ' * 50} unique{number}\n")
    return folder


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_start_and_end_are_told_plugin_by_plugin(
    start_folio: Any, docs: Path, tmp_path: Path, number: signal.Signals
) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    running = start_folio(docs, env={"TMPDIR": str(temporary)})
    assert re.findall(r"(\w+) +[\d.]+ ms  started", running.start) == ORDER
    assert running.stop(number) == 0
    assert re.findall(r"(\w+) +[\d.]+ ms  stopped", running.end) == ORDER[::-1]
    assert re.search(r"Folio was open for \d+ s", running.end), "what the shell script prints"
    assert "Traceback" not in running.end
    assert list(temporary.iterdir()) == []


def test_it_can_be_ended_while_it_starts(many: Path, tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    process = subprocess.Popen(
        [sys.executable, FOLIO / "main.py", "--docs", many, "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "TMPDIR": str(temporary)},
    )
    assert process.stdout
    for line in process.stdout:  # it ends with the process, if not before
        if "documents indexed" in line:
            process.send_signal(signal.SIGINT)
            break
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert re.findall(r"(\w+) +[\d.]+ ms  stopped", said)[-6:] == ORDER[5::-1]
    assert "Traceback" not in said
    assert list(temporary.iterdir()) == []


def test_by_default_it_shows_this_project(start_folio: Any) -> None:
    running = start_folio(None)
    assert "/doc/pyproject.toml" in running.get("/").text
    assert running.get("/doc/README.md").status_code == 200


def run(*arguments: object, at: Path = FOLIO, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, at / "main.py", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env=env or None
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--docs", "/nowhere/at all"], "'/nowhere/at all' does not exist"),
        (["--docs", __file__], "is no folder"),
        (["--port", "http"], "'http' is no port"),
        (["--port", "65536"], "'65536' is no port"),
        (["--port", "-1"], "'-1' is no port"),
        (["--prot", "1"], "unrecognized arguments"),
    ],
)
def test_bad_arguments_are_refused_in_a_sentence(arguments: list[str], words: str) -> None:
    ended = run(*arguments)
    assert ended.returncode == 2
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_port_that_is_taken_is_an_error_before_anything_starts(docs: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = run("--docs", docs, PORT=str(port))
    assert ended.returncode == 1
    assert f"cannot serve at 127.0.0.1, port {port}: Address already in use" in ended.stderr
    assert "started" not in ended.stdout


def test_a_configuration_that_does_not_fit_is_refused_whole(docs: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(FOLIO, tmp_path / "folio", ignore=shutil.ignore_patterns("__pycache__"))
    file = copy / "plugkeep.toml"
    file.write_text(file.read_text().replace('folder = "../.."', 'foldr = "../.."'))
    ended = run("--docs", docs, "--port", "0", at=copy)
    assert ended.returncode == 1
    assert "plugkeep.toml" in ended.stderr
    assert "'folder'" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "started" not in ended.stdout


def test_without_a_compiler_statistics_are_missing_and_it_says_why(
    start_folio: Any, docs: Path, tmp_path: Path
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    date = shutil.which("date")
    assert date
    (programs / "date").symlink_to(date)  # for the shell script
    running = start_folio(docs, env={"PATH": str(programs), "CC": ""})
    assert re.search(r"words +[\d.]+ ms  failed: .*there is no C compiler", running.start)
    assert re.search(r"stats +skipped: ", running.start)
    page = running.get("/plugins").text
    assert "8 of 10 running" in page
    assert "there is no C compiler (cc, gcc or clang)" in page
    document = running.get("/doc/note.md")
    assert document.status_code == 200
    assert "Not running: stats, words" in document.text


def test_what_the_compiler_said_is_shown(start_folio: Any, docs: Path, tmp_path: Path) -> None:
    compiler = tmp_path / "cc"
    compiler.write_text("#!/bin/sh\necho 'words.c:1: <unhappy>' >&2\nexit 1\n")
    compiler.chmod(0o755)
    running = start_folio(docs, env={"CC": str(compiler)})
    assert "could not compile words.c:\nwords.c:1: <unhappy>" in running.start
    assert "words.c:1: &lt;unhappy&gt;" in running.get("/plugins").text
    assert running.get("/").status_code == 200


def test_a_library_that_cannot_be_loaded_is_no_disaster(
    start_folio: Any, docs: Path, tmp_path: Path
) -> None:
    compiler = tmp_path / "cc"
    compiler.write_text('#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done\necho no library >"$2"\n')
    compiler.chmod(0o755)
    running = start_folio(docs, env={"CC": str(compiler)})
    assert re.search(r"words +[\d.]+ ms  failed: ", running.start)
    assert "8 of 10 running" in running.get("/plugins").text


def test_an_empty_folder_has_something_to_say(start_folio: Any, tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    running = start_folio(folder)
    assert "There is nothing to read in this folder yet" in running.get("/").text
    assert "Nothing found" in running.get("/search?q=anything").text
    assert "There are no words to count yet" in running.get("/stats").text
    assert "10 of 10 running" in running.get("/plugins").text


def test_a_folder_of_2000_documents(start_folio: Any, many: Path) -> None:
    running = start_folio(many)
    assert "1,000 of 2,000 documents indexed" in running.start
    assert "2,000 documents" in running.get("/").text
    assert "The best 30 of 2,000 documents" in running.get("/search?q=words").text
    assert "1 document<" in running.get("/search?q=unique1234").text
    assert "2,000" in running.get("/stats").text
