"""A request by HTTP as the plugin reads it: typed, so that one step decodes and checks it.

See `plugkeep.wire.http` for what travels.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Required, TypedDict

import msgspec
from msgspec import Meta, Struct

from plugkeep.wire.frames import Frames
from plugkeep.wire.http import HTTP
from plugkeep.wire.messages import Id


class Scope(TypedDict, total=False):
    """ASGI's scope. Members that are none of these are left out."""

    type: Required[Literal["http", "websocket"]]
    asgi: dict[str, Any]
    http_version: str
    method: str
    scheme: str
    path: Required[str]
    raw_path: bytes | None
    query_string: bytes
    root_path: str
    app_root_path: str
    headers: Required[list[tuple[bytes, bytes]]]
    client: tuple[Any, ...] | None
    server: tuple[Any, ...] | None
    subprotocols: list[str]
    extensions: dict[str, Any]
    state: dict[str, Any]
    #: Which of the plugin's routes it is for, and what has been found in the path.
    route: int
    path_params: dict[str, Any]


class HttpParams(Struct, gc=False):
    """Of ``$/http``. What a later version may add is left out."""

    scope: Scope
    body: bytes = b""
    more: bool = False


class HttpRequest(Struct, tag_field="jsonrpc", tag="2.0", forbid_unknown_fields=True, gc=False):
    """A call of ``$/http`` without anything special about it."""

    id: Id
    method: Literal["$/http"]
    params: HttpParams
    credit: Annotated[int, Meta(ge=1)]


_decode = msgspec.msgpack.Decoder(HttpRequest).decode
_decode_batch = msgspec.msgpack.Decoder(list[HttpRequest]).decode


def http_requests(codec: Frames, data: bytes) -> list[HttpRequest]:
    """Return the requests that `data` is, if it is nothing else, in whole frames; else none."""
    return codec.only(data, _decode, _decode_batch)


def http_request(number: Id, params: dict[str, Any], credit: int) -> HttpRequest:
    """Return the request that has come in another way. Raises ValueError where it is none."""
    try:
        return HttpRequest(number, HTTP, msgspec.convert(params, HttpParams), credit)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None
