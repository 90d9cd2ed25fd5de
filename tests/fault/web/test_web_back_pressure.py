"""Whoever sends faster than the other end takes is made to wait, and memory stays bounded."""

from __future__ import annotations

import re
import select
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.usefixtures("unharmed")

MIB = 1 << 20
#: What the plugin sends in all, in so many pieces.
LARGE, PIECES = 64 * MIB, 1024
#: What sockets, the server and the wire hold together, at most.
HELD = 8 * MIB
#: By how much a process may grow meanwhile.
GROWTH = 32 * MIB
#: Milliseconds of waiting from which on somebody is waited for.
STALLED = 250

Asking = Callable[..., bytes]


@contextmanager
def bounded(*processes: int) -> Iterator[None]:
    """Check that none of `processes` grows much."""
    for process in processes:
        Path(f"/proc/{process}/clear_refs").write_text("5")
    before = [most_memory(process) for process in processes]
    yield
    grown = [most_memory(process) for process in processes]
    for old, new in zip(before, grown, strict=True):
        assert new - old < GROWTH, f"grew by {(new - old) / MIB:.0f} MiB"


def most_memory(process: int) -> int:
    status = Path(f"/proc/{process}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found, status
    return int(found[1]) * 1024


def stalled_after(happened: bytes) -> int:
    """Return after how many pieces the plugin was made to wait."""
    found = re.match(rb"stalled after (\d+)", happened)
    assert found, f"nobody waited for the client: {happened!r}"
    return int(found[1])


def send_until_stalled(connection: socket.socket, data: bytes) -> int:
    """Return how many bytes the other end takes before it has us wait."""
    connection.setblocking(False)
    poller = select.poll()
    poller.register(connection, select.POLLOUT)
    view, sent = memoryview(data), 0
    while sent < len(data) and poller.poll(STALLED):
        sent += connection.send(view[sent : sent + MIB])
    connection.settimeout(30)
    return sent


def counted(connection: socket.socket) -> int:
    """Return how many bytes come until the end."""
    size = 0
    buffer = bytearray(MIB)
    while got := connection.recv_into(buffer):
        size += got
    return size


def test_the_plugin_waits_for_a_client_that_does_not_read(served: Any, asking: Asking) -> None:
    processes = served.process, served.pid("naughty")
    with bounded(*processes), served.connected(asking("GET /naughty/download?a")) as connection:
        pieces = stalled_after(served.body("/naughty/happenings?a"))
        assert pieces * (LARGE // PIECES) < HELD
        assert served.body("/naughty/hello") == b"hello"
        assert LARGE < counted(connection) < LARGE * 1.01


def test_the_client_waits_for_a_plugin_that_does_not_read(served: Any, asking: Asking) -> None:
    processes = served.process, served.pid("naughty")
    data = bytes(LARGE)
    request = asking("POST /naughty/late?b", f"Content-Length: {LARGE}")
    with bounded(*processes), served.connected(request) as connection:
        sent = send_until_stalled(connection, data)
        assert sent < HELD, "nobody waited for the plugin"
        assert served.body("/naughty/hello") == b"hello"
        served.body("/naughty/release")
        connection.sendall(memoryview(data)[sent:])
        answer = connection.makefile("rb").read()
    assert answer.endswith(b"\r\n\r\n%d" % LARGE), answer


def test_many_slow_clients_take_little_memory(served: Any, asking: Asking) -> None:
    processes = served.process, served.pid("naughty")
    keys = [f"c{n}" for n in range(8)]
    with bounded(*processes):
        connections = [served.connected(asking(f"GET /naughty/download?{key}")) for key in keys]
        opened = [each.__enter__() for each in connections]
        try:
            for key in keys:
                stalled_after(served.body(f"/naughty/happenings?{key}"))
            assert served.body("/naughty/hello") == b"hello"
        finally:
            for each in connections:
                each.__exit__(None, None, None)
        assert opened


def test_a_flood_of_messages_waits_for_the_client(served: Any) -> None:
    processes = served.process, served.pid("naughty")
    with (
        bounded(*processes),
        served.websocket("/naughty/flood?d", max_queue=1, max_size=MIB) as websocket,
    ):
        pieces = stalled_after(served.body("/naughty/happenings?d"))
        assert pieces * (LARGE // PIECES) < HELD
        assert served.body("/naughty/hello") == b"hello"
        assert sum(len(message) for message in websocket) == LARGE


def test_a_flood_of_messages_waits_for_the_plugin(served: Any) -> None:
    processes = served.process, served.pid("naughty")
    # A frame of 64 KiB, masked with zeros (RFC 6455, 5.2), many times.
    size = LARGE // PIECES
    frame = b"\x82\xff" + size.to_bytes(8, "big") + bytes(4) + bytes(size)
    data = frame * PIECES
    with bounded(*processes), served.websocket("/naughty/deaf?e") as websocket:
        sent = send_until_stalled(websocket.socket, data)
        assert sent < HELD, "nobody waited for the plugin"
        assert served.body("/naughty/hello") == b"hello"
        served.body("/naughty/release")
        websocket.socket.sendall(memoryview(data)[sent:])
        websocket.close()
    assert served.body("/naughty/happenings?e") == b"received %d" % LARGE


def test_a_flood_of_small_messages_takes_little_memory(served: Any) -> None:
    processes = served.process, served.pid("naughty")
    data = (b"\x82\x81" + bytes(4) + b"x") * 400_000
    with bounded(*processes), served.websocket("/naughty/deaf?f") as websocket:
        sent = send_until_stalled(websocket.socket, data)
        websocket.socket.shutdown(socket.SHUT_RDWR)  # or it would wait for our last frame's end
        assert sent < len(data), "nobody waited for the plugin"
        served.body("/naughty/release")
    assert served.body("/naughty/happenings?f").startswith(b"received ")
