"""The registry's asynchronous forms, on asyncio.

A plain method runs on a thread of its own, as in the plain forms. An ``async def`` one runs in a
task that belongs to its plugin and lives from its start to its stop. So both run in the same task
and context, and whatever has to be left in the task that entered it (a task group, a cancel
scope, a timeout) can be entered by start and left by stop. A method that ignores being cancelled
holds up nobody: its task is left behind and cleared up when it returns.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing, suppress
from typing import TYPE_CHECKING

from plugkeep.errors import PluginError
from plugkeep.order import Frontier
from plugkeep.registry.attending import Attended
from plugkeep.registry.calls import (
    Call,
    clear_up,
    invoke,
    is_async,
    launch,
    release_line,
    spawn,
)
from plugkeep.registry.campaign import Campaign
from plugkeep.registry.ledger import STOP, Entry, Ledger, Step
from plugkeep.registry.turns import Operation, Turns, current, entered

if TYPE_CHECKING:
    from plugkeep.registry.recovery import Plan


@asynccontextmanager
async def turn(
    turns: Turns, verb: str, *, starts: bool = False, patience: float = math.inf
) -> AsyncIterator[Operation]:
    """Hold the turn, in this task; after so many seconds at the latest."""
    turns.refuse_inside(verb)
    operation = Operation(turns, verb, starts=starts)
    loop = asyncio.get_running_loop()
    gate = asyncio.Event()
    operation.wake = lambda: loop.call_soon_threadsafe(gate.set)
    try:
        if not turns.ask(operation):
            try:
                async with asyncio.timeout(None if patience == math.inf else patience):
                    await gate.wait()
            except TimeoutError:
                turns.seize(operation)
        with entered(operation):
            yield operation
    finally:
        turns.leave(operation)


async def driven(
    plan: Plan, perform: Callable[[Step, list[Entry]], Awaitable[list[PluginError]]]
) -> list[PluginError]:
    """Do what `plan` says."""
    errors: list[PluginError] = []
    with closing(plan), suppress(StopIteration):
        step, entries = next(plan)
        while True:
            came = await perform(step, entries)
            errors += came
            step, entries = plan.send(came)
    return errors


async def run(
    ledger: Ledger, step: Step, agenda: Frontier, operation: Operation, workers: int
) -> list[PluginError]:
    """Take plugins through a step without ever blocking the loop."""
    loop = asyncio.get_running_loop()
    finished: asyncio.Queue[Call | None] = asyncio.Queue()
    operation.nudge = lambda: loop.call_soon_threadsafe(finished.put_nowait, None)
    attended = Attended(_launch, finished.put_nowait)
    campaign = Campaign(
        ledger,
        step,
        agenda,
        operation,
        launch=attended.launch,
        refuse=lambda _entry, _step: None,
        notify=lambda call: loop.call_soon_threadsafe(attended.finish, call),
        workers=workers,
    )
    try:
        while campaign.advance():
            try:
                patience = campaign.patience()
                async with asyncio.timeout(patience if patience < float("inf") else None):
                    call = await finished.get()
            except TimeoutError:
                call = None
            if call is None:
                campaign.expire()
            else:
                campaign.settle(call)
    except BaseException as cause:
        campaign.give_up(cause)
        attended.cancel()
        raise
    if campaign.fatal is not None:
        raise campaign.fatal
    return campaign.errors


def _launch(call: Call) -> None:
    entry = call.entry
    if not is_async(entry, call.step):
        launch(call)
        return
    if not (isinstance(entry.line, PluginTask) and entry.line.is_usable()):
        release_line(entry)
        entry.line = PluginTask(entry.name)
    entry.line.submit(call)


class PluginTask:
    """The task in which one plugin's asynchronous start and stop both run."""

    def __init__(self, plugin: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._work: asyncio.Queue[tuple[Call, Operation | None] | None] = asyncio.Queue()
        self._running: Call | None = None
        self._cancelled = False
        self._task = self._loop.create_task(self._serve(), name=f"plugkeep-{plugin}")

    def is_usable(self) -> bool:
        """Say whether calls can be submitted from the running loop."""
        return self._loop is asyncio.get_running_loop() and not self._task.done()

    def submit(self, call: Call) -> None:
        """Have a call run, as part of the current operation, after those submitted before."""
        call.cancel = lambda: self._cancel(call)
        self._work.put_nowait((call, current()))

    def close(self) -> None:
        """Let the task end once it has run what has been submitted; from any thread."""
        try:
            self._loop.call_soon_threadsafe(self._work.put_nowait, None)
        except RuntimeError:  # the loop is closed, and the task is gone with it
            return

    def _cancel(self, call: Call) -> None:
        if self._running is call:
            self._cancelled = True
            self._task.cancel()

    async def _serve(self) -> None:
        while (work := await self._work.get()) is not None:
            self._running, operation = work
            with entered(operation):
                await self._run(self._running)
            self._running = None
            del work  # or it would keep the plugin alive until the next one

    async def _run(self, call: Call) -> None:
        if call.abandoned:  # before its turn came
            call.returned_late(None)
            return
        error = await _outcome(call.entry, call.step)
        asked = self._cancelled
        if asked:
            self._cancelled = False
            self._task.uncancel()
        # That of a task it awaited, or a loop that shuts down: the driver is told by the loop.
        call.cancelled = isinstance(error, asyncio.CancelledError)
        if call.finish(error):
            return
        if asked and call.cancelled:
            call.returned_late(None)  # it gave up when asked to
        else:
            await self._clear_up(call, error)

    async def _clear_up(self, call: Call, error: BaseException | None) -> None:
        if call.step.method == "stop" or error is not None:
            call.returned_late(error)
        elif is_async(call.entry, STOP):
            call.returned_late(await _outcome(call.entry, STOP))
        else:
            spawn(lambda: clear_up(call, None), f"plugkeep-{call.entry.name}-late")


async def _outcome(entry: Entry, step: Step) -> BaseException | None:
    try:
        await invoke(entry, step)
    except BaseException as raised:
        return raised
    return None
