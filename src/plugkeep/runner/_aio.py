"""The event loop of a plugin that has anything asynchronous, on a thread of its own."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import suppress
from contextvars import Context
from typing import TYPE_CHECKING, Any, Final

from plugkeep.channel._sides import side_of
from plugkeep.errors import CallCancelledError
from plugkeep.runner._calls import Call, nothing
from plugkeep.runner._streams import stream_here

if TYPE_CHECKING:
    from plugkeep.channel._sides import Side
    from plugkeep.channel.exposed import ExposedMethod
    from plugkeep.plugin import Plugin
    from plugkeep.runner.runner import Runner

#: Seconds that tasks have to end in, once they have been cancelled for good.
_LAST_GRACE: Final = 1.0

log = logging.getLogger("plugkeep.runner")

Ended = Callable[[BaseException | None], None]


class LoopThread:
    """An event loop on a thread of its own. Its methods may be called from any thread."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()  # the loop itself forgets them
        self._stop_asked: asyncio.Future[Ended] | None = None
        self._is_over = False
        #: The loop's at the channel, while it reads what the host says.
        self.side: Side | None = None
        self._thread = threading.Thread(target=self._run, name="plugkeep-loop", daemon=True)
        self._thread.start()

    def serve(self, call: Call, method: ExposedMethod) -> None:
        """Serve a call of an asynchronous method."""
        self._begin(call, method, self._serve)

    def go_on(self, call: Call, method: ExposedMethod, result: Any) -> None:
        """Serve a call whose method has returned something asynchronous."""

        async def conclude() -> None:
            await self._conclude(call, method, result)

        self._begin(call, method, lambda *_: conclude())

    def live(
        self, plugin: Plugin, started: Ended, call: Call | None, awaitable: Any = None
    ) -> None:
        """Run the plugin's start, and later its stop, in one task of its own.

        So what has to be left where it was entered can be entered by one and left by the other.
        """

        async def life() -> None:
            task = asyncio.current_task()
            if call is not None and task is not None:
                call.nudge = lambda: self._soon(task.cancel)
            try:
                begun: Any = plugin.start() if awaitable is None else awaitable
                await begun
            except BaseException as error:
                started(error)
                return
            if call is not None:
                call.nudge = nothing
            self._stop_asked = self._loop.create_future()
            started(None)
            await _end(plugin, await self._stop_asked)

        self._soon(lambda: self._spawn(life(), call))

    def end_life(self, plugin: Plugin, stopped: Ended, call: Call | None) -> None:
        """Run the plugin's stop, in the task that ran its start if there is one."""

        def end() -> None:
            if self._stop_asked is not None and not self._stop_asked.done():
                self._stop_asked.set_result(stopped)
            else:
                self._spawn(_end(plugin, stopped), call)

        self._soon(end)

    def run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run what is nobody's call; it lets no exception out."""
        self._soon(lambda: self._spawn(coroutine, None))

    def soon(self, function: Callable[[], object]) -> None:
        """Call a function on the loop's thread: at once where this is it."""
        if threading.get_ident() == self._thread.ident:
            function()
        else:
            self._soon(function)

    def lead(self, takes: Callable[[bytes], bool]) -> None:
        """Read what the host says, from now on; on the loop's thread. See `Channel.takes`.

        What comes is mostly for the loop, then, and to be woken by another thread takes longer
        than to look oneself.
        """
        channel = self._runner.channel
        channel.takes = takes
        os.set_blocking(channel.ends.read, False)
        self.side = side_of(channel)
        self.side.enter()
        self._runner.is_led = True
        channel.have_main_do(nothing)  # it reads now, and hands over to the loop

    def close(self) -> None:
        """Cancel what is left, end the loop, and wait for its thread a moment."""
        self._soon(lambda: self._spawn(self._finish(), None))
        self._thread.join(2 * _LAST_GRACE)

    # --- on the loop ----------------------------------------------------------------------

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            while not (self._is_over or self._loop.is_closed()):
                self._run_until_stopped()
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        finally:
            self._loop.close()

    def _run_until_stopped(self) -> None:
        try:
            self._loop.run_forever()
        except BaseException:  # a task's, such as SystemExit: there are others, and calls to come
            log.exception("a task has ended the event loop, which goes on")

    async def _finish(self) -> None:
        if self.side is not None:
            self._runner.is_led = False
            self.side.leave()
            self.side.stop()
        others = self._tasks - {asyncio.current_task()}
        for task in others:
            task.cancel()
        if others:
            await asyncio.wait(others, timeout=_LAST_GRACE)
        self._is_over = True
        self._loop.stop()

    def _soon(self, function: Callable[..., object], *args: Any) -> None:
        with suppress(RuntimeError):  # it is closed, and so is everything
            self._loop.call_soon_threadsafe(function, *args)

    def _spawn(self, coroutine: Coroutine[Any, Any, None], call: Call | None) -> asyncio.Task[None]:
        context = Context() if call is None else self._runner.service.context_of(call)
        task = self._loop.create_task(coroutine, context=context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _begin(
        self,
        call: Call,
        method: ExposedMethod,
        serve: Callable[[Call, ExposedMethod], Coroutine[Any, Any, None]],
    ) -> None:
        call.send = self._runner.channel.post  # a loop must not wait for a host that does not read
        call.nudge = lambda: self._soon(self._cancel_if_unwanted, call, tasks)
        tasks: list[asyncio.Task[None]] = []

        def begin() -> None:
            self._spawn(self._guard(call, method, serve(call, method), tasks), call)

        self._soon(begin)

    def _cancel_if_unwanted(self, call: Call, tasks: list[asyncio.Task[None]]) -> None:
        if call.cancelled:
            for task in tasks:
                task.cancel()

    async def _guard(
        self,
        call: Call,
        method: ExposedMethod,
        serving: Coroutine[Any, Any, None],
        tasks: list[asyncio.Task[None]],
    ) -> None:
        """Answer with whatever comes out.

        A task that is cancelled before its first step never takes it, and would answer nothing:
        so it is only now that it can be cancelled.
        """
        service = self._runner.service
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # for type checkers
        tasks.append(task)
        try:
            async with asyncio.timeout(call.remaining):
                await serving
        except TimeoutError as error:
            service.fail(call, method, error if call.is_wanted else CallCancelledError(""))
        except asyncio.CancelledError as error:
            service.fail(call, method, error if call.is_wanted else CallCancelledError(""))
        except BaseException as error:
            service.fail(call, method, error)

    async def _serve(self, call: Call, method: ExposedMethod) -> None:
        args, kwargs = self._runner.service.prepare(call, method)
        await self._conclude(call, method, method.function(*args, **kwargs))

    async def _conclude(self, call: Call, method: ExposedMethod, result: Any) -> None:
        """Answer with what a method has returned."""
        service = self._runner.service
        while hasattr(result, "__await__"):
            result = await result
        if not hasattr(result, "__anext__"):
            if call.wants_stream and hasattr(result, "__next__"):
                await asyncio.to_thread(stream_here, service, call, method, result)
            else:
                service.conclude(call, method, result)
        elif call.wants_stream:
            await self._stream(call, method, result)
        else:
            service.conclude(call, method, iter(()))  # which says how it is to be called

    async def _stream(self, call: Call, method: ExposedMethod, values: AsyncIterator[Any]) -> None:
        """Send what an asynchronous iterator yields, as there is credit for it."""
        service, has_news = self._runner.service, asyncio.Event()
        cancel_if_unwanted = call.nudge

        def nudge() -> None:
            cancel_if_unwanted()
            self._soon(has_news.set)

        call.nudge = nudge
        try:
            while True:
                value = await anext(values)
                call.check()
                while not call.credit:
                    await has_news.wait()
                    has_news.clear()
                service.send_value(call, value)
        except StopAsyncIteration:
            service.answer(call, method, None)
        finally:
            if close := getattr(values, "aclose", None):
                await close()


async def _end(plugin: Plugin, stopped: Ended) -> None:
    try:
        if (awaitable := plugin.stop()) is not None:
            await awaitable
    except BaseException as error:
        stopped(error)
    else:
        stopped(None)
