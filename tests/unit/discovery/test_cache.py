"""Nobody notices the cache but by the clock: a change is seen, what is damaged is mended."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from plugkeep.discovery import GROUP, _cache, _path_entry, discover_entry_points, entry_points

Scan = Callable[[], dict[str, str]]


def declaring(*names: str) -> str:
    return f"[{GROUP}]\n" + "".join(f"{name} = shop\n" for name in names)


@pytest.fixture
def scan(site: Path, next_tick: Callable[[], None]) -> Scan:
    """Return a function that says which plugins there are in `site`, and of which distribution."""

    def scan() -> dict[str, str]:
        found = {spec.name: spec.origin for spec in discover_entry_points(path=[site])}
        next_tick()
        return found

    return scan


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The entries of the path that were read, for they were not in the cache."""
    read: list[str] = []
    read_listing = entry_points.read_listing

    def noting(path: str, group: str, now: int) -> Any:
        read.append(path)
        return read_listing(path, group, now)

    monkeypatch.setattr(entry_points, "read_listing", noting)
    return read


def records(cache_dir: Path) -> list[Path]:
    return sorted(path for path in cache_dir.rglob("*") if path.is_file())


# --- what is served ---------------------------------------------------------------------------


@pytest.mark.usefixtures("all_settled")
def test_what_has_not_changed_is_read_once(
    site: Path, distribution: Any, scan: Scan, reads: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    distribution("shop-1.dist-info", declaring("a", "two words"))
    distribution("bare-1.dist-info")
    first, said = scan(), list(caplog.messages)
    caplog.clear()
    assert scan() == first == {"a": "shop 1"}
    assert caplog.messages == said != []
    assert reads == [str(site)]


@pytest.mark.usefixtures("all_settled")
def test_groups_do_not_get_into_one_anothers_way(
    site: Path, distribution: Any, reads: list[str]
) -> None:
    distribution("shop-1.dist-info", "[one.group]\na = m\n[one.group.more]\nb = n\n")
    for _ in range(2):
        names = {
            group: [spec.name for spec in discover_entry_points(group, path=[site])]
            for group in ("one.group.more", "one.group", "one")
        }
        assert names == {"one.group.more": ["b"], "one.group": ["a"], "one": []}
    assert reads == [str(site)] * 3


@pytest.mark.usefixtures("all_settled")
def test_processes_with_different_paths_share_what_they_have_in_common(
    tmp_path: Path, site: Path, distribution: Any, reads: list[str]
) -> None:
    distribution("shop-1.dist-info", declaring("a"))
    other = tmp_path / "other"
    distribution("else-1.dist-info", declaring("b"), into=other)
    discover_entry_points(path=[site])
    discover_entry_points(path=[other, site])
    discover_entry_points(path=[other])
    assert reads == [str(site), str(other)]


@pytest.mark.usefixtures("all_settled")
def test_large_folders_without_distributions_are_not_listed_again(
    site: Path, scan: Scan, reads: list[str]
) -> None:
    for number in range(200):
        (site / f"module_{number}.py").touch()
    assert scan() == scan() == {}
    assert reads == [str(site)]


# --- what is seen -----------------------------------------------------------------------------


@pytest.mark.usefixtures("all_settled")
class TestSeen:
    """Stamps alone show each of these; nothing is taken for too young to be cached."""

    def test_a_new_distribution(self, distribution: Any, scan: Scan) -> None:
        distribution("shop-1.dist-info", declaring("a"))
        assert scan() == {"a": "shop 1"}
        distribution("more-1.dist-info", declaring("b"))
        assert scan() == {"b": "more 1", "a": "shop 1"}

    def test_the_first_distribution(self, distribution: Any, scan: Scan) -> None:
        assert scan() == {}
        distribution("shop-1.dist-info", declaring("a"))
        assert scan() == {"a": "shop 1"}

    def test_an_upgrade_by_renaming(self, site: Path, distribution: Any, scan: Scan) -> None:
        info = distribution("shop-1.dist-info", declaring("a"))
        scan()
        info.rename(site / "shop-2.dist-info")
        assert scan() == {"a": "shop 2"}

    def test_a_distribution_removed(self, site: Path, distribution: Any, scan: Scan) -> None:
        info = distribution("shop-1.dist-info", declaring("a"))
        scan()
        info.rename(site / "~hop-1.dist-info")
        assert scan() == {}

    def test_the_whole_folder_removed(self, site: Path, distribution: Any, scan: Scan) -> None:
        distribution("shop-1.dist-info", declaring("a"))
        scan()
        site.rename(site.with_name("moved"))
        assert scan() == {}

    def test_another_folder_in_its_place(
        self, tmp_path: Path, site: Path, distribution: Any, scan: Scan
    ) -> None:
        """Releases switched by a link, with times that a reproducible build has set."""
        for release in ("one", "two"):
            into = tmp_path / release
            distribution("shop-1.dist-info", declaring(release), into=into)
            os.utime(into, (1, 1))
        site.rmdir()
        site.symlink_to(tmp_path / "one")
        assert scan() == {"one": "shop 1"}
        site.unlink()
        site.symlink_to(tmp_path / "two")
        assert scan() == {"two": "shop 1"}

    def test_entry_points_edited_in_place(self, distribution: Any, scan: Scan) -> None:
        info = distribution("shop-1.dist-info", declaring("a"))
        scan()
        (info / "entry_points.txt").write_text(declaring("a", "b"))
        assert list(scan()) == ["a", "b"]

    def test_an_edit_that_keeps_size_and_time(self, distribution: Any, scan: Scan) -> None:
        file = distribution("shop-1.dist-info", declaring("a")) / "entry_points.txt"
        scan()
        before = file.stat()
        file.write_text(declaring("b"))
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert list(scan()) == ["b"]

    def test_a_copy_that_restores_the_times(
        self, site: Path, distribution: Any, scan: Scan
    ) -> None:
        distribution("shop-1.dist-info", declaring("a"))
        scan()
        before = site.stat()
        distribution("more-1.dist-info", declaring("b"))
        os.utime(site, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert list(scan()) == ["b", "a"]

    def test_entry_points_that_an_unfinished_installation_adds(
        self, site: Path, scan: Scan
    ) -> None:
        info = site / "shop-1.dist-info"
        info.mkdir()
        (info / "METADATA").touch()
        assert scan() == {}
        (info / "entry_points.txt").write_text(declaring("a"))
        (info / "INSTALLER").write_text("pip\n")
        assert scan() == {"a": "shop 1"}

    def test_entry_points_removed_from_a_distribution(self, distribution: Any, scan: Scan) -> None:
        info = distribution("shop-1.dist-info", declaring("a"))
        scan()
        (info / "entry_points.txt").unlink()
        assert scan() == {}

    def test_a_source_tree_that_is_built_again(self, distribution: Any, scan: Scan) -> None:
        info = distribution("shop.egg-info", None)
        (info / "PKG-INFO").write_text("Version: 1\n")
        assert scan() == {}
        (info / "entry_points.txt").write_text(declaring("a"))
        assert scan() == {"a": "shop 1"}
        (info / "PKG-INFO").write_text("Version: 2\n")
        assert scan() == {"a": "shop 2"}

    def test_a_group_that_a_source_tree_gains(self, distribution: Any, scan: Scan) -> None:
        info = distribution("shop-1.egg-info", "[console_scripts]\nshop = shop:main\n")
        assert scan() == {}
        (info / "entry_points.txt").write_text(declaring("a"))
        assert scan() == {"a": "shop 1"}

    def test_a_link_whose_target_comes_later(self, tmp_path: Path, site: Path, scan: Scan) -> None:
        target = tmp_path / "store" / "shop"
        (site / "shop-1.dist-info").symlink_to(target)
        assert scan() == {}
        target.mkdir(parents=True)
        (target / "entry_points.txt").write_text(declaring("a"))
        assert scan() == {"a": "shop 1"}


def test_a_change_within_the_same_tick_of_the_clock(
    site: Path, distribution: Any, scan: Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a file system whose stamps tell no two changes of this test from one another."""
    monkeypatch.setattr(_path_entry, "stamp", lambda status: "the same")
    file = distribution("shop-1.dist-info", declaring("a")) / "entry_points.txt"
    for name in "abc":
        file.write_text(declaring(name))
        now = file.stat().st_ctime_ns  # no scan can be any sooner
        monkeypatch.setattr(entry_points, "time_ns", lambda now=now: now)
        assert list(scan()) == [name]
    monkeypatch.setattr(entry_points, "time_ns", lambda: 1 << 62)
    scan()
    file.write_text(declaring("d"))
    assert list(scan()) == ["c"], "the stamps did tell: this test proves nothing"


@pytest.mark.parametrize(
    ("last_change", "tick"), [(10**18 + 1, 10**8), (10**18, 3 * 10**9)], ids=["fine", "coarse"]
)
@pytest.mark.parametrize("young", ["site", "info", "file"])
def test_what_changed_less_than_a_tick_ago_is_not_cached(
    young: str,
    last_change: int,
    tick: int,
    site: Path,
    distribution: Any,
    cache_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A time of whole seconds may come from a clock that knows no others."""
    info = distribution("shop-1.dist-info", declaring("a"))
    changed = {"site": site, "info": info, "file": info / "entry_points.txt"}[young]
    stat = os.stat

    def stat_with_one_young(path: Any, **options: Any) -> Any:
        status = stat(path, **options)
        fields = status.__reduce__()[1][1]
        ctime = last_change if Path(path) == changed else 1
        return os.stat_result(status[:], {**fields, "st_ctime_ns": ctime})

    monkeypatch.setattr("os.stat", stat_with_one_young)
    monkeypatch.setattr(entry_points, "time_ns", lambda: last_change + tick)
    assert discover_entry_points(path=[site])
    assert records(cache_dir) == []
    monkeypatch.setattr(entry_points, "time_ns", lambda: last_change + tick + 1)
    assert discover_entry_points(path=[site])
    assert len(records(cache_dir)) == 1


# --- what is not trusted ----------------------------------------------------------------------


@pytest.fixture
def record(all_settled: None, distribution: Any, scan: Scan, cache_dir: Path) -> Path:
    """A record that says otherwise than the folder: whoever trusts it finds no plugin "a"."""
    distribution("shop-1.dist-info", declaring("a"))
    scan()
    (path,) = records(cache_dir)
    _, _, body = path.read_bytes().partition(b"\n")
    _seal(path, body.replace(b"\x1ea\x1e", b"\x1eforged\x1e"))
    assert scan() == {"forged": "shop 1"}
    return path


def _seal(record: Path, body: bytes) -> None:
    record.write_bytes(_cache._head(body) + b"\n" + body)


@pytest.mark.usefixtures("all_settled")
class TestNotTrusted:
    def check(self, record: Path, scan: Scan, reads: list[str]) -> None:
        assert scan() == {"a": "shop 1"}
        assert scan() == {"a": "shop 1"}
        assert len(reads) == 1, "it was not rebuilt"
        assert record.stat().st_uid == os.geteuid()

    @pytest.mark.parametrize(
        "content",
        [b"", b"\n", b"\0" * 4096, b"plugkeep entry points 1 00000000\n", b"{}\n", b"\xff\xfe\n"],
    )
    def test_what_is_no_record(
        self, content: bytes, record: Path, scan: Scan, reads: list[str]
    ) -> None:
        record.write_bytes(content)
        self.check(record, scan, reads)

    @pytest.mark.parametrize(
        "body", [b"", b"/x", b"\n\n", b"/x\na\n\x1e\n", b"\n\n\na\n\n", b"\xff"]
    )
    def test_a_record_of_another_format(
        self, body: bytes, record: Path, scan: Scan, reads: list[str]
    ) -> None:
        _seal(record, body)
        self.check(record, scan, reads)

    def test_a_record_of_another_version(self, record: Path, scan: Scan, reads: list[str]) -> None:
        record.write_bytes(record.read_bytes().replace(b"points 1 ", b"points 2 ", 1))
        self.check(record, scan, reads)

    def test_one_that_is_cut_short(self, record: Path, scan: Scan, reads: list[str]) -> None:
        record.write_bytes(record.read_bytes()[:-1])
        self.check(record, scan, reads)

    def test_a_record_of_another_path(
        self, site: Path, record: Path, scan: Scan, reads: list[str]
    ) -> None:
        path = os.fsencode(site)
        _, _, body = record.read_bytes().partition(b"\n")
        _seal(record, body.replace(path, path.replace(b"site-packages", b"side-packages"), 1))
        self.check(record, scan, reads)

    @pytest.mark.skipif(os.geteuid() != 0, reason="giving a file away takes root")
    def test_a_record_of_another_user(self, record: Path, scan: Scan, reads: list[str]) -> None:
        os.chown(record, 65534, 65534)
        self.check(record, scan, reads)

    @pytest.mark.parametrize("mode", [0o660, 0o602])
    def test_a_record_that_others_can_write(
        self, mode: int, record: Path, scan: Scan, reads: list[str]
    ) -> None:
        record.chmod(mode)
        self.check(record, scan, reads)

    def test_a_link_to_a_record(
        self, tmp_path: Path, record: Path, scan: Scan, reads: list[str]
    ) -> None:
        record.symlink_to(record.rename(tmp_path / "elsewhere"))
        self.check(record, scan, reads)
        assert not record.is_symlink()

    def test_one_that_is_larger_than_memory(
        self, record: Path, scan: Scan, reads: list[str]
    ) -> None:
        os.truncate(record, 50 * 2**30)
        self.check(record, scan, reads)
        assert record.stat().st_size < 4096

    def test_a_pipe_in_its_place(self, record: Path, scan: Scan, reads: list[str]) -> None:
        record.unlink()
        os.mkfifo(record)
        self.check(record, scan, reads)
        assert record.is_file()


# --- where it is kept -------------------------------------------------------------------------


@pytest.mark.usefixtures("all_settled")
class TestFolder:
    @pytest.fixture(autouse=True)
    def one_distribution(self, distribution: Any) -> None:
        distribution("shop-1.dist-info", declaring("a"))

    def test_is_this_users_alone(self, scan: Scan, cache_dir: Path) -> None:
        scan()
        modes = {path.stat().st_mode & 0o777 for path in records(cache_dir)}
        assert modes == {0o600}
        assert (cache_dir / "entry-points").stat().st_mode & 0o777 == 0o700

    @pytest.mark.parametrize("mode", [0o777, 0o770])
    def test_is_not_used_where_others_can_write(
        self, mode: int, scan: Scan, cache_dir: Path
    ) -> None:
        folder = cache_dir / "entry-points"
        folder.mkdir(parents=True)
        folder.chmod(mode)
        assert scan() == {"a": "shop 1"}
        assert records(cache_dir) == []

    @pytest.mark.skipif(os.geteuid() != 0, reason="giving a folder away takes root")
    def test_is_not_made_among_another_users_files(
        self, tmp_path: Path, scan: Scan, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As sudo has it: our user is root, HOME is still the caller's."""
        home = tmp_path / "home"
        home.mkdir()
        os.chown(home, 65534, 65534)
        monkeypatch.delenv("PLUGKEEP_CACHE_DIR")
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.setenv("HOME", str(home))
        assert scan() == {"a": "shop 1"}
        assert list(home.iterdir()) == []

    @pytest.mark.parametrize(
        ("variables", "folder"),
        [
            ({"PLUGKEEP_CACHE_DIR": "{}/own", "XDG_CACHE_HOME": "{}/xdg"}, "own/entry-points"),
            ({"XDG_CACHE_HOME": "{}/xdg", "HOME": "{}"}, "xdg/plugkeep/entry-points"),
            ({"XDG_CACHE_HOME": "relative", "HOME": "{}"}, ".cache/plugkeep/entry-points"),
            ({"XDG_CACHE_HOME": "", "HOME": "{}"}, ".cache/plugkeep/entry-points"),
            ({"HOME": "{}"}, ".cache/plugkeep/entry-points"),
        ],
    )
    def test_is_where_the_environment_says(
        self,
        variables: dict[str, str],
        folder: str,
        tmp_path: Path,
        scan: Scan,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        for variable in ("PLUGKEEP_CACHE_DIR", "XDG_CACHE_HOME", "HOME"):
            monkeypatch.delenv(variable, raising=False)
        for variable, value in variables.items():
            monkeypatch.setenv(variable, value.format(tmp_path))
        scan()
        assert len(list((tmp_path / folder).iterdir())) == 1

    @pytest.mark.parametrize("value", ["", "~nobody-at-all/x"])
    def test_without_one_all_goes_on(
        self, value: str, tmp_path: Path, scan: Scan, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        before = sorted(tmp_path.rglob("*"))
        if value:
            monkeypatch.delenv("PLUGKEEP_CACHE_DIR")
            monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
            monkeypatch.setattr("os.path.expanduser", lambda path: value)
        else:
            monkeypatch.setenv("PLUGKEEP_CACHE_DIR", "")
        assert scan() == scan() == {"a": "shop 1"}
        assert sorted(tmp_path.rglob("*")) == before

    def test_nothing_is_kept_on_request(self, site: Path, cache_dir: Path) -> None:
        assert discover_entry_points(path=[site], cache=False)
        assert not cache_dir.exists()

    @pytest.mark.parametrize("in_the_way", ["file", "folder", "full"])
    def test_that_cannot_be_written_is_done_without(
        self, in_the_way: str, scan: Scan, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if in_the_way == "file":
            cache_dir.write_text("not a folder")
        elif in_the_way == "folder":
            scan()
            (record,) = records(cache_dir)
            record.unlink()
            record.mkdir()
        else:
            monkeypatch.setattr("os.replace", _no_space)
        assert scan() == scan() == {"a": "shop 1"}
        left = [path for path in records(cache_dir) if path != cache_dir]
        assert left == [], "an unfinished file was left"

    @pytest.mark.skipif(os.geteuid() != 0, reason="becoming an ordinary user takes root")
    @pytest.mark.parametrize("mode", [0o755, 0o700])
    def test_that_may_not_be_written_is_done_without(
        self, mode: int, everybodys: Path, distribution: Any
    ) -> None:
        """Run as an ordinary user on a folder that root made."""
        program = """if True:
            import os, sys
            from plugkeep.discovery import discover_entry_points, entry_points
            entry_points.time_ns = lambda: 1 << 62
            os.setgroups([]), os.setgid(65534), os.setuid(65534)
            print([spec.name for spec in discover_entry_points(path=sys.argv[1:])])
        """
        place, cache = everybodys / "site", everybodys / "cache"
        distribution("shop-1.dist-info", declaring("a"), into=place)
        cache.mkdir()
        cache.chmod(mode)
        result = subprocess.run(
            [sys.executable, "-c", program, place],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={**os.environ, "PLUGKEEP_CACHE_DIR": str(cache)},
        )
        assert (result.stdout, result.stderr) == ("['a']\n", "")
        assert records(cache) == []

    def test_does_not_grow_for_ever(
        self, tmp_path: Path, distribution: Any, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(_cache, "_MOST_FILES", 10)
        for number in range(40):
            place = tmp_path / str(number)
            distribution("shop-1.dist-info", declaring("a"), into=place)
            assert discover_entry_points(path=[place])
            assert len(records(cache_dir)) <= 10
        assert len(records(cache_dir)) >= 5

    def test_names_with_line_ends_and_stray_bytes(
        self, tmp_path: Path, distribution: Any, reads: list[str]
    ) -> None:
        names = ["line\nend", "field\x1e", "tab\t", os.fsdecode(b"caf\xe9"), "日本", "x" * 200]
        for name in names:
            place = tmp_path / name
            distribution("shop-1.dist-info", declaring("a"), into=place)
            distribution(f"{name[:9]}-1.dist-info", declaring("b"), into=place)
            for _ in range(2):
                found = discover_entry_points(path=[place])
                assert sorted(spec.name for spec in found) == ["a", "b"]
        assert len(reads) == len(names) + 2  # what cannot be written down is read again


def _no_space(*_: Any) -> None:
    raise OSError(28, "No space left on device")
