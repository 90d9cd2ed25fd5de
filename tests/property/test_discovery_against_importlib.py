"""Whatever is installed, changed and removed, the same is found as by `importlib.metadata`."""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st

from plugkeep.discovery import discover_entry_points, entry_points

#: Two distributions, each with some of the ways to write its name.
SPELLINGS = (("shop", "Shop"), ("my_clock", "My.Clock"))
GROUPS = ("plugkeep.plugins", "other.group", "console_scripts")
VERSIONS = ("1.0", "1!3+local.4")
PATH = ("first", "second", "first/nested")

Found = set[tuple[str, str, str]]


@dataclass(frozen=True)
class Step:
    """One distribution is put into one entry of the path, or taken away where `lines` is None.

    What builds in place may write its files again; what installs makes a new folder.
    """

    place: str
    spelling: str
    version: str
    suffix: str
    lines: tuple[str, ...] | None

    @property
    def in_place(self) -> bool:
        return self.suffix == "egg-info" and self.lines is not None


values = st.sampled_from(["m", "m.n:o", "m : o.p", "m:o [x, y]", "m:o[x]"])
entries = st.builds("{}={}".format, st.sampled_from(["a ", "b", "c-d.e "]), values)
noise = st.sampled_from(["", "# a = b", "\t"])
sections = st.sampled_from([f"[{group}]" for group in GROUPS])
steps = st.builds(
    Step,
    place=st.sampled_from(PATH),
    spelling=st.sampled_from([spelling for names in SPELLINGS for spelling in names]),
    version=st.sampled_from(VERSIONS),
    suffix=st.sampled_from(["dist-info", "egg-info"]),
    lines=st.none() | st.lists(sections | entries | noise, max_size=6).map(tuple),
)


@given(st.lists(steps, min_size=1, max_size=8))
def test_the_same_is_found_after_every_step(history: list[Step]) -> None:
    with world() as (root, path):
        for number, step in enumerate(history):
            take(step, root, number)
            for group in GROUPS:
                cached = found(group, path)
                assert cached == by_importlib(group, path)
                assert cached == found(group, path, cache=False)
            wait_for_the_next_tick(root)


@contextmanager
def world() -> Iterator[tuple[Path, list[str]]]:
    """Make an empty path and an empty cache, in which nothing is too young to be kept."""
    with TemporaryDirectory() as folder:
        root = Path(folder)
        path = [str(root / place) for place in PATH]
        for place in path:
            Path(place).mkdir(parents=True)
        environment = {"PLUGKEEP_CACHE_DIR": str(root / "cache")}
        with (
            mock.patch.dict(os.environ, environment),
            mock.patch.object(entry_points, "time_ns", return_value=1 << 62),
        ):
            yield root, path


def take(step: Step, root: Path, number: int) -> None:
    """Install, upgrade or remove: never two of a distribution in one place, nor of an entry."""
    place = root / step.place
    key = metadata.Prepared.normalize(step.spelling)
    info = place / f"{step.spelling}-{step.version}.{step.suffix}"
    for old in place.glob("*-info"):
        same = metadata.Prepared.normalize(old.name.partition("-")[0]) == key
        if same and not (step.in_place and old == info):
            shutil.rmtree(old)
    if step.lines is None:
        return
    info.mkdir(exist_ok=True)
    file = "METADATA" if step.suffix == "dist-info" else "PKG-INFO"
    (info / file).write_text(f"Name: {step.spelling}\nVersion: {step.version}\n")
    # Names are made unique: of two alike the first is taken here, and both by importlib.
    lines = (
        re.sub(r"^(\S+)\s*=", rf"\1.{number}.{index} =", line)
        for index, line in enumerate(step.lines)
    )
    (info / "entry_points.txt").write_text("\n".join(lines))
    if step.suffix == "dist-info":
        (info / "INSTALLER").write_text("pip")


def found(group: str, path: list[str], *, cache: bool = True) -> Found:
    specs = discover_entry_points(group, path=path, cache=cache)
    names = [spec.name for spec in specs]
    assert len(names) == len(set(names))
    return {(spec.name, spec.source, spec.version or "") for spec in specs}


def by_importlib(group: str, path: list[str]) -> Found:
    with mock.patch.object(sys, "path", path):
        return {
            (entry.name, source(entry), entry.dist.version)
            for entry in metadata.entry_points(group=group)
            if entry.dist
        }


def source(entry: metadata.EntryPoint) -> str:
    return f"python:{entry.module}:{entry.attr}" if entry.attr else f"python:{entry.module}"


def wait_for_the_next_tick(folder: Path) -> None:
    """Return once changes get other times than those before; only then do stamps alone tell."""
    probe = folder / "probe"
    probe.touch()
    before = probe.stat().st_ctime_ns
    until = time.monotonic() + 10
    while probe.stat().st_ctime_ns == before:
        assert time.monotonic() < until, "the file system's clock stands still"
        probe.write_bytes(b"")
