"""Calls from threads and from an event loop, each of which is accounted for."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import Counter
from typing import Any

from plugins import CALL_TIMEOUT

from plugkeep import Host, Sandbox
from plugkeep.errors import PluginError

THREADS, TASKS = 6, 6
#: Seconds beyond its limit after which a call hangs; for a busy machine.
SLACK = 10.0


class Load:
    """Calls, as many as there is time for."""

    def __init__(self, host: Host, seed: int) -> None:
        self._sandboxes: list[Any] = [
            host.registry[name]
            for name in host.registry
            if isinstance(host.registry[name], Sandbox) and not name.startswith("level-0")
        ]
        self._over = threading.Event()
        self._lock = threading.Lock()
        self.made = 0
        self._came: Counter[str] = Counter()
        self._problems: list[str] = []
        self._threads = [
            threading.Thread(target=self._call, args=(random.Random(seed + number),), daemon=True)
            for number in range(THREADS)
        ]
        self._threads.append(threading.Thread(target=self._run_loop, args=(seed,), daemon=True))

    def begin(self) -> None:
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Have no more calls; those under way have their time."""
        self._over.set()
        end = time.monotonic() + CALL_TIMEOUT + SLACK
        for thread in self._threads:
            thread.join(max(end - time.monotonic(), 0.0))

    def problems(self) -> list[str]:
        found = self._problems[:20]
        hung = sum(thread.is_alive() for thread in self._threads)
        if hung:
            found.append(f"{hung} callers hang")
        if (lost := self.made - self._came.total()) != 0:
            found.append(f"{lost} calls are unaccounted for")
        return found

    def tally(self) -> str:
        return ", ".join(f"{count} {what}" for what, count in self._came.most_common())

    # --- one call -------------------------------------------------------------------------

    def _begun(self) -> float:
        with self._lock:
            self.made += 1
        return time.monotonic()

    def _ended(self, began: float, what: str, problem: str = "") -> None:
        took = time.monotonic() - began
        if not problem and took > CALL_TIMEOUT + SLACK:
            problem = f"a call took {took:.1f} s, and came to: {what}"
        with self._lock:
            self._came[what] += 1
            if problem:
                self._problems.append(problem)

    def _judge(self, began: float, what: str, wanted: Any, found: Any) -> None:
        right = found == wanted
        problem = "" if right else f"{what} of {wanted!r:.80} answered {found!r:.80}"
        self._ended(began, "answered" if right else "answered wrongly", problem)

    def _failed(self, began: float, what: str, error: BaseException) -> None:
        is_named = isinstance(error, PluginError)
        problem = "" if is_named else f"{what} raised {type(error).__name__}: {error}"
        self._ended(began, type(error).__name__, problem)

    # --- from threads, and tasks ------------------------------------------------------------

    def _call(self, dice: random.Random) -> None:
        while not self._over.is_set():
            sandbox, what = dice.choice(self._sandboxes), dice.choice(("echo", "add", "count"))
            number = dice.randrange(10**6)
            began = self._begun()
            try:
                if what == "echo":
                    self._judge(began, what, [number], sandbox.call("echo", [number]))
                elif what == "add":
                    self._judge(began, what, number + 1, sandbox.call("add", number, 1))
                else:
                    found = list(sandbox.stream("count", number % 50))
                    self._judge(began, what, list(range(number % 50)), found)
            except BaseException as error:
                self._failed(began, what, error)
                self._over.wait(0.005)  # a plugin that is down is not to be asked all the time

    def _run_loop(self, seed: int) -> None:
        asyncio.run(self._tasks(seed))

    async def _tasks(self, seed: int) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(TASKS):
                group.create_task(self._acall(random.Random(seed + 1000 + number)))

    async def _acall(self, dice: random.Random) -> None:
        while not self._over.is_set():
            sandbox, number = dice.choice(self._sandboxes), dice.randrange(10**6)
            what = dice.choice(("aecho", "acount"))
            began = self._begun()
            try:
                if what == "aecho":
                    self._judge(began, what, number, await sandbox.acall("echo", number))
                else:
                    found = [value async for value in sandbox.astream("count", number % 20)]
                    self._judge(began, what, list(range(number % 20)), found)
            except BaseException as error:
                self._failed(began, what, error)
                await asyncio.sleep(0.005)
