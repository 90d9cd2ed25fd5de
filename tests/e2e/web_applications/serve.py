"""serve.py KIND DESCRIPTOR: all applications of this folder, on a socket that listens already.

KIND is "in-process" or "sandboxed".
"""

from __future__ import annotations

import logging
import sys
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
        plugin = isolate(source, name=name) if kind == "sandboxed" else load(source)()
        host.registry.register(plugin)
    uvicorn.run(host.asgi(strict=True), fd=descriptor, http="h11", loop="asyncio", log_config=None)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
