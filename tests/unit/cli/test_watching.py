"""Files that change are told of, as editors, tools and people change them."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from plugkeep.cli._watching import Watch
from plugkeep.loaders.places import Place


@pytest.fixture
def watch() -> Iterator[Watch]:
    made = Watch()
    yield made
    made.close()  # no thread and no descriptor is left, as every test is held to
    end = time.monotonic() + 60
    while any("notify" in name for name in threads()):  # these end by themselves, a moment later
        assert time.monotonic() < end, threads()
        os.sched_yield()


def threads() -> list[str]:
    names = []
    for task in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):
            names.append((task / "comm").read_text().strip())
    return names


def changed(watch: Watch, path: Path) -> list[str]:
    """Return what is told up to when it is `path`."""
    told: list[str] = []
    while str(path) not in told:
        assert select.select([watch], [], [], 60)[0], told
        told += watch.take()
    return told


def write(path: Path) -> None:
    path.write_text("anew")


def put_another_in_its_place(path: Path) -> None:
    other = path.with_name("other")
    other.write_text("anew")
    other.replace(path)


def write_it_as_vim_does(path: Path) -> None:
    path.rename(path.with_name(f"{path.name}~"))
    path.write_text("anew")


@pytest.mark.parametrize(
    "save", [write, put_another_in_its_place, write_it_as_vim_does, Path.unlink]
)
@pytest.mark.parametrize("deep", [False, True])
def test_however_a_file_is_saved(
    tmp_path: Path, watch: Watch, save: Callable[[Path], object], deep: bool
) -> None:
    path = tmp_path / "deep/er/a.py" if deep else tmp_path / "a.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")
    watch.look_at([Place(str(tmp_path), is_folder=True) if deep else Place(str(path))])
    save(path)
    changed(watch, path)
    path.touch()
    changed(watch, path)
    assert watch.take() == []


def test_several_files_at_once_are_told_together(tmp_path: Path, watch: Watch) -> None:
    (tmp_path / "in").mkdir()
    paths = [tmp_path / "a.py", tmp_path / "in/b.py"]
    watch.look_at([Place(str(paths[0])), Place(str(paths[1].parent), is_folder=True)])
    for path in paths:
        write(path)
    assert select.select([watch], [], [], 60)[0]
    assert watch.take() == sorted(map(str, paths))


def test_a_folder_that_comes_and_goes_is_seen_again(tmp_path: Path, watch: Watch) -> None:
    folder = tmp_path / "shop"
    place = Place(str(folder), is_folder=True)
    watch.look_at([place])
    for _ in range(2):
        folder.mkdir()
        changed(watch, folder)
        watch.look_at([place])
        write(folder / "a.py")
        changed(watch, folder / "a.py")
        folder.rename(tmp_path / f"old-{os.urandom(4).hex()}")
        changed(watch, folder)
        watch.look_at([place])


def test_what_python_and_others_keep_is_passed_over(tmp_path: Path, watch: Watch) -> None:
    watch.look_at([Place(str(tmp_path), is_folder=True)])
    for name in ("__pycache__", ".git"):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "a.py")
    write(tmp_path / "b.py")
    assert changed(watch, tmp_path / "b.py") == [str(tmp_path / "b.py")]


def test_what_is_not_to_be_seen_any_more_is_not(tmp_path: Path, watch: Watch) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    watch.look_at([Place(str(tmp_path / "a"), is_folder=True)])
    watch.look_at([Place(str(tmp_path / "b"), is_folder=True)])
    write(tmp_path / "a/x.py")
    write(tmp_path / "b/x.py")
    assert changed(watch, tmp_path / "b/x.py") == [str(tmp_path / "b/x.py")]
