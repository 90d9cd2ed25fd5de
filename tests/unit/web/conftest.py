"""What the tests of this folder share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest

Ask = Callable[..., httpx.Response]


@pytest.fixture
def ask() -> Ask:
    """Return a function that sends one request to an ASGI application and returns the answer."""

    def ask(app: Any, path: str, method: str = "GET", **options: Any) -> httpx.Response:
        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(app=app)
            async with httpx.AsyncClient(transport=transport, base_url="http://host") as client:
                return await client.request(method, path, **options)

        return asyncio.run(send())

    return ask
