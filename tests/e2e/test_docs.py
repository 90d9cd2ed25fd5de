"""Every snippet of the documentation does what it says, and every link leads somewhere."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from plugkeep.config import _values

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path.relative_to(ROOT)
    for pattern in ("README.md", "docs/**/*.md", "protocol/**/*.md", "examples/**/*.md")
    for path in ROOT.glob(pattern)
)


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_page(page, run_page):
    result = run_page(ROOT / page)
    if result.returncode:
        pytest.fail(f"{result.stdout}\n{result.stderr}", pytrace=False)
    skipped = [line for line in result.stdout.splitlines() if line.startswith("SKIPPED ")]
    if skipped:
        pytest.skip("; ".join(skipped))


_BLOCK = re.compile(r"^( *)(```|~~~).*?^\1\2\s*?$", re.DOTALL | re.MULTILINE)
_CODE = re.compile(r"`[^`\n]*`")
_LINK = re.compile(r"\]\(([^()\s]+)\)")
_HEADING = re.compile(r"^#+ (.+?)\s*$", re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """Return what can stand behind a # in a link to `page`, in the manner of GitHub."""
    seen: Counter[str] = Counter()
    found: set[str] = set()
    for heading in _HEADING.findall(_BLOCK.sub("", page.read_text())):
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found


def missing(page: Path) -> list[str]:
    """Return the links of `page` within the project that lead nowhere."""
    prose = _CODE.sub("", _BLOCK.sub("", page.read_text()))
    return [link for link in _LINK.findall(prose) if "://" not in link and not leads(page, link)]


def leads(page: Path, link: str) -> bool:
    path, _, anchor = link.partition("#")
    target = page.parent / path if path else page
    return target.exists() and (not anchor or anchor in anchors(target))


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_lead_somewhere(page):
    assert missing(ROOT / page) == []


def test_a_link_that_leads_nowhere_is_seen(tmp_path):
    (tmp_path / "b.md").write_text("# A `b`, c's\n```sh\n# no heading\n```\n## Twice\n## Twice\n")
    good = "[x](b.md) [x](b.md#a-b-cs) [x](b.md#twice-1) [x](#top) [x](https://a.b/c#d) `[x](y)`"
    (tmp_path / "a.md").write_text(
        f"# Top\n{good}\n[x](c.md) [x](b.md#no-heading) [x](#b)\n```\n[x](y)\n```\n"
    )
    assert missing(tmp_path / "a.md") == ["c.md", "b.md#no-heading", "#b"]


def test_the_guide_has_every_key_of_a_configuration():
    guide = (ROOT / "docs/hosts.md").read_text()
    table = guide.partition("### Everything that can be in it")[2].partition("###")[0]
    cells = [row.split("|")[2] for row in table.splitlines() if row.startswith("|")]
    keys = {key for cell in cells for key in re.findall(r"`(\w+)`", cell)}
    assert keys == {*_values.HOST, *_values.PLUGIN, *_values.DISCOVER}
