"""Clients that go away, dawdle, or send something else than they have announced."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.usefixtures("unharmed")

Asking = Callable[..., bytes]
Everything = Callable[[socket.socket], bytes]


def test_requests_cut_at_every_byte_of_the_head(served: Any, asking: Asking) -> None:
    request = asking("POST /naughty/count", "Content-Length: 5")
    for size in range(len(request)):
        with served.connected(request[:size]):
            pass
    assert served.body("/naughty/hello") == b"hello"


@pytest.mark.parametrize("announced", [100, 100_000])
@pytest.mark.parametrize("sent", [0, 1, 99])
def test_a_body_that_breaks_off(announced: int, sent: int, served: Any, asking: Asking) -> None:
    key = f"body-{announced}-{sent}"
    request = asking(
        f"POST /naughty/count?{key}", f"Content-Length: {announced}", body=b"x" * sent
    )  # fmt: skip
    with served.connected(request) as connection:
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""
    if announced == 100_000:  # what is short is awaited before the plugin hears of it
        assert served.body(f"/naughty/happenings?{key}").startswith(b"disconnected after ")


def test_a_chunked_body_that_breaks_off(served: Any, asking: Asking) -> None:
    body = b"5\r\nhello\r\n5\r\nhe"
    request = asking("POST /naughty/count?chunks", "Transfer-Encoding: chunked", body=body)
    with served.connected(request) as connection:
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""
    assert served.body("/naughty/happenings?chunks").startswith(b"disconnected after ")


@pytest.mark.parametrize("body", [b"zz\r\nhello\r\n0\r\n\r\n", b"5\r\nhello, too long\r\n"])
def test_chunks_that_are_none(
    body: bytes, served: Any, asking: Asking, everything: Everything
) -> None:
    request = asking("POST /naughty/count", "Transfer-Encoding: chunked", body=body)
    with served.connected(request) as connection:
        answer = everything(connection)
    assert not answer or answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 500 ")), answer


def test_an_answer_that_nobody_waits_for(served: Any, asking: Asking) -> None:
    with served.connected(asking("GET /naughty/endless?left")) as connection:
        assert connection.recv(1)
    assert served.body("/naughty/happenings?left").startswith((b"gone", b"cancelled"))


def test_a_connection_that_is_reset(served: Any, asking: Asking) -> None:
    """Data that was not read makes a Unix socket answer with a reset.

    The server's `send` may then fail before it says that the client has gone, and the request be
    given up.
    """
    with served.connected(asking("GET /naughty/endless?reset")) as connection:
        connection.recv(1)
        connection.sendall(b"GET / HTTP/1.1\r\n")
    assert served.body("/naughty/happenings?reset").startswith((b"gone", b"cancelled"))


@pytest.mark.parametrize(
    "line", ["Content-Length: 40", "Content-Length: 70000", "Transfer-Encoding: chunked"]
)
def test_others_are_answered_while_a_body_comes_byte_by_byte(
    line: str, served: Any, asking: Asking, everything: Everything
) -> None:
    pieces = [b"x"] * 40 if line.endswith("40") else [b"x" * 1750] * 40
    if line.endswith("chunked"):
        pieces = [b"1\r\nx\r\n"] * 40 + [b"0\r\n\r\n"]
    with served.connected(asking("POST /naughty/count", line)) as slow:
        for n, piece in enumerate(pieces):
            slow.sendall(piece)
            if n % 10 == 0:
                assert served.body("/naughty/hello") == b"hello"
                assert served.body("/steady/hello") == b"hello"
        answer = everything(slow)
    expected = 70000 if line.endswith("70000") else 40
    assert answer.endswith(b"\r\n\r\n%d" % expected), answer


def test_a_body_that_is_longer_than_announced(
    served: Any, asking: Asking, everything: Everything
) -> None:
    """What is too much is another request, and none."""
    lines = b"POST /naughty/count HTTP/1.1\r\nHost: plug\r\nContent-Length: 5\r\n\r\nhello"
    with served.connected(lines + b", and then some\r\n\r\n") as connection:
        answer = everything(connection)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"\r\n\r\n5HTTP/1.1 400 " in answer, answer


@pytest.mark.parametrize("length", ["-1", "1, 2", "x", "9" * 30])
def test_lengths_that_are_none(
    length: str, served: Any, asking: Asking, everything: Everything
) -> None:
    request = asking("POST /naughty/count", f"Content-Length: {length}", body=b"x")
    with served.connected(request) as connection:
        connection.shutdown(socket.SHUT_WR)
        answer = everything(connection)
    assert not answer or answer.startswith(b"HTTP/1.1 400 "), answer


def test_two_lengths(served: Any, asking: Asking, everything: Everything) -> None:
    request = asking(
        "POST /naughty/count", "Content-Length: 1", "Transfer-Encoding: chunked",
        body=b"5\r\nhello\r\n0\r\n\r\n",
    )  # fmt: skip
    with served.connected(request) as connection:
        answer = everything(connection)
    # RFC 9112, 6.3: chunks prevail, or the request is refused.
    assert answer.endswith(b"\r\n\r\n5") or answer.startswith(b"HTTP/1.1 400 "), answer


def test_a_thousand_headers(served: Any) -> None:
    headers = [f"X-{n}: {n}" for n in range(1000)]
    answer = served.get("/naughty/headers", *headers)
    assert answer.endswith(b"\r\n\r\n1002"), answer


def test_heads_that_are_too_long(served: Any) -> None:
    """Servers have limits; what comes through them gets through here."""
    answer = served.get("/naughty/headers", f"X-Long: {'x' * 70_000}")
    assert not answer or answer.split(b" ", 2)[1] in (b"200", b"400", b"431"), answer


def test_many_at_once(served: Any, asking: Asking, everything: Everything) -> None:
    """A hundred bodies are on their way together; every other one breaks off."""
    half = asking("POST /naughty/count", "Content-Length: 2000", body=b"x" * 1000)
    opened = [served.connected(half) for _ in range(100)]
    connections = [each.__enter__() for each in opened]
    try:
        for connection in connections[::2]:
            connection.shutdown(socket.SHUT_RDWR)
        for connection in connections[1::2]:
            connection.sendall(b"x" * 1000)
        answers = [everything(connection) for connection in connections[1::2]]
    finally:
        for each in opened:
            each.__exit__(None, None, None)
    assert all(answer.endswith(b"\r\n\r\n2000") for answer in answers), answers
