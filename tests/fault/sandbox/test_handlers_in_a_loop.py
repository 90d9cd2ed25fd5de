"""A signal's handler that calls a plugin while the thread that it interrupts runs an event loop."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PLUGIN = """
from plugkeep import expose

class PluginFactory:
    name = "shop"
    def start(self): ...
    def stop(self): ...
    @expose
    def echo(self, value): return value
    @expose
    def count(self, to): yield from range(to)
"""

SCRIPT = """
import asyncio, faulthandler, signal, sys
from plugkeep import isolate

faulthandler.dump_traceback_later(60, exit=True)  # hung: show where
got = []

def call(*_):
    got.append(shop.call("echo", len(got)) == len(got))
    signal.setitimer(signal.ITIMER_REAL, 0.0005)  # not before, or they pile up

async def counted():
    return [each async for each in shop.astream("count", 500)]

async def main():
    for n in range(300):
        assert await shop.acall("echo", n) == n
    many = [shop.acall("echo", n) for n in range(500)]
    assert await asyncio.gather(*many) == list(range(500))
    assert await asyncio.gather(*[counted() for _ in range(3)]) == [list(range(500))] * 3
    assert await shop.acall("echo", b"x" * 1_000_000) == b"x" * 1_000_000
    mapped = [each async for each in shop.amap("echo", range(1000))]
    assert mapped == list(range(1000))
    beside = asyncio.to_thread(lambda: [shop.call("echo", n) for n in range(300)])
    mine = [await shop.acall("echo", n) for n in range(300)]
    assert mine == await beside

with isolate(sys.argv[1]) as shop:
    signal.signal(signal.SIGALRM, call)
    signal.setitimer(signal.ITIMER_REAL, 0.0005)
    asyncio.run(main())
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    assert shop.call("echo", 1) == 1
assert got and all(got)
print("held after", len(got))
"""


def test_a_signals_handler_may_call_while_a_loop_runs(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(PLUGIN)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "shop.py")],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.startswith("held after")
