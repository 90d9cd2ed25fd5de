"""serve.py KIND DESCRIPTOR: all applications of this folder, on a socket that listens already.

KIND is "in-process" or "sandboxed", both by ASGI, or "by-wsgi": sandboxed, under a WSGI server.
"""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
from pathlib import Path

import uvicorn

from plugkeep import Host, Registry, isolate, load

SOURCES = (
    "python:starlette_application",
    "python:fastapi_application",
    "python:flask_application",
    "python:django_application:Asgi",
    "python:django_application:Wsgi",
)
NAMES = ("starlette", "fastapi", "flask", "django", "django-wsgi")


def main(kind: str, descriptor: int) -> None:
    sys.path.insert(0, str(Path(__file__).parent))
    logging.basicConfig(level="WARNING", format="%(name)s: %(message)s")
    host = Host(Registry(workers=2))
    for source, name in zip(SOURCES, NAMES, strict=True):
        plugin = load(source)() if kind == "in-process" else isolate(source, name=name)
        host.registry.register(plugin)
    if kind == "by-wsgi":
        serve_by_wsgi(host, descriptor)
        return
    uvicorn.run(host.asgi(strict=True), fd=descriptor, http="h11", loop="asyncio", log_config=None)


def serve_by_wsgi(host: Host, descriptor: int) -> None:
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel("WARNING")
    app = host.wsgi()
    with host, app:
        server = make_server("127.0.0.1", 0, app, threaded=True, fd=descriptor)
        with suppress(KeyboardInterrupt):
            server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
