"""Every snippet of the documentation does what it says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RUNNER = Path(__file__).with_name("run_page.py")
PAGES = sorted(
    path.relative_to(ROOT)
    for pattern in ("README.md", "docs/**/*.md", "protocol/**/*.md", "examples/**/*.md")
    for path in ROOT.glob(pattern)
)


def run(page: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", str(RUNNER), str(page)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_page(page: Path) -> None:
    result = run(ROOT / page)
    if result.returncode:
        pytest.fail(f"{result.stdout}\n{result.stderr}", pytrace=False)
    skipped = [line for line in result.stdout.splitlines() if line.startswith("SKIPPED ")]
    if skipped:
        pytest.skip("; ".join(skipped))
