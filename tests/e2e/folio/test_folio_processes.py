"""Markdown and colours are made in processes of their own: that is to be seen by nobody.

Unless one of them breaks, hangs or is killed: then pages go on without what it does.
"""

from __future__ import annotations

import os
import re
import select
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

APART = ("markdown", "highlight", "clock")
#: Seconds; what is waited for takes a moment.
PATIENCE = 30

NOTE = "# A note\n\n```python\ndef f(): ...\n```\n"
LAID_OUT = "A note</h1>"
COLOURED = '<span class="k">def</span>'
#: What is shown where nobody lays it out.
SOURCE = 'class="lines wrap"'


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "note.md").write_text(NOTE)
    return folder


def row(running: Any, plugin: str) -> str:
    """Return what the page of the plugins says of one."""
    html = running.get("/plugins").text
    return html.partition(f'<li id="{plugin}">')[2].partition("</li>")[0]


def process(running: Any, plugin: str) -> int:
    """Return the process that a plugin runs in, as the page of the plugins says it."""
    shown = re.search(r"<dt>Process</dt><dd>(\d+)</dd>", row(running, plugin))
    assert shown, f"{plugin} shows no process of its own"
    return int(shown[1])


@contextmanager
def ending(*processes: int) -> Iterator[None]:
    """Wait, in the end, for processes to end that are nobody's children here."""
    with ExitStack() as stack:
        ends = [os.pidfd_open(each) for each in processes]
        for end in ends:
            stack.callback(os.close, end)
        yield
        for number, end in zip(processes, ends, strict=True):
            assert select.select([end], [], [], PATIENCE)[0], f"process {number} is still there"


def kill(number: int) -> None:
    with ending(number):
        os.kill(number, signal.SIGKILL)


# --- where they run -----------------------------------------------------------------------------


def test_each_has_a_process_of_its_own_and_the_page_of_the_plugins_says_which(
    start_folio: Any, docs: Path
) -> None:
    running = start_folio(docs)
    processes = {plugin: process(running, plugin) for plugin in APART}
    assert len({running.process.pid, *processes.values()}) == 4
    for plugin, number in processes.items():
        assert Path(f"/proc/{number}/comm").read_text().startswith(plugin)
    assert "<dt>Process</dt>" not in row(running, "reader")


def test_they_still_say_which_version_of_what_they_use(start_folio: Any, docs: Path) -> None:
    running = start_folio(docs)
    assert "markdown-it-py " in row(running, "markdown")
    assert "Pygments " in row(running, "highlight")


def test_a_reload_takes_a_new_process(start_folio: Any, docs: Path) -> None:
    running = start_folio(docs)
    before = process(running, "markdown")
    with ending(before):
        assert "10 of 10 running" in running.press("reload", "markdown").text
    assert process(running, "markdown") != before
    assert LAID_OUT in running.get("/doc/note.md").text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_none_is_left_when_folio_has_ended(
    start_folio: Any, docs: Path, number: signal.Signals
) -> None:
    running = start_folio(docs)
    assert COLOURED in running.get("/doc/note.md").text
    with ending(*(process(running, plugin) for plugin in APART)):
        running.stop(number)


# --- one of them crashes, and is started again --------------------------------------------------


def test_markdown_crashes_while_pages_are_read_and_comes_back(start_folio: Any, docs: Path) -> None:
    running = start_folio(docs)
    before = process(running, "markdown")
    over = threading.Event()

    def read() -> list[httpx.Response]:
        pages = [running.get("/doc/note.md")]
        while not over.is_set():
            pages.append(running.get("/doc/note.md"))
        return pages

    with ThreadPoolExecutor(4) as threads:
        readers = [threads.submit(read) for _ in range(4)]
        try:
            notice = running.press("crash", "markdown").text
            end = time.monotonic() + PATIENCE
            while (
                "running" not in row(running, "markdown")
                or LAID_OUT not in running.get("/doc/note.md").text
            ):
                assert time.monotonic() < end, row(running, "markdown")
        finally:
            over.set()
        pages = [page for reader in readers for page in reader.result()]
    assert "plugin &#39;markdown&#39; ended by itself: it was ended by SIGABRT" in notice
    assert {page.status_code for page in pages} == {200}
    assert all("A note" in page.text for page in pages), "laid out, or as it was written"
    assert process(running, "markdown") != before
    assert "Was started again 1 time" in row(running, "markdown")
    assert "SIGABRT" in row(running, "markdown")
    assert running.stop() == 0
    assert "is started again" in running.end
    assert "Traceback" not in running.end


# --- one of them is killed ----------------------------------------------------------------------


def test_markdown_is_killed_while_pages_are_made(
    start_folio: Any, docs: Path, copy: Path, halt: Any, edit: Any
) -> None:
    file = copy / "plugins" / "markdown.py"
    code = file.read_text()
    edit(copy / "plugkeep.toml", 'restart = "permanent"', 'restart = "temporary"')
    halt.put_before(file, "tokens = self._markdown.parse(text)")
    (docs / "plain.txt").write_text("words")
    running = start_folio(docs, at=copy)
    before = process(running, "markdown")
    with ThreadPoolExecutor(8) as threads:
        asked = [threads.submit(running.get, "/doc/note.md") for _ in range(8)]
        halt.wait()
        kill(before)
        pages = [each.result() for each in asked]
    halt.end()
    assert {page.status_code for page in pages} == {200}
    assert all(SOURCE in page.text and LAID_OUT not in page.text for page in pages)
    for path in ("/", "/doc/note.md", "/doc/plain.txt", "/search?q=note", "/stats"):
        assert running.get(path).status_code == 200, path

    assert "SIGKILL" in row(running, "markdown"), "why it does not run"
    file.write_text(code)
    assert "10 of 10 running" in running.press("start", "markdown").text
    assert process(running, "markdown") != before
    assert LAID_OUT in running.get("/doc/note.md").text
    assert running.stop() == 0
    assert "Traceback" not in running.end


def test_without_the_process_that_colours_documents_are_still_laid_out(
    start_folio: Any, docs: Path
) -> None:
    running = start_folio(docs)
    kill(process(running, "highlight"))
    html = running.get("/doc/note.md").text
    assert LAID_OUT in html
    assert COLOURED not in html
    assert "def f(): ..." in running.get("/source/note.md").text
    stylesheet = running.get("/highlight.css")
    assert stylesheet.status_code == 503
    assert "highlight" in stylesheet.text

    assert "10 of 10 running" in running.press("start", "highlight").text
    assert COLOURED in running.get("/doc/note.md").text
    assert running.get("/highlight.css").status_code == 200
    assert running.stop() == 0
    assert "Traceback" not in running.end


def test_a_process_that_hangs_costs_a_page_what_it_does_and_that_is_said(
    start_folio: Any, docs: Path, copy: Path, edit: Any
) -> None:
    edit(copy / "plugkeep.toml", 'call_timeout = "5s"', 'call_timeout = "100ms"')
    edit(copy / "plugins" / "markdown.py", "PATIENCE = 5.0", "PATIENCE = 0.1")
    running = start_folio(docs, at=copy)
    os.kill(process(running, "highlight"), signal.SIGSTOP)
    document = running.get("/doc/note.md").text
    assert LAID_OUT in document
    assert COLOURED not in document
    source = running.get("/source/note.md").text
    assert "# A note" in source
    assert "without plugin &#39;highlight&#39;, which did not answer in time" in source
    assert running.get("/highlight.css").status_code == 504
    os.kill(process(running, "highlight"), signal.SIGCONT)
    # As soon as it has caught up; so little time is not enough for it at first.
    assert any(COLOURED in running.get("/source/note.md").text for _ in range(100))


def test_what_they_print_is_told_under_their_names(
    start_folio: Any, docs: Path, copy: Path, edit: Any
) -> None:
    say = "tokens = self._markdown.parse(text)"
    edit(copy / "plugins" / "markdown.py", say, f"print('laying out', document.name); {say}")
    running = start_folio(docs, at=copy)
    assert LAID_OUT in running.get("/doc/note.md").text
    assert running.stop() == 0
    assert "laying out note.md (plugkeep.plugin.markdown" in running.end


# --- nobody waits for anybody -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("plugin", "before", "slow", "other", "shows"),
    [
        ("markdown", "tokens = self._markdown", "/doc/slow.md", "/doc/note.md", LAID_OUT),
        ("highlight", "lines = map(", "/source/slow.md", "/source/note.md", "# A note"),
    ],
)
def test_while_one_document_takes_long_others_are_shown(
    start_folio: Any, docs: Path, copy: Path, halt: Any, edit: Any,
    plugin: str, before: str, slow: str, other: str, shows: str,
) -> None:  # fmt: skip
    file = copy / "plugins" / f"{plugin}.py"
    halt.put_before(file, before)
    # Both statements of the halt, for that document only; it is the one that is long.
    document = "code" if plugin == "highlight" else "text"
    edit(file, "write_text('!')", f"write_text('!') if len({document}) > 99 else 0")
    edit(file, "read_text()", f"read_text() if len({document}) > 99 else 0")
    (docs / "slow.md").write_text("long " * 99)
    running = start_folio(docs, at=copy)
    with ThreadPoolExecutor(1) as thread:
        asked = thread.submit(running.get, slow)
        try:
            halt.wait()
            page = running.get(other)
            assert shows in page.text
            assert not asked.done(), "it was not held up, so this has shown nothing"
        finally:
            halt.end()
        assert asked.result().status_code == 200


# --- colours come line by line ------------------------------------------------------------------


def test_a_long_document_is_coloured_as_far_as_it_is_shown_and_no_further(
    start_folio: Any, docs: Path, copy: Path, edit: Any, tmp_path: Path
) -> None:
    said = tmp_path / "said"
    os.mkfifo(said)
    tell = f"__import__('pathlib').Path({str(said)!r}).write_text"
    edit(copy / "plugins" / "highlight.py", "            yield some", f"""\
            try:
                yield some
            except GeneratorExit:
                {tell}("cut off")
                raise""")  # fmt: skip
    (docs / "long.py").write_text("pass\n" * 40_000)
    (docs / "short.py").write_text("pass\n" * 300)
    running = start_folio(docs, at=copy)
    seen = os.open(said, os.O_RDWR | os.O_NONBLOCK)
    try:
        html = running.get("/doc/long.py").text
        assert "only its first 20,000 lines" in html
        assert html.count('<span class="k">pass</span>') == 20_000
        assert select.select([seen], [], [], PATIENCE)[0], "the stream has not ended"
        assert os.read(seen, 99) == b"cut off"
        assert running.get("/doc/short.py").text.count('<span class="k">pass</span>') == 300
        assert not select.select([seen], [], [], 0)[0], "this one ends by itself"
    finally:
        os.close(seen)
