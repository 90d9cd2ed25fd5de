"""The reference plugin, by our own means: what `plugkeep.runner` serves."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from plugkeep import current_call, expose


class Reference:
    name = "reference"
    config: Any = None
    host: Any = None

    def start(self) -> None:
        self._fail_if("fail_start")

    def stop(self) -> None:
        self._fail_if("fail_stop")

    def _fail_if(self, key: str) -> None:
        if isinstance(self.config, dict) and key in self.config:
            raise ValueError(self.config[key])

    @expose
    def echo(self, value: Any) -> Any:
        return value

    @expose
    def add(self, a: float, b: float = 1) -> float:
        return a + b

    @expose
    def options(self, **options: Any) -> dict[str, Any]:
        return options

    @expose
    def settings(self) -> Any:
        return self.config

    @expose
    def fail(self, message: str) -> None:
        raise ValueError(message)

    @expose
    def count(self, n: int, fail: str | None = None) -> Iterator[int]:
        yield from range(n)
        if fail is not None:
            raise ValueError(fail)

    @expose
    async def wait(self) -> None:
        current_call().progress("waiting")
        await asyncio.Event().wait()

    @expose
    def log(self, level: str, message: str) -> None:
        import logging

        logging.getLogger("reference").log(getattr(logging, level.upper()), message)

    @expose
    def say(self, text: str) -> None:
        print(text)

    @expose
    def blob(self, n: int) -> bytes:
        return bytes(range(256)) * (n // 256) + bytes(range(n % 256))

    @expose
    def size(self, data: bytes) -> int:
        return len(data)

    @expose
    def ask_host(self, method: str, *args: Any) -> Any:
        return self.host.call(method, *args)


PluginFactory = Reference
