"""Large buffers beside the frames: by the socket, in memory files, and all that can be amiss."""

from __future__ import annotations

import array
import errno
import fcntl
import gc
import os
import resource
import select
import signal
import socket as sockets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from plugkeep import signals
from plugkeep.channel import apart
from plugkeep.channel.apart import Receiver, reserve, socket_pair
from plugkeep.channel.ends import Ends
from plugkeep.channel.outbox import Outbox
from plugkeep.errors import ProtocolViolationError
from plugkeep.wire.frames import Wanted
from plugkeep.wire.fresh import LARGE, copied, fresh
from plugkeep.wire.sending import Apart

MIB = 1024 * 1024
SEALED = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
#: More than any transfer here needs, so that one that gets stuck fails.
MANY = 10_000


class Wire:
    """A sender and a receiver on the two ends of a socket."""

    def __init__(self) -> None:
        self.near, self.far = socket_pair()
        self.outbox = Outbox(Ends(-1, -1, self.near))
        self.receiver = Receiver(self.far)

    def put(self, *pieces: Apart) -> None:
        self.outbox.queue.extend(pieces)

    def take(self, size: int, via: str) -> Any:
        """Return the next buffer, writing and reading in turns."""
        for _ in range(MANY):
            self.outbox.flush()
            found = self.receiver.receive(Wanted(size, via))  # type: ignore[arg-type]
            if found is not None:
                return found
        raise AssertionError(f"{size} bytes by {via} did not arrive")

    def send_descriptors(self, *descriptors: int, byte: bytes = b"\0") -> None:
        """Send what may or may not be a memory file's."""
        carried = array.array("i", descriptors)
        ancillary = [(sockets.SOL_SOCKET, sockets.SCM_RIGHTS, carried)] if descriptors else []
        self.near.sendmsg([byte], ancillary)

    def close(self) -> None:
        self.near.close()
        self.far.close()


@pytest.fixture
def wire() -> Iterator[Wire]:
    wire = Wire()
    yield wire
    wire.close()


def in_file(data: bytes) -> Apart:
    file = reserve(len(data))
    assert file is not None, "no memory file could be had"
    return Apart(memoryview(data), "memory", file)


def descriptors() -> set[str]:
    gc.collect()
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def mappings() -> int:
    gc.collect()
    return Path("/proc/self/maps").read_text().count("memfd:plugkeep")


# --- there ------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 4095, 64 * 1024, MIB, 5 * MIB + 3])
def test_bytes_arrive_by_the_socket(wire: Wire, size: int) -> None:
    data = os.urandom(size)
    wire.put(Apart(memoryview(data), "socket"))
    found = wire.take(size, "socket")
    assert type(found) is bytes
    assert found == data


@pytest.mark.parametrize("size", [1, 4096, 5 * MIB + 3])
def test_a_memory_file_arrives_mapped_and_can_not_be_written(wire: Wire, size: int) -> None:
    data = os.urandom(size)
    wire.put(in_file(data))
    found = wire.take(size, "memory")
    assert type(found) is memoryview
    assert found.readonly
    assert found == data


def test_all_kinds_arrive_in_order(wire: Wire) -> None:
    contents = [os.urandom(size) for size in (3 * MIB, 100, 5 * MIB, 1, 70_000, 2 * MIB)]
    ways = ["socket", "memory", "memory", "socket", "memory", "socket"]
    for data, via in zip(contents, ways, strict=True):
        wire.put(in_file(data) if via == "memory" else Apart(memoryview(data), "socket"))
    for data, via in zip(contents, ways, strict=True):
        assert wire.take(len(data), via) == data


def test_receiving_goes_on_at_every_byte(wire: Wire) -> None:
    data = os.urandom(300)
    for position in range(300):
        assert wire.receiver.receive(Wanted(300, "socket")) is None
        wire.near.send(data[position : position + 1])
    assert wire.receiver.receive(Wanted(300, "socket")) == data


def test_what_belongs_to_the_next_buffer_is_left_there(wire: Wire) -> None:
    wire.near.send(b"onetwo")
    assert wire.receiver.receive(Wanted(3, "socket")) == b"one"
    assert wire.receiver.receive(Wanted(3, "socket")) == b"two"


def test_the_sender_does_not_wait_for_the_reader(wire: Wire) -> None:
    data = os.urandom(20 * MIB)
    wire.put(Apart(memoryview(data), "socket"))
    for _ in range(MANY):
        wire.outbox.flush()
        if not select.select([], [wire.near], [], 0)[1]:
            break
    wire.outbox.flush()
    assert 0 < wire.outbox.moved < len(data)
    assert wire.outbox.descriptor == wire.near.fileno()
    assert wire.take(len(data), "socket") == data


def test_large_data_is_sent_bit_by_bit(wire: Wire) -> None:
    """An event loop that sends has other things to do."""
    wire.put(in_file(os.urandom(20 * MIB)))
    flushes = 1
    while not wire.outbox.flush():
        flushes += 1
        assert flushes < MANY
    assert flushes > 3


# --- memory -----------------------------------------------------------------------------------


def test_a_mapping_keeps_no_descriptor_and_ends_with_its_last_view(wire: Wire) -> None:
    before, mapped_before = descriptors(), mappings()
    wire.put(in_file(os.urandom(MIB)))
    found = wire.take(MIB, "memory")
    part = found[10:20]
    expected = bytes(part)
    del found
    assert descriptors() == before
    assert mappings() == mapped_before + 1
    assert part == expected
    del part
    assert mappings() == mapped_before


def test_a_mapping_lives_as_long_as_an_array_over_it(wire: Wire) -> None:
    numpy = pytest.importorskip("numpy")
    mapped_before = mappings()
    data = os.urandom(MIB)
    wire.put(in_file(data))
    numbers = numpy.frombuffer(wire.take(MIB, "memory"), dtype="<u4")[100:200].reshape(10, 10)
    wire.close()
    assert mappings() == mapped_before + 1
    assert numbers.tobytes() == data[400:800]
    assert not numbers.flags.writeable
    del numbers
    assert mappings() == mapped_before


def test_nobody_can_change_what_was_received(wire: Wire) -> None:
    piece = in_file(b"x" * 4096)
    copy = os.dup(piece.file.descriptor)
    try:
        wire.put(piece)
        found = wire.take(4096, "memory")
        for change in (
            lambda: os.pwrite(copy, b"y", 0),
            lambda: os.ftruncate(copy, 1),
            lambda: os.ftruncate(copy, 5000),
        ):
            with pytest.raises(PermissionError):
                change()
        assert found == b"x" * 4096
    finally:
        os.close(copy)


def test_a_file_that_is_never_sent_is_closed() -> None:
    before = descriptors()
    piece = in_file(b"x" * 4096)
    assert descriptors() > before
    del piece
    assert descriptors() == before


def test_a_file_on_its_way_is_closed_with_the_socket(wire: Wire) -> None:
    before = descriptors()
    for _ in range(3):
        wire.put(in_file(b"x" * 4096))
    while not wire.outbox.flush():
        pass
    assert descriptors() == before


# --- against the rules ------------------------------------------------------------------------


@contextmanager
def memory_file(data: bytes, seals: int = SEALED) -> Iterator[int]:
    descriptor = os.memfd_create("test", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.write(descriptor, data)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def expect_violation(wire: Wire, rule: str) -> Iterator[None]:
    """Expect that receiving a memory file of 5 bytes breaks `rule`, and leaves nothing open."""
    before = descriptors()
    yield
    with pytest.raises(ProtocolViolationError, match=rule):
        wire.receiver.receive(Wanted(5, "memory"))
    assert descriptors() == before


def test_a_byte_without_a_descriptor(wire: Wire) -> None:
    with expect_violation(wire, "no descriptor came"):
        wire.send_descriptors()


@pytest.mark.parametrize("count", [2, 3, 100])
def test_more_than_one_descriptor(wire: Wire, count: int) -> None:
    with memory_file(b"12345") as file, expect_violation(wire, "more than one descriptor came"):
        wire.send_descriptors(*[file] * count)


def test_another_byte(wire: Wire) -> None:
    with memory_file(b"12345") as file, expect_violation(wire, "byte b'x'"):
        wire.send_descriptors(file, byte=b"x")


@pytest.mark.parametrize("missing", [fcntl.F_SEAL_WRITE, fcntl.F_SEAL_SHRINK, fcntl.F_SEAL_GROW])
def test_a_missing_seal(wire: Wire, missing: int) -> None:
    with memory_file(b"12345", SEALED & ~missing) as file, expect_violation(wire, "not sealed"):
        wire.send_descriptors(file)


@pytest.mark.parametrize("data", [b"", b"1234", b"123456"])
def test_another_size(wire: Wire, data: bytes) -> None:
    rule = f"has {len(data)} bytes; 5 were announced"
    with memory_file(data) as file, expect_violation(wire, rule):
        wire.send_descriptors(file)


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null", __file__, "/"])
def test_a_descriptor_of_something_else(wire: Wire, path: str) -> None:
    with expect_violation(wire, "no memory file's"):
        descriptor = os.open(path, os.O_RDONLY)
        wire.send_descriptors(descriptor)
        os.close(descriptor)


def test_a_descriptor_of_a_socket(wire: Wire) -> None:
    with expect_violation(wire, "no memory file's"):
        wire.send_descriptors(wire.near.fileno())


def test_descriptors_among_raw_bytes_are_not_taken(wire: Wire) -> None:
    before = descriptors()
    with memory_file(b"12345") as file:
        wire.send_descriptors(file, byte=b"raw")
    assert wire.receiver.receive(Wanted(3, "socket")) == b"raw"
    assert descriptors() == before


@pytest.mark.parametrize("via", ["socket", "memory"])
def test_the_other_end_has_gone(wire: Wire, via: str) -> None:
    if via == "socket":
        wire.near.send(b"12")
        assert wire.receiver.receive(Wanted(5, "socket")) is None
    wire.near.close()
    with pytest.raises(ConnectionResetError):
        wire.receiver.receive(Wanted(5, via))  # type: ignore[arg-type]


@pytest.mark.parametrize("via", ["socket", "memory"])
def test_sending_to_nobody(wire: Wire, via: str) -> None:
    wire.far.close()
    wire.put(in_file(b"12345") if via == "memory" else Apart(memoryview(b"12345"), "socket"))
    wire.outbox.flush()
    assert wire.outbox.is_broken


# --- where there is no room -------------------------------------------------------------------


@contextmanager
def limited(kind: int, amount: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (amount, hard))
    try:
        yield
    finally:
        resource.setrlimit(kind, (soft, hard))


def free_descriptor() -> int:
    descriptor = os.open("/", os.O_RDONLY)
    os.close(descriptor)
    return descriptor


def test_no_file_can_be_had_where_there_is_no_descriptor() -> None:
    with limited(resource.RLIMIT_NOFILE, free_descriptor()):
        assert reserve(4096) is None


def test_no_file_can_be_had_where_files_may_not_be_so_large() -> None:
    before = descriptors()
    with limited(resource.RLIMIT_FSIZE, 4096):
        assert reserve(8192) is None
    assert descriptors() == before


def test_a_strict_system_is_asked_for_the_room_beforehand(monkeypatch: pytest.MonkeyPatch) -> None:
    from plugkeep.channel import _memory

    def refuse(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(_memory, "_is_strict", lambda: True)
    piece = reserve(4096)
    assert piece is not None
    assert os.fstat(piece.descriptor).st_blocks * 512 == 4096  # type: ignore[attr-defined]
    before = descriptors()
    monkeypatch.setattr(os, "posix_fallocate", refuse)
    assert reserve(4096) is None
    assert descriptors() == before


def test_a_file_that_no_descriptor_is_left_for_costs_one_buffer_only(wire: Wire) -> None:
    wire.put(in_file(b"12345"), in_file(b"67890"))
    while not wire.outbox.flush():
        pass
    with limited(resource.RLIMIT_NOFILE, free_descriptor()):
        found = wire.receiver.receive(Wanted(5, "memory"))
    assert type(found) is OSError
    assert "no more descriptors" in str(found)
    assert wire.receiver.receive(Wanted(5, "memory")) == b"67890"


def test_a_file_that_cannot_be_mapped_costs_one_buffer_only(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: int, __: int) -> memoryview:
        raise MemoryError("no room")

    before = descriptors()
    wire.put(in_file(b"12345"), in_file(b"67890"))
    with monkeypatch.context() as patch:
        patch.setattr("plugkeep.channel._mapping.mapped", refuse)
        found = wire.take(5, "memory")
    assert type(found) is OSError
    assert "could not be mapped" in str(found)
    assert wire.take(5, "memory") == b"67890"
    assert descriptors() == before


def test_a_buffer_without_room_is_passed_over(wire: Wire) -> None:
    def refuse(_: int) -> tuple[bytes, memoryview]:
        raise MemoryError

    wire.put(Apart(memoryview(bytes(3 * MIB)), "socket"), Apart(memoryview(b"next"), "socket"))
    wire.receiver._fresh = refuse
    found = wire.take(3 * MIB, "socket")
    wire.receiver._fresh = None
    assert type(found) is OSError
    assert "no room for its 3145728 bytes" in str(found)
    assert wire.take(4, "socket") == b"next"


# --- interrupts -------------------------------------------------------------------------------


class Interrupt(Exception):
    pass


@pytest.mark.parametrize("via", ["socket", "memory"])
def test_an_interrupt_between_any_two_steps_of_sending_changes_nothing(
    wire: Wire, via: str
) -> None:
    """As a signal's handler would raise it: at every line, one after the other."""
    data = os.urandom(9 * MIB)
    steps = 0
    while True:
        wire.put(in_file(data) if via == "memory" else Apart(memoryview(data), "socket"))
        steps += 1
        finished = not interrupted_at(steps, wire.outbox.flush)
        assert wire.take(len(data), via) == data, f"after an interrupt at step {steps}"
        if finished:
            break
        assert steps < MANY
    assert steps > 5


def interrupted_at(step: int, function: Callable[[], object]) -> bool:
    """Call `function`, raising at its line number `step`; return whether it had so many."""
    import sys

    # Also raised where no signal's handler could, such as between the end of a block that holds
    # them back and their return; so they are put back here.
    handlers = {number: signal.getsignal(number) for number in signals._SIGNALS}
    left = step

    def trace(frame: Any, event: str, _: Any) -> Any:
        nonlocal left
        if "plugkeep" not in frame.f_code.co_filename or frame.f_code.co_name == "__del__":
            return None
        if event == "line":
            left -= 1
            if left == 0:
                raise Interrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    except Interrupt:
        return True
    finally:
        sys.settrace(before)
        signals._innermost = None
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return False


# --- bytes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 100, LARGE, LARGE + 5])
def test_fresh_bytes_hold_what_they_were_filled_with(size: int) -> None:
    data = os.urandom(size)
    content, view = fresh(size)
    with view:
        view[:] = data
    assert content == data
    assert hash(content) == hash(data)
    assert copied(memoryview(data)) == data


def test_the_socket_has_room() -> None:
    for end in socket_pair():
        with end:
            assert end.getsockopt(sockets.SOL_SOCKET, sockets.SO_SNDBUF) > 256 * 1024
            assert not end.get_inheritable()


def test_memory_files_are_left_to_what_needs_them() -> None:
    """Buffers up to some size are had by malloc, again and again, at less than any file costs."""
    from plugkeep.wire.sending import MEMORY

    assert MEMORY == LARGE
    assert apart.CAPACITY <= MIB
