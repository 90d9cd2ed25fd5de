"""Every feature is a plugin: what becomes of the rest when one is stopped, started, reloaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

NAMES = ["control", "pages", "library", "markdown", "highlight", "reader", "search", "stats"]
NAMES += ["clock", "words"]


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "note.md").write_text("# A note\n\n```python\ndef f(): ...\n```\n")
    return folder


@pytest.fixture
def running(start_folio: Any, docs: Path) -> Any:
    return start_folio(docs)


def rows(html: str) -> dict[str, str]:
    """Return what the page of the plugins says of each."""
    parts = html.split('<li id="')[1:]
    return {part.partition('"')[0]: part.partition("</li>")[0] for part in parts}


def test_the_page_of_the_plugins_shows_each_with_its_state_source_and_time(running: Any) -> None:
    html = running.get("/plugins").text
    shown = rows(html)
    assert list(shown) == NAMES
    assert "10 of 10 running" in html
    for row in shown.values():
        assert '<span class="state running">' in row
        assert " ms</span>" in row
        assert "<rect " in row
    assert "file:plugins/search.py" in shown["search"]
    assert "exec:plugins/clock.sh" in shown["clock"]
    assert "so:/" in shown["words"]
    assert 'href="#library"' in shown["search"]
    assert "SQLite 3" in shown["search"]
    assert "Not running" not in html


def test_a_stopped_plugin_answers_503_by_name_and_its_box_is_gone(running: Any) -> None:
    assert 'role="search"' in running.get("/").text
    page = running.press("stop", "search").text
    assert '<span class="state stopped">' in rows(page)["search"]

    answer = running.get("/search?q=note")
    assert answer.status_code == 503
    assert "plugin &#39;search&#39; is not running" in answer.text
    index = running.get("/").text
    assert 'role="search"' not in index
    assert "/search.js" not in index
    assert "Not running: search" in index

    assert "10 of 10 running" in running.press("start", "search").text
    assert running.get("/search?q=note").status_code == 200
    assert 'role="search"' in running.get("/").text


def test_without_markdown_a_document_is_shown_as_its_source(running: Any) -> None:
    assert "<h1" in running.get("/doc/note.md").text
    running.press("stop", "markdown")
    html = running.get("/doc/note.md").text
    assert 'class="lines wrap"' in html
    assert "# A note" in html


def test_without_colours_code_is_plain(running: Any) -> None:
    assert '<span class="k">def</span>' in running.get("/doc/note.md").text
    running.press("stop", "highlight")
    assert "def f(): ..." in running.get("/doc/note.md").text
    assert "def f(): ..." in running.get("/source/note.md").text
    assert "/highlight.css" not in running.get("/").text


def test_without_the_native_plugin_there_are_no_statistics(running: Any) -> None:
    assert "Reading time" in running.get("/doc/note.md").text
    page = running.press("stop", "words").text  # which stats requires
    assert "8 of 10 running" in page
    html = running.get("/doc/note.md").text
    assert "Reading time" not in html
    assert "/stats" not in html
    assert running.get("/stats").status_code == 503
    running.press("start", "stats")  # and so words, too
    assert "Reading time" in running.get("/doc/note.md").text


def test_without_the_library_the_plugins_are_still_there_to_start_it(running: Any) -> None:
    assert "6 of 10 running" in running.press("stop", "library").text
    index = running.get("/")
    assert index.status_code == 503
    assert "plugin &#39;reader&#39; is not running" in index.text
    assert "8 of 10 running" in running.press("start", "reader").text
    assert running.get("/").status_code == 200


def test_the_library_keeps_its_folder_when_it_is_reloaded(running: Any) -> None:
    assert "10 of 10 running" in running.press("reload", "library").text
    assert "/doc/note.md" in running.get("/").text
    assert "/doc/pyproject.toml" not in running.get("/").text


@pytest.mark.parametrize("name", ["control", "pages"])
def test_what_is_needed_to_start_plugins_cannot_be_stopped(running: Any, name: str) -> None:
    assert f"/plugins/{name}/stop" not in running.get("/plugins").text
    assert "10 of 10 running" in running.press("stop", name).text


@pytest.mark.parametrize("token", [None, "", "guessed", "\u00fc"])
def test_a_button_of_another_site_does_nothing(running: Any, token: str | None) -> None:
    form = {} if token is None else {"token": token}
    answer = running.client.post("/plugins/search/stop", data=form)
    assert answer.status_code == 403
    assert "10 of 10 running" in running.get("/plugins").text


def test_an_unknown_plugin_or_action_changes_nothing(running: Any) -> None:
    assert running.press("stop", "nobody").status_code == 404
    assert "10 of 10 running" in running.press("destroy", "search").text


def test_what_changes_in_the_folder_shows(
    start_folio: Any, docs: Path, copy: Path, edit: Any
) -> None:
    edit(copy / "plugkeep.toml", 'folder = "../.."', 'folder = "../..", fresh = 0')
    running = start_folio(docs, at=copy)
    assert "Nothing found" in running.get("/search?q=walrus").text
    (docs / "new.txt").write_text("a walrus")
    assert "/doc/new.txt" in running.get("/").text
    assert "<mark>walrus</mark>" in running.get("/search?q=walrus").text
    (docs / "new.txt").write_text("a seal, which is another animal")
    assert "Nothing found" in running.get("/search?q=walrus").text
    assert "<mark>seal</mark>" in running.get("/search?q=seal").text
    (docs / "new.txt").unlink()
    assert "Nothing found" in running.get("/search?q=seal").text
    assert running.get("/doc/new.txt").status_code == 404


def test_a_folder_of_too_many_documents_says_so(
    start_folio: Any, docs: Path, copy: Path, edit: Any
) -> None:
    edit(copy / "plugkeep.toml", 'folder = "../.."', 'folder = "../..", most = 2')
    for name in ("a", "b", "c"):
        (docs / f"{name}.txt").write_text(name)
    running = start_folio(docs, at=copy)
    html = running.get("/").text
    assert "There are more" in html
    assert "2 documents" in html


def test_a_plugin_that_fails_on_a_page_is_done_without(
    start_folio: Any, docs: Path, copy: Path
) -> None:
    for plugin, call in (("markdown", "def render("), ("highlight", "def highlight(")):
        file = copy / "plugins" / f"{plugin}.py"
        head, _, tail = file.read_text().partition(call)
        signature, _, body = tail.partition(":\n")
        file.write_text(f"{head}{call}{signature}:\n        raise RuntimeError\n{body}")
    running = start_folio(docs, at=copy)
    answer = running.get("/doc/note.md")
    assert answer.status_code == 200
    assert "# A note" in answer.text


def test_a_change_to_a_plugin_shows_when_it_is_reloaded(
    start_folio: Any, docs: Path, copy: Path
) -> None:
    running = start_folio(docs, at=copy)
    file = copy / "plugins" / "markdown.py"
    code = file.read_text()

    file.write_text(code.replace('".markdown")', '".markdown", ".txt")'))
    (docs / "plain.txt").write_text("*emphasis*")
    assert "<em>emphasis</em>" not in running.get("/doc/plain.txt").text
    running.press("reload", "markdown")
    assert "<em>emphasis</em>" in running.get("/doc/plain.txt").text

    file.write_text("this is no Python")
    page = running.press("reload", "markdown").text
    assert "SyntaxError" in page
    assert "10 of 10 running" in page, "what ran before runs on"
    assert "<em>emphasis</em>" in running.get("/doc/plain.txt").text
