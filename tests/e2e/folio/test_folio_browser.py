"""Folio in a real browser, as somebody sees it who reads, searches and presses buttons."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

CHROMIUM = shutil.which("chromium")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
ARGUMENTS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
#: Milliseconds after which a test gives up.
PATIENCE = 30_000

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="needs Debian's package chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Any]:
    """Open a page; whatever it complains of on its console fails the test."""
    contexts = []
    complaints: list[str] = []

    def complain(message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            complaints.append(message.text)

    def open_page(url: str, **options: Any) -> Page:
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("console", complain)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(url)
        return page

    expect.set_options(timeout=PATIENCE)
    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def test_from_the_index_to_a_document_to_its_source(open_page: Any, reader: Any) -> None:
    page = open_page(reader.url)
    expect(page.get_by_role("heading", name="docs", level=1)).to_be_visible()
    page.get_by_role("main").get_by_role("link", name="guide.md").first.click()

    expect(page.get_by_role("heading", name="The guide", level=1)).to_be_visible()
    expect(page.get_by_role("img", name="A dot")).to_be_visible()
    page.get_by_role("navigation", name="On this page").get_by_role("link").nth(1).click()
    expect(page).to_have_url(re.compile("#first-steps-1$"))

    page.get_by_role("link", name="Source").click()
    line = page.locator(".line").nth(0)
    expect(line).to_have_text("# The guide")
    line.get_by_role("link", name="Line 1").click()
    expect(page).to_have_url(re.compile("/source/guide.md#L1$"))


def test_links_in_documents_lead_to_the_place_they_name(open_page: Any, reader: Any) -> None:
    page = open_page(f"{reader.url}/doc/guide.md")
    page.get_by_role("link", name="the code").click()
    expect(page).to_have_url(f"{reader.url}/doc/more/hello.py#L2")
    expect(page.locator("#L2")).to_be_in_viewport()
    page.go_back()
    page.get_by_role("link", name="the other one").click()
    expect(page.get_by_role("heading", name="Deep down")).to_be_in_viewport()


def test_a_folder_of_the_tree_opens_and_closes(open_page: Any, reader: Any) -> None:
    page = open_page(reader.url)
    inside = page.locator(".tree").get_by_role("link", name="hello.py")
    folder = page.locator("summary", has_text="more")
    expect(inside).to_be_visible()
    folder.click()
    expect(inside).not_to_be_visible()
    folder.press("Enter")
    expect(inside).to_be_visible()


def test_search_while_typing(open_page: Any, reader: Any) -> None:
    page = open_page(reader.url)
    box = page.get_by_role("searchbox", name="Search the documents")
    box.press_sequentially("zebr")
    hit = page.get_by_role("search").get_by_role("link", name="more/other.md")
    expect(hit).to_be_visible()
    box.press("Escape")
    expect(hit).not_to_be_visible()
    box.press_sequentially("a")
    hit.click()
    expect(page.get_by_role("heading", name="Other", level=1)).to_be_visible()


def test_the_page_of_the_search_follows_the_typing(open_page: Any, reader: Any) -> None:
    page = open_page(f"{reader.url}/search?q=zebra")
    expect(page.locator("mark")).to_have_text("zebra")
    page.get_by_role("searchbox").fill("hello")
    expect(page.get_by_role("link", name="more/hello.py")).to_be_visible()
    expect(page).to_have_url(f"{reader.url}/search?q=hello")


def test_search_works_without_javascript(open_page: Any, reader: Any) -> None:
    page = open_page(reader.url, java_script_enabled=False)
    page.get_by_role("searchbox").fill("zebra")
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_role("link", name="more/other.md")).to_be_visible()


def test_what_a_document_smuggles_in_does_not_run(open_page: Any, reader: Any) -> None:
    for path in ("doc/evil.md", "source/evil.md", "search?q=<img src=x onerror=alert(1)>"):
        page = open_page(f"{reader.url}/{path}")
        page.on("dialog", lambda dialog: pytest.fail(f"ran: {dialog.message}"))
        expect(page.get_by_role("main")).to_be_visible()


def test_a_plugin_is_stopped_and_started_by_its_buttons(
    open_page: Any, start_folio: Any, tmp_path: Path
) -> None:
    (tmp_path / "note.md").write_text("# A note\n")
    page = open_page(start_folio(tmp_path).url)
    page.get_by_role("link", name="Plugins").click()
    expect(page.get_by_text("10 of 10 running")).to_be_visible()

    page.get_by_role("button", name="Stop search").click()
    expect(page.get_by_text("9 of 10 running")).to_be_visible()
    expect(page.get_by_role("searchbox")).to_have_count(0)
    page.get_by_role("button", name="Start search").click()
    expect(page.get_by_text("10 of 10 running")).to_be_visible()
    expect(page.get_by_role("searchbox")).to_be_visible()


def test_statistics(open_page: Any, reader: Any) -> None:
    page = open_page(reader.url)
    page.get_by_role("link", name="Statistics").click()
    expect(page.get_by_role("heading", name="Most frequent words")).to_be_visible()
    bars = page.locator(".bar rect")
    widths = [bar.bounding_box()["width"] for bar in bars.all()]
    assert widths == sorted(widths, reverse=True)
    assert widths[0] > widths[-1]


@pytest.mark.parametrize(
    "path", ["", "doc/guide.md", "doc/long.txt", "stats", "plugins", "search?q=a"]
)
def test_nothing_is_wider_than_a_phone(open_page: Any, reader: Any, path: str) -> None:
    page = open_page(f"{reader.url}/{path}", viewport={"width": 320, "height": 640})
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    expect(page.get_by_role("searchbox")).to_be_visible()


#: Returns the texts that stand out too little from what is behind them, by WCAG's formula.
FAINT = """(elements) => {
    const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
    const behind = (node) => {
        const colour = getComputedStyle(node).backgroundColor;
        return parts(colour)[3] === 0 ? behind(node.parentElement) : parts(colour);
    };
    const light = (colour) => colour.slice(0, 3).map((part) => part / 255)
        .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
        .reduce((sum, part, at) => sum + part * [0.2126, 0.7152, 0.0722][at], 0);
    const contrast = (element) => {
        const pair = [light(parts(getComputedStyle(element).color)), light(behind(element))];
        return (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
    };
    return elements.filter((each) => each.checkVisibility() && contrast(each) < 4.5)
        .map((each) => `${each.textContent.trim().slice(0, 40)}: ${contrast(each).toFixed(1)}`);
}"""
TEXTS = "a, p, h1, h2, span, dt, dd, td, th, button, mark, code"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    "path", ["", "doc/guide.md", "doc/more/hello.py", "plugins", "search?q=zebra"]
)
def test_all_text_stands_out_by_day_and_by_night(
    open_page: Any, reader: Any, path: str, scheme: str
) -> None:
    page = open_page(f"{reader.url}/{path}", color_scheme=scheme)
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (int(re.findall(r"\d+", background)[0]) < 64) is (scheme == "dark")
    assert page.locator(TEXTS).evaluate_all(FAINT) == []


def test_keys_alone_will_do(open_page: Any, reader: Any) -> None:
    page = open_page(reader.url)
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to content")
    expect(skip).to_be_focused()
    expect(skip).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page.get_by_role("main")).to_be_focused()


def test_the_parts_of_a_page_have_names(open_page: Any, reader: Any) -> None:
    page = open_page(f"{reader.url}/doc/guide.md")
    for role in ("banner", "main", "contentinfo", "search", "article"):
        expect(page.get_by_role(role)).to_have_count(1)
    assert page.locator("html").get_attribute("lang") == "en"
    for name in ("Main", "Where you are", "On this page", "In this folder"):
        expect(page.get_by_role("navigation", name=name, exact=True)).to_have_count(1)


def test_printed_there_is_only_the_document(open_page: Any, reader: Any) -> None:
    page = open_page(f"{reader.url}/doc/guide.md")
    page.emulate_media(media="print")
    expect(page.get_by_role("heading", name="The guide", level=1)).to_be_visible()
    expect(page.get_by_role("searchbox")).not_to_be_visible()
    expect(page.get_by_role("complementary")).not_to_be_visible()
