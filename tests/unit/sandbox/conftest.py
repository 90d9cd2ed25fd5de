"""Plugins in Python, run in children."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent, indent
from typing import Any

import pytest

from plugkeep.channel import workers
from plugkeep.loaders.isolation import isolate
from plugkeep.sandbox import Sandbox

Isolated = Callable[..., Sandbox]

_PLUGIN = """\
from __future__ import annotations
import asyncio, os, sys, threading, time
from typing import Any
from plugkeep import current_call, expose

class PluginFactory:
    name = "shop"
    host: Any
    def start(self): ...
    def stop(self): ...
"""


@pytest.fixture
def isolated(tmp_path: Path) -> Isolated:
    """Return a function that makes a sandbox of a plugin with these methods."""

    def make(methods: str = "", **options: Any) -> Sandbox:
        path = tmp_path / "shop.py"
        path.write_text(_PLUGIN + indent(dedent(methods), "    "))
        return isolate(f"file:{path}", **options)

    return make


@pytest.fixture(autouse=True)
def _impatient_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have idle threads end at once, so that no test has to wait for that."""
    monkeypatch.setattr(workers._shared, "_idle_for", 0.02)
