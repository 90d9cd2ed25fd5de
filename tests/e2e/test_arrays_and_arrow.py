"""Arrays and Arrow tables between a host and a child process: what arrives, and where it lies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from plugkeep import UnsendableValueError, isolate
from plugkeep.channel import workers

np = pytest.importorskip("numpy")
pa = pytest.importorskip("pyarrow")

PLUGIN = """
import numpy as np
import plugkeep

class PluginFactory:
    name = "arrays"
    def start(self): ...
    def stop(self): ...

    @plugkeep.expose
    def echo(self, value):
        return value

    @plugkeep.expose
    def doubled(self, array: np.ndarray) -> np.ndarray:
        assert not array.flags.writeable
        return array * 2

    @plugkeep.expose
    def is_mapped(self, array: np.ndarray) -> bool:
        address = array.__array_interface__["data"][0]
        for line in open("/proc/self/maps"):
            low, high = (int(end, 16) for end in line.split()[0].split("-"))
            if low <= address < high:
                return "memfd:plugkeep" in line
        return False
"""


@pytest.fixture(autouse=True)
def _impatient_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have idle threads end at once, so that no test has to wait for that."""
    monkeypatch.setattr(workers._shared, "_idle_for", 0.02)


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[Any]:
    path = tmp_path / "arrays.py"
    path.write_text(PLUGIN)
    with isolate(f"file:{path}", isolation="process") as sandbox:
        yield sandbox


ARRAYS = {
    "a vector": np.arange(10.0),
    "Fortran's order": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
    "with steps": np.arange(100)[::7],
    "backwards": np.arange(6)[::-1],
    "without dimensions": np.array(3.5),
    "empty": np.zeros((0, 3)),
    "big-endian": np.arange(5, dtype=">i4"),
    "booleans": np.array([True, False]),
    "texts": np.array(["ab", "c"]),
    "bytes": np.array([b"ab", b"c"]),
    "dates": np.array(["2026-11-22"], dtype="M8[D]"),
    "complex": np.array([1 + 2j]),
    "of 40 MB": np.arange(5_000_000.0).reshape(500, 10_000),
}


@pytest.mark.parametrize("what", ARRAYS)
def test_arrays_arrive_as_they_were_and_read_only(plugin: Any, what: str) -> None:
    array = ARRAYS[what]
    found = plugin.call("echo", array)
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    assert np.array_equal(found, array)
    assert not found.flags.writeable
    assert found.flags.c_contiguous


def test_arrays_and_other_values_travel_together(plugin: Any) -> None:
    value: dict[str, Any] = {
        "a": [np.arange(20_000), b"x" * 50_000],
        "$b": {"c": np.zeros(3)},
        "d": None,
    }
    found = plugin.call("echo", value)
    assert np.array_equal(found["a"][0], value["a"][0])
    assert found["a"][1] == value["a"][1]
    assert np.array_equal(found["$b"]["c"], np.zeros(3))


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(3, dtype=[("a", "<i4"), ("b", "<f8")]),
        np.array([None]),
        np.ma.array([1, 2], mask=[True, False]),
    ],
    ids=["records", "objects", "mask"],
)
def test_what_would_lose_something_is_refused(plugin: Any, array: Any) -> None:
    with pytest.raises(UnsendableValueError, match="argument 1 of 'echo' is a"):
        plugin.call("echo", array)


def test_a_large_array_lies_in_the_memory_file_itself(plugin: Any) -> None:
    large = np.arange(5_000_000.0)
    assert plugin.call("is_mapped", large)
    found = plugin.call("doubled", large)
    assert lies_in_memory_file(found.__array_interface__["data"][0])
    assert np.array_equal(found, large * 2)


def lies_in_memory_file(address: int) -> bool:
    for line in Path("/proc/self/maps").read_text().splitlines():
        low, high = (int(end, 16) for end in line.split()[0].split("-"))
        if low <= address < high:
            return "memfd:plugkeep" in line
    return False


def test_arrow_tables_are_read_where_they_arrived(plugin: Any) -> None:
    table = pa.table({"number": range(5_000_000)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    packed = sink.getvalue()
    found = pa.py_buffer(plugin.using(buffers="memoryview").call("echo", packed))
    assert found.equals(packed)
    read = pa.ipc.open_stream(found).read_all()
    assert read.equals(table)
    address = read.column("number").chunk(0).buffers()[1].address
    assert found.address <= address < found.address + found.size
    assert lies_in_memory_file(address)
