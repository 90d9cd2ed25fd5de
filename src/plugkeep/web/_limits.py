"""Limits of what clients may send, for all that a table serves."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Any

from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope

from plugkeep.wire.http import LONGEST_HEAD


def check_head(scope: Scope) -> None:
    """Raise HTTPException where a request has more in its head than may be.

    Not every server looks, and what runs in another process is sent all of it.
    """
    if sum(map(len, chain.from_iterable(scope["headers"]))) > LONGEST_HEAD:
        raise HTTPException(431, f"the headers have more than {LONGEST_HEAD} bytes in all")


class Limited:
    """The receiving side of a request whose body may have so many bytes.

    An application that has been sent more hears that the client has gone.
    """

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive = receive
        self._limit = limit
        self._size = 0
        self.is_exceeded = False

    def refuse(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Say whether the body is announced as too long."""
        for name, value in headers:
            if name == b"content-length" and value.isdigit() and int(value[:20]) > self._limit:
                self.is_exceeded = True
        return self.is_exceeded

    async def __call__(self) -> Message:
        """See ASGI."""
        if self.is_exceeded:
            return {"type": "http.disconnect"}
        event = await self._receive()
        self._size += len(event.get("body", b""))
        if self._size > self._limit:
            self.is_exceeded = True
            return {"type": "http.disconnect"}
        return event

    @property
    def error(self) -> HTTPException:
        """What the client is told."""
        return HTTPException(413, f"the body has more than {self._limit} bytes")


def check_limit(limit: Any) -> int | None:
    """Return `limit` if it is a number of bytes, or None for no limit, else raise ValueError."""
    if limit is None or (type(limit) is int and limit >= 0):
        return limit
    raise ValueError(f"max_body is {limit!r}; it takes a number of bytes, or None for no limit")
