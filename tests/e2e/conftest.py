"""What the end-to-end tests share."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

RUNNER = Path(__file__).with_name("run_page.py")


@pytest.fixture
def run_page() -> Callable[[Path], subprocess.CompletedProcess[str]]:
    """Run the snippets of a Markdown page, in a process of its own and with warnings as errors."""

    def run(page: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-W", "error", str(RUNNER), str(page)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
        )

    return run
