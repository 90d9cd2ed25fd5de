"""The lifespan of an ASGI application: begun after its plugin's start, ended before its stop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from plugkeep.errors import LifespanError

log = logging.getLogger("plugkeep.web")

#: Seconds that an application has for returning once its shutdown is complete.
_GRACE = 0.2
#: What an application answers a step with.
_ENDS = ("complete", "failed")
#: As `starlette.types` has it, without importing that.
Application = Callable[[Any, Any, Any], Awaitable[None]]


class Lifespan:
    """Runs an application's lifespan in a task of its own, on asyncio's loop that runs here.

    An application that raises before it has answered has none, as servers understand it.
    """

    def __init__(self, application: Application, plugin: str) -> None:
        #: What the application has put there is part of the scope of each request.
        self.state: dict[str, Any] = {}
        self._application = application
        self._plugin = plugin
        self._to_receive: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._step = ""
        self._has_answered = False
        self._answer: asyncio.Future[dict[str, Any] | None] | None = None
        self._task: asyncio.Task[None] | None = None

    async def startup(self) -> None:
        """Begin it, and wait until the application is ready. Raises LifespanError."""
        self._task = asyncio.create_task(self._run(), name=f"plugkeep-lifespan-{self._plugin}")
        try:
            answer = await self._ask("startup")
        except BaseException:
            self._task.cancel()
            raise
        if answer is not None and answer["type"] == "lifespan.startup.failed":
            # It should end by itself now; nobody will ever ask it to.
            await asyncio.wait({self._task}, timeout=_GRACE)
            self._task.cancel()
            raise self._failed("startup", answer)

    async def shutdown(self) -> None:
        """End it, and wait for that. Raises LifespanError."""
        if self._task is None or self._task.done():
            return
        answer = await self._ask("shutdown")
        if answer is not None and answer["type"] == "lifespan.shutdown.failed":
            raise self._failed("shutdown", answer)
        await asyncio.wait({self._task}, timeout=_GRACE)
        self._task.cancel()

    def abandon(self) -> None:
        """Have it end without being waited for; from any thread."""
        task = self._task
        if task is not None:
            with suppress(RuntimeError):  # the loop has been closed, and the task with it
                task.get_loop().call_soon_threadsafe(task.cancel)

    async def _ask(self, what: str) -> dict[str, Any] | None:
        """Return what the application answers; None: nothing, and it has ended."""
        self._step = what
        self._answer = asyncio.get_running_loop().create_future()
        self._to_receive.put_nowait({"type": f"lifespan.{what}"})
        return await self._answer

    async def _run(self) -> None:
        scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self.state,
        }
        try:
            await self._application(scope, self._to_receive.get, self._send)
        except Exception as error:
            if not self._has_answered:  # else it is known already
                log.debug("the application of plugin %r has no lifespan: %r", self._plugin, error)
        finally:
            self._tell(None)

    async def _send(self, event: dict[str, Any]) -> None:
        self._has_answered = True
        if event.get("type") not in [f"lifespan.{self._step}.{end}" for end in _ENDS]:
            event = {"type": f"lifespan.{self._step}.failed", "message": f"it sent {event!r:.200}"}
        self._tell(event)

    def _tell(self, answer: dict[str, Any] | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(answer)

    def _failed(self, what: str, answer: dict[str, Any]) -> LifespanError:
        reason = str(answer.get("message") or "it says no reason").rstrip()
        return LifespanError(
            f"the {what} of the application of plugin {self._plugin!r} failed: {reason}",
            plugin=self._plugin,
        )
