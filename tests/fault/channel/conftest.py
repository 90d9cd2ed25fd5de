"""The toy of the channel's unit tests, here to be treated badly."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

TOY = Path(__file__).parents[2] / "unit" / "channel" / "toy.py"


@pytest.fixture
def running() -> Callable[..., AbstractContextManager[Any]]:
    """Return what runs a toy; see there."""
    if "toy" not in sys.modules:
        spec = importlib.util.spec_from_file_location("toy", TOY)
        assert spec is not None
        assert spec.loader is not None
        sys.modules["toy"] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules["toy"].running  # type: ignore[no-any-return]
