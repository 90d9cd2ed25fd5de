"""serve.py DESCRIPTOR OPTIONS NAME...: the application of naughty.py in plugins of these names.

On a socket that listens already. OPTIONS are, in JSON: "asgi", for `Host.asgi`; "isolate", for the
sandboxes; null in its place has the plugins run in this process.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

import uvicorn

from plugkeep import Host, isolate, load

SOURCE = f"file:{Path(__file__).with_name('naughty.py')}:Naughty"


def main(descriptor: int, options: dict[str, Any], names: list[str]) -> None:
    logging.basicConfig(level="INFO", format="%(name)s: %(message)s")
    logging.getLogger("uvicorn").setLevel("ERROR")
    host = Host()
    for name in names:
        if (limits := options["isolate"]) is not None:
            plugin: Any = isolate(SOURCE, name=name, **limits)
        else:
            plugin = load(SOURCE)()
            plugin.name = name
        host.registry.register(plugin)
    uvicorn.run(
        host.asgi(strict=True, **options["asgi"]),
        fd=descriptor,
        http="h11",
        loop="asyncio",
        log_config=None,
        timeout_graceful_shutdown=0,  # requests that are left hanging are not waited for
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3:])
