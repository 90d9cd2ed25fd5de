"""Processes that scan, write the cache, install and die at the same time."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

PREAMBLE = """if True:
    import json, os, sys
    from plugkeep.discovery import discover_entry_points, entry_points
    entry_points.time_ns = lambda: 1 << 62  # trust stamps from the first moment
    def scan(*path):
        return {spec.name: spec.version for spec in discover_entry_points(path=path)}
"""

#: Told to, it scans on end and empties the cache; told again, it stops; once more, it scans.
HAMMER = (
    PREAMBLE
    + """
    import select
    from contextlib import suppress
    folder = os.environ["PLUGKEEP_CACHE_DIR"] + "/entry-points"
    results, rounds = [], 0
    print("ready", flush=True)
    os.read(0, 1)
    while rounds < 100 or not select.select([0], [], [], 0)[0]:
        rounds += 1
        for _ in range(3):
            found = scan(*sys.argv[1:])
            if found not in results:
                results.append(found)
        with suppress(OSError):
            for name in os.listdir(folder):
                os.unlink(f"{folder}/{name}")
    print(json.dumps(results), flush=True)
    os.read(0, 1)
    os.read(0, 1)
    print(json.dumps(scan(*sys.argv[1:])))
"""
)

#: Scans once for each line that it reads.
SCANNER = (
    PREAMBLE
    + """
    for _ in sys.stdin:
        print(json.dumps(scan(*sys.argv[1:])), flush=True)
"""
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PLUGKEEP_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "entry-points"


@contextmanager
def process(program: str, *path: Path) -> Iterator[Any]:
    with subprocess.Popen(
        [sys.executable, "-c", program, *path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        try:
            yield child
        finally:
            child.kill()


def tell(child: Any) -> None:
    child.stdin.write("\n")
    child.stdin.flush()


def answer(child: Any) -> Any:
    return json.loads(child.stdout.readline())


def install(site: Path, name: str, version: str = "1") -> Path:
    info = site / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "entry_points.txt").write_text(f"[plugkeep.plugins]\n{name} = m\n")
    (info / "INSTALLER").write_text("pip\n")
    return info


def test_all_that_write_at_once_keep_what_they_found(tmp_path: Path, cache: Path) -> None:
    shared, *own = (tmp_path / name for name in ("shared", "one", "two", "three"))
    for site in (shared, *own):
        install(site, site.name)
    with ExitStack() as stack:
        children = [stack.enter_context(process(HAMMER, site, shared)) for site in own]
        for child in children:
            assert child.stdout.readline() == "ready\n"
        for child in children:
            tell(child)
            tell(child)
        expected = [{site.name: "1", "shared": "1"} for site in own]
        assert [answer(child) for child in children] == [[each] for each in expected]
        for child in children:
            tell(child)
        assert [answer(child) for child in children] == expected
    paths = [record.read_text().splitlines()[1] for record in cache.iterdir()]
    assert sorted(paths) == sorted(map(str, (shared, *own)))


def test_an_installation_is_seen_while_others_write(tmp_path: Path) -> None:
    site = tmp_path / "site-packages"
    info = install(site, "shop", "0")
    with process(HAMMER, site) as one, process(HAMMER, site) as two, process(SCANNER, site) as we:
        for child in (one, two):
            assert child.stdout.readline() == "ready\n"
            tell(child)
        for version in map(str, range(1, 101)):
            wait_for_the_next_tick(tmp_path)
            info = info.rename(site / f"shop-{version}.dist-info")
            for _ in range(2):
                tell(we)
                assert answer(we) == {"shop": version}
        for child in (one, two):
            tell(child)
            assert answer(child), "it never scanned"


def test_one_that_dies_while_writing_harms_nobody(tmp_path: Path, cache: Path) -> None:
    site = tmp_path / "site-packages"
    install(site, "shop")
    dying = SCANNER.replace(
        "for _ in", "os.replace = lambda *_: os.kill(os.getpid(), 9)\n    for _ in"
    )
    with process(dying, site) as child:
        tell(child)
        assert child.wait(60) == -signal.SIGKILL
    (unfinished,) = cache.iterdir()
    for _ in range(2):
        with process(SCANNER, site) as child:
            tell(child)
            assert answer(child) == {"shop": "1"}
    assert len({*cache.iterdir()} - {unfinished}) == 1


def wait_for_the_next_tick(folder: Path) -> None:
    """Return once changes get other times than those before; only then do stamps alone tell."""
    probe = folder / "probe"
    probe.touch()
    before = probe.stat().st_ctime_ns
    until = time.monotonic() + 10
    while probe.stat().st_ctime_ns == before:
        assert time.monotonic() < until, "the file system's clock stands still"
        probe.write_bytes(b"")
