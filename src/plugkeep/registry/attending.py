"""What a host does after a plugin's start and before its stop, where that takes an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter
from typing import Any, Protocol

from plugkeep.registry.calls import Call
from plugkeep.registry.ledger import START


class Attendant(Protocol):
    """Attends the lives of plugins; both are awaited in the event loop that drives them."""

    async def started(self, name: str, plugin: Any, /) -> None:
        """A plugin's start has returned. What this raises is why the start fails after all."""
        ...

    async def stopping(self, name: str, plugin: Any, /) -> None:
        """A plugin is about to be stopped. It is, whatever this raises, but its stop has failed."""
        ...


class Attended:
    """Puts the attendants between a campaign and its calls; for one campaign in one loop."""

    def __init__(self, launch: Callable[[Call], None], finished: Callable[[Call], object]) -> None:
        self._launch = launch
        self._finished = finished
        self._tasks: set[asyncio.Task[None]] = set()

    def launch(self, call: Call) -> None:
        """Begin a call; a stop when all attendants have done what they have to do before."""
        if call.step.method == "stop" and call.ledger.attendants:
            self._run(self._stop(call))
        else:
            self._launch(call)

    def finish(self, call: Call) -> None:
        """Pass on that a call has finished; a start when all attendants have done their part."""
        if call.step is START and call.error is None and call.ledger.attendants:
            self._run(self._start(call))
        else:
            self._finished(call)

    def cancel(self) -> None:
        """Give up what has not been done; the campaign has been given up."""
        for task in self._tasks:
            task.cancel()

    async def _start(self, call: Call) -> None:
        entry = call.entry
        try:
            left = None if call.limit is None else max(0.0, call.deadline - perf_counter())
            async with asyncio.timeout(left):
                for each in call.ledger.attendants:
                    await each.started(entry.name, entry.plugin)
        except TimeoutError:
            call.refusal = call.overdue()
        except Exception as error:
            call.refusal = error
        self._finished(call)

    async def _stop(self, call: Call) -> None:
        entry = call.entry
        for each in reversed(call.ledger.attendants):
            try:
                left = None if call.limit is None else max(0.0, call.deadline - perf_counter())
                async with asyncio.timeout(left):
                    await each.stopping(entry.name, entry.plugin)
            except Exception as error:
                call.refusal = call.refusal or error
        self._launch(call)

    def _run(self, coroutine: Any) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
