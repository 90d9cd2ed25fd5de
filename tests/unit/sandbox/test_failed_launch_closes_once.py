"""A launch that fails closes what it opened, once: the numbers are others' after that."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest

from plugkeep import LaunchError, isolate


def test_files_that_were_opened_after_a_failed_launch_stay_open(tmp_path: Path) -> None:
    (tmp_path / "plugin.py").write_text("class PluginFactory: ...\n")
    plugin = isolate(f"file:{tmp_path / 'plugin.py'}", cwd=tmp_path / "nowhere")
    with pytest.raises(LaunchError) as caught:
        plugin.start()
    mine = [os.open(os.devnull, os.O_RDONLY) for _ in range(12)]
    del caught  # whose traceback holds on to whatever there was
    gc.collect()
    for each in mine:
        os.close(each)  # OSError: somebody else has
