"""A toy at the other end of a channel."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import toy as toys


@pytest.fixture(params=[1, 2], ids=["level 1", "level 2"])
def toy(request: pytest.FixtureRequest) -> Iterator[toys.Host]:
    with toys.running(request.param) as host:
        yield host
