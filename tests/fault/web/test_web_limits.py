"""Requests that are larger than the host allows, and applications that take longer."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

#: Bytes that a body may have here.
MOST = 100_000

Asking = Callable[..., bytes]
Everything = Callable[[socket.socket], bytes]


@pytest.fixture(scope="module", params=["in-process", "sandboxed"])
def strict(request: pytest.FixtureRequest, tmp_path_factory: Any, serving: Any) -> Iterator[Any]:
    """Serve a plugin by a host that limits bodies."""
    folder = tmp_path_factory.mktemp("web")
    in_process = request.param == "in-process"
    with serving(folder, "steady", asgi={"max_body": MOST}, in_process=in_process) as served:
        yield served


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def chunked(body: bytes, size: int) -> bytes:
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (*pieces, b""))


@pytest.mark.parametrize("size", [0, 1, MOST])
def test_bodies_within_the_limit(
    size: int, strict: Any, asking: Asking, everything: Everything
) -> None:
    body = b"x" * size
    announced = asking("POST /steady/count", f"Content-Length: {size}", body=body)
    streamed = asking("POST /steady/count", "Transfer-Encoding: chunked", body=chunked(body, 1000))
    for request in (announced, streamed):
        with strict.connected(request) as connection:
            assert everything(connection).endswith(b"\r\n\r\n%d" % size)


@pytest.mark.parametrize("size", [MOST + 1, 10 * MOST])
def test_bodies_that_are_announced_beyond_the_limit(
    size: int, strict: Any, asking: Asking, everything: Everything
) -> None:
    """They are refused before any of them has come."""
    with strict.connected(asking("POST /steady/count", f"Content-Length: {size}")) as connection:
        assert status(everything(connection)) == 413


@pytest.mark.parametrize("size", [MOST + 1, 10 * MOST])
def test_bodies_that_are_streamed_beyond_the_limit(
    size: int, strict: Any, asking: Asking, everything: Everything
) -> None:
    head = asking("POST /steady/count", "Transfer-Encoding: chunked")
    with strict.connected(head) as connection:
        # It may be refused, and the connection closed, before all has been sent.
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(chunked(b"x" * size, 1000))
        assert status(everything(connection)) == 413


def test_others_are_answered_afterwards(strict: Any) -> None:
    assert strict.body("/steady/hello") == b"hello"


def test_heads_beyond_the_limit(strict: Any) -> None:
    """Of many headers, which no server objects to."""
    headers = [f"X-{n}: {'x' * 1000}" for n in range(70)]
    assert status(strict.get("/steady/headers", *headers)) == 431
    assert strict.get("/steady/headers", *headers[:60]).endswith(b"\r\n\r\n62")


def test_applications_that_take_too_long(
    serve: Any, asking: Asking, everything: Everything
) -> None:
    """Until a response begins; what has begun may take its time."""
    with serve("steady", isolate={"call_timeout": 0.3}) as served:
        with served.connected(asking("GET /steady/begun")) as begun:
            received = b""
            while b"begun\r\n" not in received:
                received += begun.recv(65536)
            answer = served.get("/steady/waiting")
            assert status(answer) == 504
            served.log.wait_for("steady")
            served.body("/steady/release")
            assert everything(begun).endswith(b"4\r\ndone\r\n0\r\n\r\n")
        assert served.body("/steady/hello") == b"hello"
