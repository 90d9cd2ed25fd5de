"""serve.py DESCRIPTOR NAME...: the application of naughty.py in as many sandboxes, of these names.

On a socket that listens already.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import uvicorn

from plugkeep import Host, isolate

SOURCE = f"file:{Path(__file__).with_name('naughty.py')}:Naughty"


def main(descriptor: int, names: list[str]) -> None:
    logging.basicConfig(level="INFO", format="%(name)s: %(message)s")
    logging.getLogger("uvicorn").setLevel("ERROR")
    host = Host()
    for name in names:
        host.registry.register(isolate(SOURCE, name=name))
    uvicorn.run(
        host.asgi(strict=True),
        fd=descriptor,
        http="h11",
        loop="asyncio",
        log_config=None,
        timeout_graceful_shutdown=0,  # requests that are left hanging are not waited for
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
