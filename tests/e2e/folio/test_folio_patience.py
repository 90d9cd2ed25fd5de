"""No document, no query and no moment keeps Folio from answering, or from ending."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

#: Seconds; what is waited for takes a moment.
PATIENCE = 30


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "note.md").write_text("# A note\n\nhi\n")
    return folder


def test_a_word_that_a_document_repeats_without_end_is_found_at_once(
    start_folio: Any, docs: Path, tmp_path: Path
) -> None:
    (docs / "em.md").write_text("*a_ " * 200_000)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    running = start_folio(docs, env={"TMPDIR": str(temporary)})
    with ThreadPoolExecutor() as threads:
        queries = ["a", "a a", '"a a"', "a b", "hi"]
        asked = [
            threads.submit(running.get, "/search", params={"q": each}, timeout=PATIENCE)
            for each in queries
        ]
        pages = dict(zip(queries, (each.result().text for each in asked), strict=True))
    assert "<mark>a</mark>" in pages["a"]
    assert "<mark>a_ *a</mark>" in pages['"a a"']
    assert "Nothing found" in pages["a b"]
    assert "<mark>hi</mark>" in pages["hi"]
    assert running.stop(signal.SIGTERM) == 0
    assert list(temporary.iterdir()) == []


def test_a_search_that_takes_too_long_says_so(
    start_folio: Any, docs: Path, copy: Path, edit: Any
) -> None:
    edit(copy / "plugins" / "search.py", "PATIENCE = 2.0", "PATIENCE = -1.0")
    answer = start_folio(docs, at=copy).get("/search?q=hi")
    assert answer.status_code == 200
    assert "took too long" in answer.text
    assert "Nothing found" not in answer.text


@pytest.mark.parametrize(
    ("query", "text", "marked"),
    [
        ("cat ", "concatenate " * 99 + "the cat", "<mark>cat</mark>"),
        ("deja", "De\u0301ja\u0300 vu", "<mark>D\u00e9j\u00e0</mark>"),
        ("one two", "one " * 999 + "x " * 999 + "two", "<mark>one</mark> <mark>one</mark>"),
        ('"b, a"', "a " * 999 + "B. A.", "a a <mark>B. A</mark>."),
        ("bold", "<b>bold</b>", "&lt;b&gt;<mark>bold</mark>&lt;/b&gt;"),
    ],
)
def test_what_was_found_is_shown_where_it_is(
    start_folio: Any, docs: Path, query: str, text: str, marked: str
) -> None:
    (docs / "found.txt").write_text(text)
    assert marked in start_folio(docs).get("/search", params={"q": query}).text


# --- documents that take long to show -----------------------------------------------------------


RUBY = {"line": "/" * 299_000, "lines": ("/" * 1900 + "\n") * 150}


@pytest.mark.parametrize("shape", RUBY)
def test_code_that_takes_long_to_colour_is_shown_without_and_that_is_said(
    start_folio: Any, docs: Path, shape: str
) -> None:
    (docs / "re.rb").write_text(RUBY[shape])
    html = start_folio(docs).get("/doc/re.rb").text
    assert "shown without colours" in html
    assert "/" * 1900 in html


def test_markdown_that_takes_long_to_lay_out_is_shown_as_it_was_written(
    start_folio: Any, docs: Path
) -> None:
    (docs / "table.md").write_text("|a|b|\n|-|-|\n" + "|![|![|\n" * 30_000)
    html = start_folio(docs).get("/doc/table.md").text
    assert "shown as it was written" in html
    assert "|![|![|" in html


def test_many_who_open_such_documents_keep_nobody_waiting(start_folio: Any, docs: Path) -> None:
    (docs / "re.rb").write_text(RUBY["line"])
    running = start_folio(docs)
    with ThreadPoolExecutor(24) as threads:
        paths = [f"/{view}/re.rb" for view in ("doc", "source")] * 12
        asked = [threads.submit(running.get, path, timeout=PATIENCE) for path in paths]
        assert {each.result().status_code for each in asked} == {200}
    assert running.get("/", timeout=PATIENCE).status_code == 200


# --- plugins that are stopped while a page is made ----------------------------------------------


SEARCHING = ("search.py", "if not expression:")
LAYING_OUT = ("markdown.py", "tokens = self._markdown.parse(text)")
COLOURING = ("highlight.py", "lines = map(")
COUNTING = ("stats.py", 'return Counts(**self._words.call("count", *texts))')


@pytest.mark.parametrize(
    ("place", "plugin", "path", "status", "says"),
    [
        (SEARCHING, "search", "/search?q=hi", 503, "plugin &#39;search&#39; is not running"),
        (COUNTING, "words", "/stats", 503, "plugin &#39;words&#39; is not running"),
        (COUNTING, "words", "/doc/note.md", 200, "A note</h1>"),
        (LAYING_OUT, "markdown", "/doc/note.md", 200, "# A note"),
        (COLOURING, "highlight", "/source/note.md", 200, "# A note"),
    ],
)
def test_a_plugin_that_goes_while_a_page_is_made_is_named_or_done_without(
    start_folio: Any, docs: Path, copy: Path, halt: Any,
    place: tuple[str, str], plugin: str, path: str, status: int, says: str,
) -> None:  # fmt: skip
    halt.put_before(copy / "plugins" / place[0], place[1])
    running = start_folio(docs, at=copy)
    with ThreadPoolExecutor(1) as thread:
        asked = thread.submit(running.get, path)
        try:
            halt.wait()
            page = running.press("stop", plugin).text
        finally:
            halt.end()
        answer = asked.result()
    assert f"/plugins/{plugin}/start" in page, "it has not been stopped"
    assert (answer.status_code, says in answer.text) == (status, True), answer.text
    assert running.stop() == 0
    assert "Traceback" not in running.end
