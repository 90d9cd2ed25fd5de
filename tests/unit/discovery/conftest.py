"""Folders of distributions as installers leave them, and a cache for this test alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from plugkeep.discovery import entry_points

MakeDistribution = Callable[..., Path]


@pytest.fixture(autouse=True)
def cache_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the records go in this test; made by whoever writes the first."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("PLUGKEEP_CACHE_DIR", str(folder))
    return folder


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "site-packages"
    folder.mkdir()
    return folder


@pytest.fixture
def everybodys() -> Iterator[Path]:
    """A folder that other users can reach, as those of tests cannot be."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def all_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take everything for long unchanged, so that it is cached though it was made just now."""
    monkeypatch.setattr(entry_points, "time_ns", lambda: 1 << 62)


@pytest.fixture
def next_tick(tmp_path: Path) -> Callable[[], None]:
    """Return a function that waits until changes get other times than those so far."""

    def wait() -> None:
        probe = tmp_path / "probe"
        probe.touch()
        before = probe.stat().st_ctime_ns
        until = time.monotonic() + 10
        while probe.stat().st_ctime_ns == before:
            assert time.monotonic() < until, "the file system's clock stands still"
            probe.write_bytes(b"")
        probe.unlink()

    return wait


@pytest.fixture
def distribution(site: Path) -> MakeDistribution:
    """Return a function that installs a distribution: its folder's name, its entry points."""

    def make(folder: str, entry_points: str | None = None, *, into: Path = site) -> Path:
        info = into / folder
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 99\n")
        if entry_points is not None:
            (info / "entry_points.txt").write_text(entry_points)
        if folder.endswith(".dist-info"):
            (info / "INSTALLER").write_text("pip\n")
            (info / "RECORD").touch()
        return info

    return make
