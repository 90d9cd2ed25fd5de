"""``plugkeep.h`` itself: it compiles everywhere, is shipped, and says what Python reads."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path

import pytest

import plugkeep
from plugkeep.loaders import _abi, get_include, load_so

STRICT = ("-Wall", "-Wextra", "-Werror", "-pedantic")

EXAMPLE = """
#include <plugkeep.h>
static int start(const plugkeep_plugin *self) { (void)self; return PLUGKEEP_OK; }
static int stop(const plugkeep_plugin *self) { (void)self; return PLUGKEEP_OK; }
static const plugkeep_plugin hello = {
    PLUGKEEP_HEAD, NAME "hello", START start, STOP stop, REST
};
const plugkeep_plugin *PluginFactory(void) { return &hello; }
"""
C = ("-DNAME=.name =", "-DSTART=.start =", "-DSTOP=.stop =", "-DREST=")
CPP = ("-DNAME=", "-DSTART=", "-DSTOP=", "-DREST=nullptr, nullptr, nullptr, nullptr")


def test_the_header_is_where_get_include_says() -> None:
    assert plugkeep.get_include() == get_include()
    text = (Path(get_include()) / "plugkeep.h").read_text()
    assert "PluginFactory" in text
    assert text.isascii(), "compilers read it in whatever encoding"


@pytest.mark.parametrize(
    ("program", "flags"),
    [("cc", ("-x", "c", f"-std={std}", *C)) for std in ("c99", "c11", "c17")]
    + [("c++", ("-x", "c++", f"-std={std}", *CPP)) for std in ("c++11", "c++17", "c++20")],
)
def test_a_plugin_compiles_without_a_warning(
    run: Callable[..., str],
    tool: Callable[[str], str],
    tmp_path: Path,
    program: str,
    flags: tuple[str, ...],
) -> None:
    source = tmp_path / "hello.txt"
    source.write_text(EXAMPLE)
    library = tmp_path / "libhello.so"
    include = f"-I{get_include()}"
    run(tool(program), *flags, *STRICT, include, "-shared", "-fPIC", "-o", library, source)
    plugin = load_so(library)()
    assert plugin.name == "hello"
    plugin.start()
    plugin.stop()


def test_a_plugin_in_cpp_with_hidden_symbols_still_exports_its_factory(
    run: Callable[..., str], tool: Callable[[str], str], tmp_path: Path
) -> None:
    source = tmp_path / "hello.cpp"
    source.write_text(EXAMPLE)
    library = tmp_path / "libhello.so"
    hidden = (f"-I{get_include()}", "-fvisibility=hidden", "-shared", "-fPIC")
    run(tool("c++"), *CPP, *hidden, "-o", library, source)
    assert load_so(library)().name == "hello"


def test_python_reads_what_the_compiler_lays_out(
    run: Callable[..., str], tool: Callable[[str], str], tmp_path: Path
) -> None:
    structs = {"plugkeep_plugin": _abi.Functions, "plugkeep_response": _abi.Response}
    expected = {"PLUGKEEP_MAGIC": _abi.MAGIC, "PLUGKEEP_ABI_VERSION": _abi.ABI_VERSION}
    expected |= {"PLUGKEEP_OK": _abi.OK, "PLUGKEEP_NO_SUCH_METHOD": _abi.NO_SUCH_METHOD}
    for name, struct in structs.items():
        expected[f"sizeof({name})"] = ctypes.sizeof(struct)
        for field, *_ in struct._fields_:
            member = getattr(struct, field)
            expected[f"offsetof({name}, {field})"] = member.offset
            expected[f"sizeof((({name} *)0)->{field})"] = member.size
    lines = "".join(f'printf("%lld\\n", (long long)({each}));' for each in expected)
    source = tmp_path / "layout.c"
    source.write_text(
        f"#include <plugkeep.h>\n#include <stdio.h>\nint main(void) {{ {lines} return 0; }}"
    )
    run(tool("cc"), f"-I{get_include()}", "-o", tmp_path / "layout", source)
    found = dict(zip(expected, map(int, run(tmp_path / "layout").split()), strict=True))
    assert found == expected
