"""A plugin is reloaded while threads and tasks call it all the time: nothing is dropped."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from plugkeep import Host

RELOADS = 6

SHOP = """
import os
from plugkeep import expose

class PluginFactory:
    name = "shop"
    def start(self): ...
    def stop(self): ...

    @expose
    def which(self, value):
        return [VERSION, value]

    @expose
    async def awhich(self, value):
        return [VERSION, value]

    @expose(threaded=True)
    def twhich(self, value):
        return [VERSION, value]

    @expose
    def count(self, upto: int):
        yield from range(upto)
"""


def write(folder: Path, version: int) -> None:
    (folder / "shop.py").write_text(SHOP.replace("VERSION", str(version)))


class Callers:
    """Threads and tasks that call until they are told to end, and what went wrong."""

    def __init__(self) -> None:
        self.over = threading.Event()
        self.wrong: list[Any] = []
        self.counts: dict[str, int] = {}
        self._threads: list[threading.Thread] = []

    def begin(self, *doings: Callable[[int], object]) -> None:
        for number, doing in enumerate(doings):
            thread = threading.Thread(target=self._repeat, args=(doing, number))
            self._threads.append(thread)
            thread.start()

    def _repeat(self, doing: Callable[[int], object], number: int) -> None:
        name = f"{doing.__name__} {number}"
        while not self.over.is_set():
            number += 100
            try:
                if (found := doing(number)) is not True:
                    self.wrong.append((name, number, found))
            except BaseException as error:
                self.wrong.append((name, number, error))
                return
            self.counts[name] = self.counts.get(name, 0) + 1

    def end(self) -> None:
        self.over.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive(), "a caller hangs"


@pytest.mark.parametrize("limits", ["", "max_calls = 4\nmax_waiting = 100\n"])
def test_every_call_is_answered_once_and_rightly(tmp_path, limits):
    write(tmp_path, 1)
    config = tmp_path / "plugkeep.toml"
    config.write_text(
        '[plugins.shop]\nsource = "file:shop.py"\nisolation = "process"\n'
        f'drain_timeout = "60s"\n{limits}'
    )
    callers = Callers()

    def call(number: int) -> bool:
        return bool(shop.call("which", number)[1] == number)

    def call_threaded(number: int) -> bool:
        return bool(shop.call("twhich", number, timeout=60)[1] == number)

    def call_asynchronous(number: int) -> bool:
        return bool(shop.call("awhich", number)[1] == number)

    def stream(number: int) -> bool:
        return list(shop.stream("count", number % 50)) == list(range(number % 50))

    def map_(number: int) -> bool:
        numbers = range(number, number + 20)
        return [each for _, each in shop.map("which", numbers)] == list(numbers)

    def loop(number: int) -> bool:
        async def main() -> bool:
            found = await asyncio.gather(
                *(shop.acall("which", number + each) for each in range(10))
            )
            streamed = [each async for each in shop.astream("count", 5)]
            mapped = [each async for _, each in shop.amap("which", range(5))]
            wanted = [number + each for each in range(10)]
            return [each for _, each in found] == wanted and streamed == mapped == [*range(5)]

        return asyncio.run(main())

    with Host.from_file(config) as host:
        shop: Any = host.registry["shop"]
        callers.begin(call, call, call_threaded, call_asynchronous, stream, map_, map_, loop)
        try:
            for version in range(2, RELOADS + 2):
                write(tmp_path, version)
                host.reload("shop")
                assert shop.call("which", 0) == [version, 0]
        finally:
            callers.end()
    assert callers.wrong == []
    assert len(callers.counts) == 8, callers.counts
