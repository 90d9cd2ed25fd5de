"""Every snippet of the documentation does what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

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
