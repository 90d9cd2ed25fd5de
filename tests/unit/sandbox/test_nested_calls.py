"""Calls within calls: the plugin calls its host, whose handler calls the plugin again."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from plugkeep import isolate

SHOP = """
from typing import Any
from plugkeep import expose

class PluginFactory:
    name = "shop"
    host: Any

    def start(self): ...
    def stop(self): ...

    @expose
    def echo(self, value):
        return value

    @expose
    async def count(self, number: int):
        for each in range(number):
            yield each

    @expose
    def on_main(self):
        return self.host.again()

    @expose(threaded=True)
    def on_a_thread(self):
        return self.host.again()

    @expose
    async def on_the_loop(self):
        return await self.host.acall("again")
"""


@pytest.mark.parametrize("max_calls", [None, 1])
@pytest.mark.parametrize("method", ["on_main", "on_a_thread", "on_the_loop"])
def test_a_handler_calls_the_main_thread_time_and_again(
    tmp_path: Path, method: str, max_calls: int | None
) -> None:
    """Whoever reads for the plugin meanwhile must not keep its main thread from its work."""
    (tmp_path / "shop.py").write_text(SHOP)

    def again() -> list[Any]:
        found: list[Any] = []
        for number in range(3):
            found.append(shop.call("echo", number))
            found += shop.map("echo", [number])
            found += shop.stream("count", 1)
        return found

    shop: Any = isolate(
        "file:shop.py",
        base=tmp_path,
        grants={"again": again},
        max_calls=max_calls,
        max_waiting=None if max_calls is None else 100,
        call_timeout=60,
    )
    wanted = [0, 0, 0, 1, 1, 0, 2, 2, 0]
    with shop, ThreadPoolExecutor(4) as threads:
        assert [shop.call(method) for _ in range(10)] == [wanted] * 10
        calls = [threads.submit(shop.call, method) for _ in range(20)]
        assert [each.result() for each in calls] == [wanted] * 20
