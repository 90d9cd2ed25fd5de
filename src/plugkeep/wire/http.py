"""HTTP on the wire: how ASGI's scopes and events travel, and come out again at the other end.

One exchange, a request and its response or a WebSocket, is one call of `HTTP` by the host. What
the application sends are the chunks of that call; what it receives, beyond the first of the body,
are the chunks of a call of `RECEIVE` that the plugin makes within it. So either side takes only
what it has given credit for. A response that is there at once is the result, and no chunk at all.

What HTTP has as octets, such as headers, is bytes here, too, and needs a codec that has such.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, Final, NamedTuple

#: The host has a request, or a WebSocket, for the plugin's application.
HTTP: Final = "$/http"
#: The plugin's application wants to receive more of it.
RECEIVE: Final = "$/receive"

#: A body that is shorter travels in its message.
INLINE: Final = 16 * 1024
#: So many messages of an exchange may be under way in one direction.
WINDOW: Final = 8
#: A piece of a body that is longer is sent in several, so that eight of them are not too much.
LONGEST_PIECE: Final = 256 * 1024
#: Bytes that the headers of a request, or a response, may have in all.
LONGEST_HEAD: Final = 64 * 1024

Event = dict[str, Any]
#: An event as it travels: a piece of a body or a message as bytes or text, all others as a map.
Packed = bytes | str | dict[str, Any]

#: Members of a scope that travel as they are; all others are this process's own.
_MEMBERS: Final = (
    "type",
    "asgi",
    "http_version",
    "method",
    "scheme",
    "path",
    "raw_path",
    "query_string",
    "root_path",
    "app_root_path",
    "headers",
    "client",
    "server",
    "subprotocols",
)
#: Of the extensions of ASGI those that are about events. (Others name files, or descriptors.)
_EXTENSIONS: Final = frozenset(
    {
        "http.response.debug",
        "http.response.early_hint",
        "http.response.push",
        "http.response.trailers",
        "websocket.http.response",
        "tls",
    }
)
_PLAIN: Final = (float, bool, type(None))
#: Values within values, to this depth, travel with a scope.
_DEEPEST: Final = 32
#: What would begin a header of its own, or end the head, where a server does not look.
_breaks_out = re.compile(b"[\r\n\0]").search


class UnfitEvent(ValueError):
    """Raised for what no application may send; the text is the end of a sentence."""


def pack_scope(scope: Mapping[str, Any]) -> dict[str, Any]:
    """Return the members of `scope` that an application in another process can use."""
    packed = {key: scope[key] for key in _MEMBERS if key in scope}
    if extensions := scope.get("extensions"):
        packed["extensions"] = {
            name: members
            for name, members in extensions.items()
            if name in _EXTENSIONS and is_plain(members)
        }
    if params := scope.get("path_params"):
        packed["path_params"] = {key: value for key, value in params.items() if is_plain(value)}
    if state := scope.get("state"):
        packed["state"] = {key: value for key, value in state.items() if is_plain({key: value})}
    return packed


def is_plain(value: Any, depth: int = _DEEPEST) -> bool:
    """Say whether `value` is data, all the way down, as JSON has it, and can travel."""
    kind = type(value)
    if kind is str:  # without half a character
        return bool(value.isascii() or value.encode("utf-8", "ignore").decode() == value)
    if kind is int:
        return bool(-(2**63) <= value < 2**64)
    if kind in _PLAIN:
        return True
    if not depth:  # or it holds itself
        return False
    if kind is dict:
        texts = all(type(key) is str and is_plain(key) for key in value)
        return texts and all(is_plain(each, depth - 1) for each in value.values())
    return (kind is list or kind is tuple) and all(is_plain(each, depth - 1) for each in value)


# --- what a plugin offers ---------------------------------------------------------------------


class OfferedRoute(NamedTuple):
    """A route of a plugin's, as it has announced it."""

    method: str
    path: str
    permissions: tuple[str, ...]
    meta: dict[str, Any]


class Offer(NamedTuple):
    """What a plugin offers by HTTP. `mount`: where its application is to be, if it has one."""

    routes: tuple[OfferedRoute, ...] = ()
    mount: str | None = None

    def find(self, method: str, path: str) -> int | None:
        """Return the number of a route; None: there is none with this method and path."""
        for index, route in enumerate(self.routes):
            if (route.method, route.path) == (method, path):
                return index
        return None


def read_offer(result: dict[str, Any]) -> Offer:
    """Return what the answer to a start says of HTTP. Raises UnfitEvent."""
    routes, application = result.get("routes", []), result.get("application")
    if not isinstance(routes, list):
        raise UnfitEvent(f"announced routes {routes!r:.200}, which are no array")
    mount = None
    if application is not None:
        mount = application.get("mount") if isinstance(application, dict) else None
        if not isinstance(mount, str):
            raise UnfitEvent(f"announced the application {application!r:.200} without its mount")
    return Offer(tuple(map(_read_route, routes)), mount)


def _read_route(said: Any) -> OfferedRoute:
    match said:
        case {"method": str(method), "path": str(path)}:
            permissions, meta = said.get("permissions", []), said.get("meta", {})
            if isinstance(permissions, list) and isinstance(meta, dict):
                return OfferedRoute(method, path, tuple(permissions), meta)
    raise UnfitEvent(f"announced the route {said!r:.200}, which is none")


# --- events -----------------------------------------------------------------------------------


def pack_event(event: Event) -> Packed:
    """Return an event, of whichever direction, as it travels. Raises UnfitEvent."""
    kind = event["type"]
    if kind in _BODIES and event.get("more_body", False):
        return octets(event.get("body", b""))
    if kind in _FRAMES:
        if (data := event.get("bytes")) is not None:
            return octets(data)
        if not isinstance(text := event.get("text"), str):
            raise UnfitEvent(f"{kind!r} was sent with text {text!r:.80}, which is no str")
        return text
    return dict(event)


def octets(data: Any) -> bytes:
    """Return what an application gives as bytes. Raises UnfitEvent where it is no such thing."""
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise UnfitEvent(f"{data!r:.80} was sent, which is not bytes")
    return bytes(data)


def unpack_event(packed: Any, body: str, frame: str) -> Event:
    """Return an event that has travelled; pieces of a body are of type `body`, messages `frame`.

    Raises UnfitEvent where it is none that may be.
    """
    if isinstance(packed, (bytes, bytearray, memoryview)):
        if frame:
            return {"type": frame, "bytes": bytes(packed)}
        return {"type": body, "body": packed, "more_body": True}
    if isinstance(packed, str) and frame:
        return {"type": frame, "text": packed}
    if not isinstance(packed, dict) or not isinstance(packed.get("type"), str):
        raise UnfitEvent(f"sent {packed!r:.200}, which is no event of ASGI")
    event: Event = dict(packed)
    if "headers" in event:
        check_headers(event["headers"])
    if "status" in event:
        check_status(event["status"])
    return event


def take_apart(body: Any, sizes: Any) -> list[bytes]:
    """Return the pieces of a body that have travelled together. Raises UnfitEvent."""
    pieces: list[bytes] = []
    at = 0
    if isinstance(body, bytes) and isinstance(sizes, list):
        for size in sizes:
            if type(size) is not int or size < 1:
                break
            pieces.append(body[at : at + size])
            at += size
        else:
            if at == len(body):
                return pieces
    raise UnfitEvent(f"sent pieces of a body of the sizes {sizes!r:.80}, which it has not")


def check_headers(headers: Any) -> list[Sequence[bytes]]:
    """Return `headers` if they are such: pairs of octets. Raises UnfitEvent.

    Servers do not all look whether a value begins a header of its own, or ends the head.
    """
    try:
        if not {2}.issuperset(map(len, headers)):
            raise TypeError  # noqa: TRY301  # as where it has no length
        octets = b"".join(chain.from_iterable(headers))
    except TypeError:
        raise UnfitEvent(f"sent headers {headers!r:.200}, which are no pairs of bytes") from None
    if _breaks_out(octets):
        raise UnfitEvent(f"sent headers with a line break or a null in them: {headers!r:.200}")
    if len(octets) > LONGEST_HEAD:
        raise UnfitEvent(f"sent headers of {len(octets)} bytes, over the limit of {LONGEST_HEAD}")
    return headers  # type: ignore[no-any-return]


def check_status(status: object) -> int:
    """Return `status` if it is one. Raises UnfitEvent."""
    if type(status) is not int or not 100 <= status <= 999:  # three digits, RFC 9110, 15
        raise UnfitEvent(f"sent the status {status!r:.80}")
    return status


def check_body(body: object) -> bytes:
    """Return `body` if it is one. Raises UnfitEvent."""
    if not isinstance(body, bytes):
        raise UnfitEvent(f"sent the body {body!r:.80}, not bytes")
    return body


_BODIES: Final = frozenset({"http.request", "http.response.body"})
_FRAMES: Final = frozenset({"websocket.receive", "websocket.send"})
