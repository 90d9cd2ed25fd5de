"""The web server of ``plugkeep run --serve``: a plugin like the others, on uvicorn."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
from typing import TYPE_CHECKING, Any

import click

from plugkeep.errors import MissingExtraError

if TYPE_CHECKING:
    from plugkeep.host import Host

#: Seconds that requests under way have to end when the server stops.
_GRACE = 3

_address = re.compile(r"(?:(?P<host>\[[^\]]+\]|[^:\[\]]*):)?(?P<port>\d{1,5})").fullmatch


class Address(click.ParamType):  # type: ignore[type-arg]  # not generic in older ones
    """``HOST:PORT``, or a port of this machine alone."""

    name = "address"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        found = _address(value)
        if found is None or int(found["port"]) > 65535:
            self.fail(f"{value!r} is no HOST:PORT, such as 127.0.0.1:8000 or 8000", param, ctx)
        return (found["host"] or "127.0.0.1").strip("[]"), int(found["port"])


class Size(click.ParamType):  # type: ignore[type-arg]  # not generic in older ones
    """A number of bytes, such as ``10MiB``."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        from plugkeep.units import parse_size

        try:
            return parse_size(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class WebServer:
    """Serves the routes of all plugins while it runs.

    It is asynchronous, so that asynchronous plugins and their handlers share one event loop.
    """

    name = "web-server"

    def __init__(self, host: Host, address: tuple[str, int], max_body: int | None = None) -> None:
        try:
            self._app = host.asgi(max_body=max_body)
        except MissingExtraError as error:
            raise _missing(error.source) from error
        self._address = address
        self.url = ""

    async def start(self) -> None:
        try:
            from uvicorn import Config
        except ModuleNotFoundError as error:
            raise _missing("uvicorn") from error
        logging.getLogger("uvicorn.error").setLevel(logging.WARNING)  # the rest is told already
        family = socket.AF_INET6 if ":" in self._address[0] else socket.AF_INET
        listener = socket.create_server(self._address, family=family)
        self.url = _url(listener)
        config = Config(
            self._app,
            lifespan="off",  # plugins start and stop as any others do
            log_config=None,
            timeout_graceful_shutdown=_GRACE,
        )
        self._server, ready = _make_server(config)
        self._serving = asyncio.create_task(self._server.serve(sockets=[listener]))
        await ready.wait()

    async def stop(self) -> None:
        self._server.should_exit = True
        await self._serving


def _missing(package: str) -> MissingExtraError:
    return MissingExtraError(
        f"serving needs {package}, which is not installed; "
        "install it with: pip install 'plugkeep[serve]'",
        source=package,
    )


def _make_server(config: Any) -> tuple[Any, asyncio.Event]:
    """Return a server, and an event that is set once it serves."""
    from uvicorn import Server

    ready = asyncio.Event()

    class Telling(Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            ready.set()

    return Telling(config), ready


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
