"""What Folio shows of a folder, and what it does not."""

from __future__ import annotations

import http.client
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

PAGES = ["/", "/doc/guide.md", "/doc/evil.md", "/source/evil.md", "/doc/more/hello.py", "/doc/more"]
PAGES += [
    "/search?q=zebra",
    "/search?q=<script>alert(1)</script>",
    "/stats",
    "/plugins",
    "/nowhere",
]
PAGES += ["/doc/empty.txt", "/doc/empty.md", "/search", "/doc/<script>alert(1)</script>"]


def listed(reader: Any, elements: Any) -> set[str]:
    links = elements(reader.get("/").text).links()
    return {link.removeprefix("/doc/") for link in links if link.startswith("/doc/")}


def test_the_index_lists_what_can_be_read_and_nothing_else(reader: Any, elements: Any) -> None:
    names = ["guide.md", "evil.md", "latin.txt", "empty.txt", "empty.md", "long.txt", "drawing.svg"]
    names += ["<b>bold & \"quoted\" 'name'.txt", "more/other.md", "more/hello.py"]
    names += ["more/Über uns/naïve résumé.md"]
    assert listed(reader, elements) == {quote(name) for name in names}


def test_every_document_that_is_listed_opens(reader: Any, elements: Any) -> None:
    for path in listed(reader, elements):
        for view in ("doc", "source"):
            assert reader.get(f"/{view}/{path}").status_code == 200, path


@pytest.mark.parametrize(
    "path",
    [
        "/doc/../secret.txt",
        "/doc/..%2fsecret.txt",
        "/doc/%2e%2e/secret.txt",
        "/doc/more/../../secret.txt",
        "/source/..%2f..%2f..%2f..%2fetc%2fpasswd",
        "/doc//etc/passwd",
        "/doc/%2fetc%2fpasswd",
        "/doc/out.txt",
        "/doc/outside/secret.txt",
        "/doc/outside/docs/guide.md",
        "/doc/round",
        "/doc/within.md",
        "/doc/.hidden.md",
        "/doc/.git/config",
        "/doc/./guide.md",
        "/doc/more/./hello.py",
        "/doc/environment/../guide.md",
        "/doc/node_modules/package/readme.md",
        "/doc/binary.dat",
        "/doc/huge.txt",
        "/doc/pipe.txt",
        "/doc/guide.md%00.txt",
        "/doc/no%FF-utf8.txt",
        "/doc/" + "a" * 5000,
        "/raw/../secret.txt",
        "/raw/guide.md",
        "/raw/.git/config",
        "/raw/nothing.png",
        "/source/more",
    ],
)
def test_no_path_leads_to_what_is_not_listed(reader: Any, path: str) -> None:
    address = urlsplit(reader.url)
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=30)
    try:
        connection.request("GET", path)  # as it stands: httpx would tidy it up
        answer = connection.getresponse()
        body = answer.read().decode()
    finally:
        connection.close()
    assert answer.status == 404
    assert "Not here" in body
    assert "top secret" not in body
    assert "root:" not in body


@pytest.mark.parametrize("path", PAGES)
def test_nothing_that_documents_or_people_write_becomes_active(
    reader: Any, elements: Any, path: str
) -> None:
    page = elements(reader.get(path).text)
    for tag, attributes in page.all:
        assert tag not in {"iframe", "object", "embed", "style", "base", "math"}
        assert not [name for name in attributes if name.startswith("on") or name == "style"], tag
        for name in ("href", "src", "action"):
            address = attributes.get(name) or ""
            inline_icon = tag == "link" and address.startswith("data:image/svg+xml,")
            assert (
                address.startswith(("/", "#", "https://", "http://")) or inline_icon or not address
            )
    assert [each.get("src") for each in page.of("script")] == ["/search.js"]
    assert all((each.get("src") or "").startswith("/raw/") for each in page.of("img"))


def test_html_in_markdown_is_shown_as_text(reader: Any, elements: Any) -> None:
    page = elements(reader.get("/doc/evil.md").text)
    assert "<script>alert(1)</script>" in page.text
    assert "[one](javascript:alert(1))" in page.text


@pytest.mark.parametrize("path", [*PAGES, "/style.css", "/highlight.css", "/search.js"])
def test_every_answer_says_what_the_browser_may_do(reader: Any, path: str) -> None:
    headers = reader.get(path).headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


def test_a_picture_is_served_so_that_nothing_in_it_runs(reader: Any) -> None:
    answer = reader.get("/raw/drawing.svg")
    assert answer.headers["content-type"] == "image/svg+xml"
    assert answer.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
    assert reader.get("/raw/dot.png").headers["content-type"] == "image/png"


def test_another_site_cannot_reach_folio_by_a_name_of_its_own(reader: Any) -> None:
    assert reader.get("/", headers={"Host": "evil.example"}).status_code == 400


def test_markdown_is_rendered(reader: Any, elements: Any) -> None:
    html = reader.get("/doc/guide.md").text
    page = elements(html)
    assert '<td class="right">3.50</td>' in html
    assert "/doc/more/other.md#deep-down" in page.links()
    assert "/doc/more/hello.py#L2" in page.links()
    assert {"src": "/raw/dot.png", "alt": "A dot"} in page.of("img")
    assert '<span class="k">def</span>' in html


def test_headings_have_anchors_that_are_listed(reader: Any, elements: Any) -> None:
    page = elements(reader.get("/doc/guide.md").text)
    assert [each.get("id") for each in page.of("h2")][:2] == ["first-steps", "first-steps-1"]
    assert "#first-steps-1" in page.links()
    assert len(page.of("h1")) == 1


def test_links_between_documents_lead_somewhere(reader: Any, elements: Any) -> None:
    for link in elements(reader.get("/doc/more/other.md").text).links():
        if not link.startswith("#"):
            assert reader.get(link).status_code == 200, link


def test_a_source_is_shown_as_it_is_with_an_anchor_for_each_line(
    reader: Any, elements: Any
) -> None:
    html = reader.get("/doc/more/hello.py").text
    page = elements(html)
    assert 'x = 1\nprint("<hello>")\n' in page.text
    assert [each["id"] for each in page.of("span") if each.get("class") == "line"] == ["L1", "L2"]
    assert '<span class="s2">' in html


def test_what_is_no_utf8_is_replaced_and_said(reader: Any) -> None:
    html = reader.get("/doc/latin.txt").text
    assert "caf\ufffd" in html
    assert "not written in UTF-8" in html
    assert "not written in UTF-8" not in reader.get("/doc/guide.md").text


def test_a_document_without_end_is_shortened(reader: Any, elements: Any) -> None:
    html = reader.get("/doc/long.txt").text
    assert "only its first 20,000 lines" in html
    assert html.count('class="line"') == 20_000


def test_empty_documents_say_so(reader: Any) -> None:
    for path in ("empty.txt", "empty.md"):
        assert "This document is empty" in reader.get(f"/doc/{path}").text


def test_a_folder_has_a_page(reader: Any, elements: Any) -> None:
    links = elements(reader.get("/doc/more/").text).links()
    assert "/doc/more/hello.py" in links
    assert "/doc/guide.md" not in links


def test_errors_look_like_pages(reader: Any) -> None:
    missing = reader.get("/nowhere")
    assert (missing.status_code, "Not here" in missing.text) == (404, True)
    wrong = reader.client.post("/search")
    assert (wrong.status_code, "Not like this" in wrong.text) == (405, True)
    assert wrong.headers["allow"] == "GET, HEAD"


# --- search -----------------------------------------------------------------------------------


def found(reader: Any, elements: Any, query: str) -> list[str]:
    page = elements(reader.get("/search", params={"q": query, "part": "hits"}).text)
    return [link.removeprefix("/doc/") for link in page.links()]


def test_search_finds_what_is_listed_and_nothing_hidden(reader: Any, elements: Any) -> None:
    assert found(reader, elements, "zebra") == ["more/other.md"]


def test_what_was_found_is_marked(reader: Any) -> None:
    assert "<mark>zebra</mark>" in reader.get("/search?q=zebra").text


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ("zeb", "more/other.md"),
        ("ZEBRA back", "more/other.md"),
        ('"back to"', "more/other.md"),
        ("deja", quote("more/Über uns/naïve résumé.md")),
        ("hello.py", "more/hello.py"),
        ('print("<hello>")', "more/hello.py"),
        ("def greet(name: str)", "guide.md"),
    ],
)
def test_search_finds(reader: Any, elements: Any, query: str, path: str) -> None:
    assert path in found(reader, elements, query)


def test_the_best_comes_first(reader: Any, elements: Any) -> None:
    assert found(reader, elements, "guide")[0] == "guide.md"


@pytest.mark.parametrize(
    "query",
    ['"', '""', '"open', "*", "a*b*", "AND", "NOT", "a OR", "NEAR(", "body:x", "-", "--", "(", "^a",
     "{a b}:c", "\0", "a\0b", "_", "'", "' OR 1=1 --", "%", "\ud7ff", "x" * 5000, "a " * 500],
)  # fmt: skip
def test_no_query_is_an_error(reader: Any, query: str) -> None:
    answer = reader.get("/search", params={"q": query})
    assert answer.status_code == 200
    assert "Internal Server Error" not in answer.text


def test_search_without_results_and_without_a_query_says_so(reader: Any) -> None:
    assert "Nothing found for" in reader.get("/search?q=unheard-of").text
    assert "Type a word" in reader.get("/search").text


# --- statistics -------------------------------------------------------------------------------


def test_a_document_is_counted(reader: Any, elements: Any) -> None:
    text = "".join(elements(reader.get("/doc/more/other.md").text).text.split())
    assert "Words11" in text  # Other; Deep down; Back to the guide; guide md; a zebra
    assert "Lines5" in text
    assert "Readingtime1min" in text


def test_all_documents_are_counted(reader: Any, elements: Any) -> None:
    html = reader.get("/stats").text
    text = "".join(elements(html).text.split())
    assert "11Documents" in text or "Documents11" in text
    assert 'href="/doc/long.txt"' in html
    assert "line20,500" in text
