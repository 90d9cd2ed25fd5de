"""However a record in the cache is damaged, the answer is that of the folder itself."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from plugkeep.discovery import _cache, discover_entry_points, entry_points

GROUP = "plugkeep.plugins"


class Site:
    """A folder with distributions, and its record in the cache."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "site-packages"
        for number in range(3):
            info = self.folder / f"shop{number}-1.{number}.dist-info"
            info.mkdir(parents=True)
            (info / "entry_points.txt").write_text(f"[{GROUP}]\nplugin{number} = shop:Plugin\n")
        self.true = self.found()
        (self.record,) = (root / "cache" / "entry-points").iterdir()
        self.whole = self.record.read_bytes()

    def found(self) -> list[tuple[str, str, str]]:
        specs = discover_entry_points(GROUP, path=[self.folder])
        return [(spec.name, spec.source, spec.origin) for spec in specs]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    root = tmp_path_factory.mktemp("damaged")
    with (
        mock.patch.dict(os.environ, {"PLUGKEEP_CACHE_DIR": str(root / "cache")}),
        mock.patch.object(entry_points, "time_ns", return_value=1 << 62),
    ):
        yield Site(root)


def check(site: Site, content: bytes) -> None:
    site.record.write_bytes(content)
    assert site.found() == site.true
    assert site.record.read_bytes() == site.whole, "it was not mended"


@given(content=st.binary(max_size=300))
def test_any_bytes(site: Site, content: bytes) -> None:
    check(site, content)


@given(place=st.floats(0, 1), flip=st.integers(1, 255))
def test_one_byte_changed(site: Site, place: float, flip: int) -> None:
    content = bytearray(site.whole)
    content[int(place * (len(content) - 1))] ^= flip
    check(site, bytes(content))


@given(start=st.floats(0, 1), length=st.integers(0, 400), put=st.binary(max_size=40))
def test_a_part_lost_or_put_in(site: Site, start: float, length: int, put: bytes) -> None:
    at = int(start * len(site.whole))
    check(site, site.whole[:at] + put + site.whole[at + length :])


@given(st.binary(max_size=60) | st.text("/a1\n\x1e", max_size=60).map(str.encode))
@example(b"\n\n\n\n\n")
def test_anything_with_the_right_checksum(site: Site, body: bytes) -> None:
    site.record.write_bytes(_cache._head(body) + b"\n" + body)
    assert site.found() == site.true
