"""Files that pass for libraries and are none, and the reader that finds them out."""

from __future__ import annotations

import ctypes.util
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugkeep.errors import NotALibraryError
from plugkeep.loaders import load_so
from plugkeep.loaders._elf import Symbol, exported

HEADER = 64  # bytes of an ELF file's own header


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "file too short"),
        (b"hello", "file too short"),
        (b"#!/bin/sh\n" * 100, "invalid ELF header"),
        (b"\x7fELF", "file too short"),
        (b"\x7fELF\x02\x01" + bytes(58), "it is built for machine 0"),
        (b"\x7fELF" + bytes(1000), "ELF"),
    ],
)
def test_files_that_the_system_s_loader_refuses(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "libclock.so"
    path.write_bytes(content)
    with pytest.raises(NotALibraryError, match=words) as caught:
        load_so(path)
    assert str(caught.value).count(str(path)) == 1, "the path is said once"


def test_a_library_that_needs_one_that_is_missing(
    build: Callable[..., Path], tmp_path: Path
) -> None:
    needed = build("int needed(void) { return 1; }", name="libneeded.so")
    library = build(
        "int needed(void); const void *PluginFactory(void) { return needed() ? 0 : 0; }",
        f"-L{needed.parent}",
        "-lneeded",
    )
    with pytest.raises(NotALibraryError, match=r"libneeded\.so: cannot open shared object file"):
        load_so(library)


@pytest.mark.parametrize(
    ("flags", "words"),
    [(("-c",), "it is an object file that is not linked yet"), (("-no-pie",), "it is a program")],
)
def test_other_products_of_a_compiler(
    run: Callable[..., str],
    tool: Callable[[str], str],
    tmp_path: Path,
    flags: tuple[str, ...],
    words: str,
) -> None:
    source, library = tmp_path / "source.c", tmp_path / "libclock.so"
    source.write_text("int PluginFactory(void) { return 0; } int main(void) { return 0; }")
    run(tool("cc"), *flags, "-o", library, source)
    with pytest.raises(NotALibraryError, match=f"{words}, not a shared library"):
        load_so(library)


@pytest.mark.parametrize(
    ("machine", "name"), [(183, "AArch64"), (243, "RISC-V"), (4711, "machine 4711")]
)
def test_a_library_for_another_processor_is_called_that(
    counting: Path, tmp_path: Path, machine: int, name: str
) -> None:
    other = tmp_path / "libclock.so"
    content = bytearray(counting.read_bytes())
    content[18:20] = machine.to_bytes(2, sys.byteorder)
    other.write_bytes(content)
    with pytest.raises(NotALibraryError, match=f"it is built for {name}, and this is "):
        load_so(other)


LOAD_EACH = """
import sys
from plugkeep.errors import NotALibraryError
from plugkeep.loaders import load_so
for path in sys.stdin.read().split():
    try:
        load_so(path)
        print("loaded")
    except NotALibraryError as error:
        print("refused", error)
"""


def test_a_library_that_is_cut_off_anywhere_is_refused(counting: Path, tmp_path: Path) -> None:
    content = counting.read_bytes()
    paths = []
    for size in (*range(0, len(content), 509), len(content) - 1, len(content)):
        path = tmp_path / f"{size}.so"
        path.write_bytes(content[:size])
        paths.append(str(path))
    done = subprocess.run(  # in a process of its own, for the system's loader would end it
        [sys.executable, "-c", LOAD_EACH],
        input=" ".join(paths),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    said = done.stdout.splitlines()
    assert [line.split()[0] for line in said] == ["refused"] * (len(paths) - 1) + ["loaded"]
    cut_off = [path for path, line in zip(paths, said, strict=True) if "it is cut off" in line]
    assert len(cut_off) == len([path for path in paths[:-1] if int(Path(path).stem) >= HEADER])


def test_a_library_stripped_of_its_sections_loads_unless_it_is_cut_off(
    counting: Path, tmp_path: Path
) -> None:
    content = bytearray(counting.read_bytes())
    content[40:48] = bytes(8)  # where the table of sections is
    content[60:62] = bytes(2)  # how many there are
    path = tmp_path / "libclock.so"
    path.write_bytes(content)
    assert exported(path, "libclock.so") is None
    assert load_so(path)().name == "counting"
    path = tmp_path / "libcut.so"
    path.write_bytes(content[:5000])
    with pytest.raises(NotALibraryError, match="it is cut off: it should have at least"):
        exported(path, "libcut.so")


@given(
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=9),
    in_header=st.booleans(),
)
def test_a_damaged_library_is_read_or_refused_and_nothing_else(
    counting: Path,
    tmp_path_factory: pytest.TempPathFactory,
    changes: list[tuple[float, int]],
    in_header: bool,
) -> None:
    content = bytearray(counting.read_bytes())
    for where, value in changes:
        content[int(where * (HEADER if in_header else len(content)))] = value
    path = tmp_path_factory.getbasetemp() / "damaged.so"
    path.write_bytes(content)
    with suppress(NotALibraryError):
        symbols = exported(path, "damaged.so")
        assert symbols is None or all(type(symbol) is Symbol for symbol in symbols.values())


@pytest.mark.parametrize("name", ["c", "m", "stdc++"])
def test_the_symbols_are_those_that_nm_lists(
    run: Callable[..., str], tool: Callable[[str], str], name: str
) -> None:
    file_name = ctypes.util.find_library(name)
    if file_name is None:
        pytest.skip(f"there is no library {name}")
    path = _path_of(file_name)
    expected = {}
    for line in run(tool("nm"), "-D", "--defined-only", path).splitlines():
        *_, letter, symbol = line.split()
        if (letter != "A" and letter.isupper()) or letter in "iuvw":
            expected[symbol.partition("@")[0]] = letter in "TWwi"
    symbols = exported(path, name)
    assert symbols is not None
    found = {symbol: about.is_code for symbol, about in symbols.items()}
    assert found.keys() >= expected.keys()
    assert {s for s, code in expected.items() if found[s] != code} == set()


def _path_of(file_name: str) -> Path:
    """Return where the system's loader found a library, which is in our memory map then."""
    ctypes.CDLL(file_name)
    maps = Path("/proc/self/maps").read_text()
    stem = file_name.partition(".so")[0]
    line = next(line for line in maps.splitlines() if f"/{stem}.so" in line)
    return Path(line.split()[-1])
