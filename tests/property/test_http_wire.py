"""Scopes and events of ASGI arrive as they were, whatever they hold and whatever comes instead."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugkeep.wire.connection import Connection
from plugkeep.wire.events import Answer, Chunk, Request
from plugkeep.wire.frames import Frames
from plugkeep.wire.http import (
    HTTP,
    INLINE,
    LONGEST_HEAD,
    Offer,
    UnfitEvent,
    check_body,
    check_headers,
    check_status,
    is_plain,
    pack_event,
    pack_scope,
    read_offer,
    take_apart,
    unpack_event,
)
from plugkeep.wire.http_request import HttpRequest, http_request, http_requests
from plugkeep.wire.values import unpack

# What is long takes another way; a failing example may well be as long, then.
pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")

#: What may come from another process, in the place of anything.
anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text()
    | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)  # fmt: skip
#: Keys that look like the wire's own, among others.
keys = st.text() | st.sampled_from(["$", "$$", "$buffer", "$args", "$kwargs"])
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=8,
)  # fmt: skip

octets = st.binary(max_size=40)
#: Octets without what would begin a header of its own.
header_octets = octets.map(lambda data: data.translate(None, b"\r\n\0"))
headers = st.lists(st.tuples(header_octets, header_octets), max_size=8)
addresses = st.none() | st.tuples(st.text(max_size=20), st.none() | st.integers(0, 65535))
bodies = octets | st.sampled_from([bytes(INLINE - 1), bytes(INLINE), b"x" * 65_536])

_round: list[Any] = []
_round.append(_round)
#: What cannot travel, or means nothing elsewhere.
OWN = [
    object(),
    open,
    ValueError(),
    {1},
    b"octets",
    1j,
    2**64,
    "\udc80",
    {"\udc80": 1},
    {1: 2},
    _round,
]

common = {
    "asgi": st.just({"version": "3.0", "spec_version": "2.4"}),
    "http_version": st.sampled_from(["1.0", "1.1", "2"]),
    "scheme": st.sampled_from(["http", "https", "ws", "wss"]),
    "path": st.text(),
    "raw_path": octets,
    "query_string": octets,
    "root_path": st.text(),
    "headers": headers,
    "client": addresses,
    "server": addresses,
}
optional: dict[str, st.SearchStrategy[Any]] = {
    "state": st.dictionaries(keys, plain, max_size=3),
    "extensions": st.fixed_dictionaries(
        {}, optional={"http.response.trailers": st.just({}), "http.response.push": st.just({})}
    ),
}
requests = st.fixed_dictionaries(
    {"type": st.just("http"), "method": st.text(min_size=1), **common}, optional=optional
)
websockets = st.fixed_dictionaries(
    {"type": st.just("websocket"), "subprotocols": st.lists(st.text()), **common},
    optional=optional,
)
scopes = requests | websockets


def ends() -> tuple[Connection, Connection]:
    return Connection(Frames("msgpack")), Connection(Frames("msgpack"))


def hears(receiver: Connection, sending: Any) -> Any:
    data, apart = sending
    events = receiver.receive(bytes(data))
    for piece in apart:
        events += receiver.supply(bytes(piece.buffer))
    (event,) = events
    return event


def without_nothing(scope: dict[str, Any]) -> dict[str, Any]:
    """Return `scope` without members that are empty and stand for nothing."""
    return {key: value for key, value in scope.items() if value or key in common}


# --- there and back -------------------------------------------------------------------------------


@given(scope=scopes, body=bodies)
def test_scopes_arrive_as_they_were(scope: dict[str, Any], body: bytes) -> None:
    us, them = ends()
    params = {"scope": pack_scope(scope), "body": body, "more": False}
    number, sending = us.request(HTTP, (), params, "waiter", credit=8)
    request = hears(them, sending)
    assert type(request) is Request
    kwargs = unpack(request.kwargs, request.buffers)
    found = http_request(request.id, kwargs, 8)
    assert without_nothing(found.params.scope) == without_nothing(scope)
    assert found.params.body == body
    # The short way comes to the same.
    number, frame = us.quick_stream(HTTP, params, "waiter", 8)
    (short,) = http_requests(Frames(), frame)
    assert short == HttpRequest(number, HTTP, found.params, 8)


def test_what_a_later_version_adds_is_passed_over() -> None:
    params = {"scope": {"type": "http", "path": "/", "headers": [], "new": 1}, "newer": 2}
    _, frame = ends()[0].quick_stream(HTTP, params, "waiter", 8) or (0, b"")
    (short,) = http_requests(Frames(), frame)
    assert short.params == http_request(1, params, 8).params
    assert short.params.scope == {"type": "http", "path": "/", "headers": []}


@given(scope=scopes, data=st.data())
def test_what_is_of_this_process_stays_here(scope: dict[str, Any], data: st.DataObject) -> None:
    """Objects in a scope neither travel nor keep what is data from doing so."""
    own = data.draw(st.sampled_from(OWN))
    state = scope.get("state", {})
    packed = pack_scope(
        {
            **scope,
            "app": own,
            "router": own,
            "state": {**state, "own": own, "deep": {"in": [own]}},
            "extensions": {**scope.get("extensions", {}), "http.response.pathsend": {}},
        }
    )
    expected = pack_scope(scope)
    assert packed.pop("state", {}) == expected.pop("state", {})
    assert packed.pop("extensions", {}) == expected.pop("extensions", {})
    assert packed == expected


frames = st.one_of(
    st.fixed_dictionaries({"type": st.just("websocket.receive"), "text": st.text()}),
    st.fixed_dictionaries({"type": st.just("websocket.receive"), "bytes": bodies}),
    st.fixed_dictionaries(
        {"type": st.just("websocket.disconnect"), "code": st.integers(1000, 4999)},
        optional={"reason": st.text()},
    ),
)
request_events = st.one_of(
    st.fixed_dictionaries(
        {"type": st.just("http.request"), "body": bodies, "more_body": st.booleans()}
    ),
    st.just({"type": "http.disconnect"}),
)
response_events = st.one_of(
    st.fixed_dictionaries(
        {
            "type": st.just("http.response.start"),
            "status": st.integers(100, 999),
            "headers": headers.map(lambda pairs: [list(pair) for pair in pairs]),
        }
    ),
    st.fixed_dictionaries(
        {"type": st.just("http.response.body"), "body": bodies, "more_body": st.booleans()}
    ),
)


def travelled(event: dict[str, Any], body: str, frame: str) -> dict[str, Any]:
    """Return an event as it arrives in a chunk."""
    us, them = ends()
    number, sending = us.request(HTTP, (), {}, "waiter", credit=8)
    hears(them, sending)
    chunk = hears(us, them.chunk(number, pack_event(event)))
    assert type(chunk) is Chunk
    return unpack_event(unpack(chunk.value, chunk.buffers), body, frame)


@given(event=request_events)
def test_events_of_requests_arrive_as_they_were(event: dict[str, Any]) -> None:
    assert travelled(event, "http.request", "") == event


@given(event=response_events)
def test_events_of_responses_arrive_as_they_were(event: dict[str, Any]) -> None:
    assert travelled(event, "http.response.body", "") == event


@given(event=frames)
def test_events_of_websockets_arrive_as_they_were(event: dict[str, Any]) -> None:
    assert travelled(event, "", "websocket.receive") == event


@given(pieces=st.lists(st.binary(min_size=1, max_size=20)))
def test_pieces_that_travel_together_are_the_same_pieces(pieces: list[bytes]) -> None:
    assert take_apart(b"".join(pieces), list(map(len, pieces))) == pieces


@given(status=st.integers(100, 999), pairs=headers, body=bodies)
def test_whole_answers_arrive_as_they_were(
    status: int, pairs: list[tuple[bytes, bytes]], body: bytes
) -> None:
    us, them = ends()
    number, sending = us.request(HTTP, (), {}, "waiter", credit=8)
    hears(them, sending)
    result = {"status": status, "headers": pairs, "body": body}
    send = them.answer_as_is if len(body) < INLINE else them.answer
    answer = hears(us, send(number, result))
    assert type(answer) is Answer
    arrived = unpack(answer.result, answer.buffers)
    assert check_status(arrived["status"]) == status
    assert [*map(tuple, check_headers(arrived["headers"]))] == pairs
    assert check_body(arrived["body"]) == body


# --- what comes instead ---------------------------------------------------------------------------


@given(packed=anything, frame=st.sampled_from(["", "websocket.send"]))
def test_whatever_comes_is_an_event_or_refused(packed: Any, frame: str) -> None:
    with suppress(UnfitEvent):
        assert isinstance(unpack_event(packed, "http.response.body", frame)["type"], str)


@given(
    packed=st.fixed_dictionaries(
        {"type": st.text()}, optional={"headers": anything, "status": anything, "body": anything}
    )
)
def test_whatever_an_event_holds_it_is_one_or_refused(packed: Any) -> None:
    try:
        event = unpack_event(packed, "http.response.body", "")
    except UnfitEvent:
        return
    if "status" in packed:
        assert 100 <= event["status"] <= 999
    for name, value in event.get("headers", ()):
        assert not set(b"\r\n\0") & {*name, *value}


@given(found=anything)
def test_whatever_headers_are_they_are_pairs_or_refused(found: Any) -> None:
    try:
        pairs = check_headers(found)
    except UnfitEvent:
        return
    assert all(type(name) is type(value) is bytes for name, value in pairs)


@given(pairs=headers, evil=st.sampled_from(b"\r\n\0"), data=st.data())
def test_no_header_begins_another(
    pairs: list[tuple[bytes, bytes]], evil: int, data: st.DataObject
) -> None:
    name, value = data.draw(st.tuples(header_octets, header_octets))
    broken = data.draw(
        st.sampled_from([(name + bytes([evil]), value), (name, bytes([evil]) + value)])
    )
    at = data.draw(st.integers(0, len(pairs)))
    with pytest.raises(UnfitEvent):
        check_headers([*pairs[:at], broken, *pairs[at:]])


def test_heads_have_a_limit() -> None:
    assert check_headers([(b"a", b"x" * (LONGEST_HEAD - 1))])
    with pytest.raises(UnfitEvent):
        check_headers([(b"a", b"x" * LONGEST_HEAD)])


@given(
    params=st.fixed_dictionaries(
        {}, optional={"scope": scopes | anything, "body": octets | anything, "more": anything}
    )
)
def test_whatever_is_no_request_is_refused_in_a_known_way(params: dict[str, Any]) -> None:
    with suppress(ValueError):
        http_request(1, params, 8)


@given(result=st.dictionaries(st.sampled_from(["routes", "application"]), anything))
def test_whatever_is_offered_is_an_offer_or_refused(result: dict[str, Any]) -> None:
    try:
        offer = read_offer(result)
    except UnfitEvent:
        return
    assert type(offer) is Offer
    assert offer.mount is None or type(offer.mount) is str


@given(
    routes=st.lists(
        st.fixed_dictionaries(
            {"method": st.text() | anything, "path": st.text() | anything},
            optional={"permissions": anything, "meta": anything},
        ),
        max_size=3,
    )
)
def test_whatever_route_is_offered_is_one_or_refused(routes: list[Any]) -> None:
    try:
        offer = read_offer({"routes": routes})
    except UnfitEvent:
        return
    for route in offer.routes:
        assert type(route.method) is type(route.path) is str
        assert type(route.meta) is dict


@given(body=anything, sizes=anything)
def test_whatever_pieces_come_they_are_such_or_refused(body: Any, sizes: Any) -> None:
    try:
        pieces = take_apart(body, sizes)
    except UnfitEvent:
        return
    assert b"".join(pieces) == body


@given(value=plain)
def test_plain_is_what_json_has(value: Any) -> None:
    assert is_plain(value)
    assert json.loads(json.dumps(value)) == value
    assert not is_plain([value, object()])
    assert not is_plain({"deep": {"in": (value, b"octets")}})
