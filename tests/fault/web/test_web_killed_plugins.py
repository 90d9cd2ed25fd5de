"""A plugin's process that ends while it serves: clients see an end that HTTP can express, the log
names the plugin, and what other plugins serve goes on untouched."""

from __future__ import annotations

import os
import select
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

CROWD = 50
SOCKETS = 5

Asking = Callable[..., bytes]
Everything = Callable[[socket.socket], bytes]


@pytest.fixture
def fresh(serve: Any) -> Iterator[Any]:
    """Serve two plugins, one of which is going to die."""
    with serve("doomed", "steady") as served:
        yield served


def kill(served: Any, plugin: str) -> None:
    os.kill(served.pid(plugin), signal.SIGKILL)


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def until(connection: socket.socket, ending: bytes) -> bytes:
    """Return what comes up to and with `ending`."""
    received = b""
    while not received.endswith(ending):
        data = connection.recv(65536)
        assert data, f"{ending!r} never came, only {received!r}"
        received += data
    return received


def test_many_requests_and_websockets_are_under_way(
    fresh: Any, asking: Asking, everything: Everything
) -> None:
    with ExitStack() as stack:

        def opened(line: str, *headers: str, body: bytes = b"") -> socket.socket:
            request = asking(line, *headers, body=body)
            connected: socket.socket = stack.enter_context(fresh.connected(request))
            return connected

        unanswered = [opened("GET /doomed/waiting") for _ in range(CROWD)]
        begun = [opened("GET /doomed/begun") for _ in range(CROWD)]
        uploads = [
            opened("POST /doomed/count", "Content-Length: 100000", body=b"x" * 70_000)
            for _ in range(5)
        ]
        others = [opened("GET /steady/begun") for _ in range(CROWD)]
        sockets = [stack.enter_context(fresh.websocket("/doomed/echo")) for _ in range(SOCKETS)]
        other_socket = stack.enter_context(fresh.websocket("/steady/echo"))
        assert fresh.body(f"/doomed/crowd?{CROWD}") == b"%d" % CROWD
        for connection in begun + others:
            until(connection, b"5\r\nbegun\r\n")
        for each in sockets:
            each.send("hello")
            assert each.recv(30) == "hello"

        kill(fresh, "doomed")

        answers = [everything(connection) for connection in unanswered]
        assert {status(answer) for answer in answers} == {502}
        assert {answer.partition(b"\r\n\r\n")[2] for answer in answers} == {
            b"plugin 'doomed' has ended while it was answering"
        }
        assert {everything(connection) for connection in begun} == {b""}, "not seen to break off"
        for connection in uploads:
            answer = everything(connection)
            assert not answer or status(answer) == 502, answer
        for each in sockets:
            with pytest.raises(ConnectionClosed):
                each.recv(30)
        fresh.log.wait_for(
            "GET /doomed/waiting of plugin 'doomed' failed",
            "GET /doomed/begun of plugin 'doomed' failed",
            "WebSocket /doomed/echo of plugin 'doomed' failed",
            "SIGKILL",
        )

        # The others go on where they were.
        fresh.body("/steady/release")
        assert {everything(connection) for connection in others} == {b"4\r\ndone\r\n0\r\n\r\n"}
        other_socket.send("still there?")
        assert other_socket.recv(30) == "still there?"


def test_requests_afterwards_are_refused(fresh: Any) -> None:
    kill(fresh, "doomed")
    # That it is gone may be noticed by this very request.
    assert status(fresh.get("/doomed/hello")) in (502, 503)
    fresh.log.wait_for("doomed")
    answer = fresh.get("/doomed/hello")
    assert status(answer) == 503
    assert b"plugin 'doomed' is not running" in answer
    assert fresh.body("/steady/hello") == b"hello"


def test_a_plugin_that_exits_while_it_serves(fresh: Any) -> None:
    answer = fresh.get("/doomed/dies")
    assert status(answer) == 502
    fresh.log.wait_for("GET /doomed/dies of plugin 'doomed' failed", "3")
    assert fresh.body("/steady/hello") == b"hello"


def test_a_plugin_that_hangs_harms_nobody_else(
    fresh: Any, asking: Asking, everything: Everything
) -> None:
    """Stopped by a signal, it answers when it goes on."""
    pid = fresh.pid("doomed")
    os.kill(pid, signal.SIGSTOP)
    try:
        with ExitStack() as stack:
            request = asking("GET /doomed/hello")
            waiting = [stack.enter_context(fresh.connected(request)) for _ in range(CROWD)]
            assert {fresh.body("/steady/hello") for _ in range(20)} == {b"hello"}
            os.kill(pid, signal.SIGCONT)
            answers = [everything(connection) for connection in waiting]
    finally:
        os.kill(pid, signal.SIGCONT)
    assert all(answer.endswith(b"\r\n\r\nhello") for answer in answers)


def test_a_download_breaks_off(fresh: Any, asking: Asking, everything: Everything) -> None:
    """In the middle of a large body, with the client slower than the plugin."""
    with fresh.connected(asking("GET /doomed/download?a")) as connection:
        assert connection.recv(1)
        assert fresh.body("/doomed/happenings?a").startswith(b"stalled after ")
        kill(fresh, "doomed")
        received = everything(connection)
    assert not received.endswith(b"\r\n0\r\n\r\n")
    fresh.log.wait_for("GET /doomed/download of plugin 'doomed' failed")


def test_the_server_ends_while_requests_are_under_way(
    fresh: Any, asking: Asking, everything: Everything
) -> None:
    """The plugins end with it, whatever they do."""
    pids = [fresh.pid("doomed"), fresh.pid("steady")]
    descriptors = [os.pidfd_open(pid) for pid in pids]
    try:
        with fresh.connected(asking("GET /doomed/begun")) as connection:
            until(connection, b"5\r\nbegun\r\n")
            fresh.end()
            everything(connection)
        for descriptor in descriptors:
            assert select.select([descriptor], [], [], 30)[0], "a plugin has outlived its host"
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
