"""Applications that break the rules of ASGI, in a sandbox: their clients see that something is
wrong, the log says whose fault it is, and nobody else notices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidHandshake

pytestmark = pytest.mark.usefixtures("unharmed")

#: How the log names the plugin.
WHOSE = r"plugin[. ]'?naughty"
HEADS = (
    "status-text", "status-none", "status-low", "status-high", "status-negative", "header-text",
    "header-numbers", "header-none", "header-three", "header-map", "header-no-list", "header-line",
    "header-name-line", "header-null", "header-space", "header-colon", "header-empty",
    "header-large",
)  # fmt: skip
EVENTS = (
    "none", "text", "untyped", "type-number", "type-unknown", "type-websocket", "body-text",
    "body-number", "body-last-text", "body-unsendable",
)  # fmt: skip
FRAMES = (
    "accept-twice", "http", "nothing-in-it", "wrong-types", "number", "close-code", "close-twice",
    "none",
)  # fmt: skip


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


@pytest.mark.parametrize(
    "name",
    ["never", "headless", "raises_before", "raises_unsendable", "raises_odd?exit",
     "raises_odd?cancel"],
)  # fmt: skip
def test_no_answer(name: str, served: Any) -> None:
    answer = served.get(f"/naughty/{name}")
    assert status(answer) == 500
    assert answer.endswith(b"Internal Server Error in plugin 'naughty'")
    served.log.wait_for(WHOSE, name.partition("?")[0])


@pytest.mark.parametrize("name", ["two_heads", "only_head", "raises_after_head"])
def test_an_answer_without_a_body(name: str, served: Any) -> None:
    answer = served.get(f"/naughty/{name}")
    # Servers may wait with the head until there is a body.
    assert not answer or status(answer) == 500 or not answer.endswith(b"0\r\n\r\n")
    served.log.wait_for(WHOSE, name)


@pytest.mark.parametrize("name", ["half", "raises_during", "too_short", "too_long"])
def test_half_an_answer(name: str, served: Any) -> None:
    answer = served.get(f"/naughty/{name}")
    assert status(answer) in (200, 500)
    if status(answer) == 200:
        assert not answer.endswith(b"\r\n0\r\n\r\n")
        assert b"far too long" not in answer
    served.log.wait_for(WHOSE, name)


@pytest.mark.parametrize("name", ["two_answers", "raises_after"])
def test_a_whole_answer_and_more(name: str, served: Any) -> None:
    answer = served.get(f"/naughty/{name}")
    assert status(answer) == 200
    assert answer.endswith((b"\r\n\r\nfirst", b"\r\n\r\nhello"))
    served.log.wait_for(WHOSE, name)


@pytest.mark.parametrize("how", ["", "&ahead"], ids=["at once", "ahead"])
@pytest.mark.parametrize("name", HEADS)
def test_a_head_that_is_none(name: str, how: str, served: Any) -> None:
    answer = served.get(f"/naughty/head?{name}{how}")
    assert b"x-evil" not in answer.lower()
    # Or none, where the server finds the fault.
    assert not answer or status(answer) == 500, answer[:300]
    served.log.wait_for(WHOSE, "/head")


@pytest.mark.parametrize("name", EVENTS)
def test_an_event_that_is_none(name: str, served: Any) -> None:
    answer = served.get(f"/naughty/event?{name}")
    assert status(answer) == 200
    assert b"begun" in answer
    assert not answer.endswith(b"0\r\n\r\n"), answer
    served.log.wait_for(WHOSE, "/event")


def test_a_thousand_headers_in_an_answer(served: Any) -> None:
    head = served.get("/naughty/many_headers").partition(b"\r\n\r\n")[0]
    assert head.count(b"\r\nx-") == 1000


@pytest.mark.parametrize("kind", ["bytearray", "memoryview"])
def test_octets_that_are_no_bytes(kind: str, served: Any) -> None:
    answer = served.get(f"/naughty/octets?{kind}")
    assert b"one," in answer
    assert answer.endswith(b"two\r\n0\r\n\r\n")


def test_receiving_more_than_there_is(served: Any) -> None:
    assert served.body("/naughty/greedy?a") == b"hello"
    found = served.body("/naughty/happenings?a")
    assert found == b"http.request http.disconnect http.disconnect"


def test_receiving_in_two_tasks(served: Any) -> None:
    assert served.body("/naughty/twofold") == b"hello"


def test_sending_to_a_client_that_has_gone(served: Any, asking: Callable[..., bytes]) -> None:
    with served.connected(asking("GET /naughty/endless?b")) as connection:
        assert connection.recv(1)
    assert served.body("/naughty/happenings?b").startswith((b"gone", b"cancelled"))
    assert served.body("/naughty/hello") == b"hello"


def test_sending_after_the_host_has_given_up(served: Any) -> None:
    """The application must not wait for ever: it is cancelled, or nobody minds what it sends."""
    answer = served.get("/naughty/stubborn?c")
    assert not answer.endswith(b"0\r\n\r\n")
    served.log.wait_for(WHOSE, "/stubborn")
    assert served.body("/naughty/happenings?c") == b"ended"


# --- WebSockets -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FRAMES)
def test_a_frame_that_is_none(name: str, served: Any) -> None:
    with (
        served.websocket(f"/naughty/frames?{name}") as socket,
        pytest.raises(ConnectionClosed),
    ):
        socket.recv(30)
    if name != "close-twice":
        served.log.wait_for(WHOSE, "/frames")


@pytest.mark.parametrize("name", ["send-first", "http-first", "headers"])
def test_a_handshake_that_is_none(name: str, served: Any) -> None:
    with pytest.raises(InvalidHandshake), served.websocket(f"/naughty/frames?{name}"):
        pass
    served.log.wait_for(WHOSE, "/frames")


def test_a_handshake_that_nobody_answers(served: Any) -> None:
    with pytest.raises(InvalidHandshake), served.websocket("/naughty/unanswered"):
        pass
