"""The plugin's own start and stop: when the host says so, on the thread where they belong."""

from __future__ import annotations

import inspect
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from msgspec import UNSET

from plugkeep.channel.exposed import ExposedMethod
from plugkeep.channel.failures import Failure, raised
from plugkeep.errors import CallCancelledError
from plugkeep.runner._calls import Call, nothing
from plugkeep.runner._given import give
from plugkeep.runner._health import health_of
from plugkeep.runner._service import ABOUT_TO_STOP
from plugkeep.wire import messages as m
from plugkeep.wire.events import Request
from plugkeep.wire.messages import Code

if TYPE_CHECKING:
    from plugkeep.runner._web import Web
    from plugkeep.runner.runner import Runner

#: Seconds that calls have to end in, once they have been told that the plugin stops.
GRACE: Final = 1.0
_START: Final = ExposedMethod("start", nothing)
_STOP: Final = ExposedMethod("stop", nothing)


class StartFailed(Exception):
    """Raised where nobody has asked for the start; the ``__cause__`` says what went wrong."""


class Life:
    """The life of one runner's plugin."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._start_came = False
        #: The plugin's start has returned, and its stop has not been called.
        self.is_running = False
        #: The plugin is to be loaded and configured, and neither started nor stopped.
        self.is_rehearsal = False
        self._web: Web | None = None
        #: Asks the plugin how it is, while it runs, if it can be asked.
        self.health: ExposedMethod | None = None
        # What the main thread sleeps on while it does not read.
        self._bell = threading.Lock()
        self._bell.acquire()

    # --- start ----------------------------------------------------------------------------

    def start(self, request: Request) -> None:
        """Have the plugin started. Called while reading: nothing runs here."""
        if self._start_came or self._runner.is_stopping:
            text = ABOUT_TO_STOP if self._runner.is_stopping else "the plugin was started already"
            code = Code.NOT_RUNNING if self._runner.is_stopping else Code.INVALID_REQUEST
            self._runner.post_failure(request.id, Failure(code, text, UNSET))
            return
        self._start_came = True
        call = self._call(request)
        self._runner.calls[call.id] = call
        self._runner.queue.append(lambda: self._start(call))

    def start_unasked(self) -> None:
        """Start the plugin, for a host that never asks for it. Raises StartFailed."""
        outcome: list[BaseException | None] = []

        def ended(error: BaseException | None) -> None:
            outcome.append(error)
            self.look()

        try:
            self._run_start({}, ended, None)
            self._wait(lambda: bool(outcome) or self._runner.is_over)
        except BaseException as error:
            raise StartFailed from error
        if outcome and outcome[0] is not None:
            raise StartFailed from outcome[0]
        self._is_started()

    def _start(self, call: Call) -> None:
        runner, service = self._runner, self._runner.service

        def ended(error: BaseException | None) -> None:
            if error is None and not runner.is_stopping:
                self._open(call)
                return
            if error is None:
                self.is_running = True  # so it is stopped, too
                error = CallCancelledError(ABOUT_TO_STOP)
            elif not runner.is_stopping:
                runner.status = 1
            service.fail(call, _START, error)

        runner.channel.current = call
        try:
            self._run_start(call.request.kwargs, ended, call)
        except BaseException as error:
            ended(error)

    def _open(self, call: Call) -> None:
        """Offer what the plugin, which has started, has to offer; then it is running."""
        runner = self._runner
        plugin = runner.plugin
        try:
            if self.is_rehearsal or not offers_web(plugin):
                self._is_open(call, None)
                return
            from plugkeep.runner._web import Web

            self._web = Web(runner)
            if self._web.collect():
                runner.service.loop.run(self._begin_web(self._web, call))
            else:
                self._is_open(call, None)
        except BaseException as error:
            self._take_back(call, error)

    async def _begin_web(self, web: Web, call: Call) -> None:
        """Begin what runs on the loop, which reads from now on: most of what comes is for it."""
        try:
            await web.start()
            self._runner.service.loop.lead(web.take)
        except BaseException as error:
            self._take_back(call, error)
        else:
            self._is_open(call, web.announced)

    def _is_open(self, call: Call, offered: Any) -> None:
        if self._runner.is_stopping:
            self._take_back(call, CallCancelledError(ABOUT_TO_STOP))
            return
        self._is_started()
        self._runner.service.answer(call, _START, offered)

    def _take_back(self, call: Call, error: BaseException) -> None:
        """Stop the plugin, whose start is not to be, and say so."""
        runner = self._runner

        def stop() -> None:
            if not runner.is_stopping:
                runner.status = 1
                self._report(self._run_stop(call))
                runner.service.fail(call, _START, error)
            else:
                self.is_running = True  # so it is stopped, too
                runner.service.fail(call, _START, CallCancelledError(ABOUT_TO_STOP))

        runner.channel.have_main_do(stop)

    def requested(self, request: Request) -> None:
        """Have a request by HTTP served."""
        web, runner = self._web, self._runner
        if web is None or not self.is_running or runner.is_stopping:
            text = ABOUT_TO_STOP if runner.is_stopping else "the plugin has nothing for HTTP"
            runner.post_failure(request.id, Failure(Code.NOT_RUNNING, text, UNSET))
        else:
            runner.service.loop.soon(lambda: web.requested(request))

    def _run_start(
        self,
        given: dict[str, Any],
        ended: Callable[[BaseException | None], None],
        call: Call | None,
    ) -> None:
        """Call the plugin's start; tell `ended`, here or on the event loop, what came of it."""
        runner = self._runner
        give(runner, given)
        if self.is_rehearsal:
            ended(None)
            return
        if runner.methods.need_loop or _is_async(runner.plugin.stop):
            runner.service.loop  # noqa: B018  # to have it, so that the first call need not wait
        if _is_async(runner.plugin.start):
            runner.service.loop.live(runner.plugin, ended, call)
            return
        awaitable = runner.plugin.start()
        if awaitable is not None and hasattr(awaitable, "__await__"):
            runner.service.loop.live(runner.plugin, ended, call, awaitable)
        else:
            ended(None)

    def _is_started(self) -> None:
        runner = self._runner
        self.is_running = True
        self.health = health_of(runner.plugin)
        runner.quick.update(
            (name, (method.function, method.binding.known))
            for name, method in runner.methods.items()
            if method.is_quick
        )
        if runner.is_stopping:  # it came in between
            runner.quick.clear()

    # --- stop -----------------------------------------------------------------------------

    def stop(self, request: Request | None) -> None:
        """Have the plugin stopped. Called while reading: nothing runs here."""
        runner = self._runner
        if runner.is_stopping:
            if request is not None:
                runner.post_failure(request.id, Failure(Code.NOT_RUNNING, ABOUT_TO_STOP, UNSET))
            return
        call = None if request is None else self._call(request)
        self._begin_stop(call)
        self._tell_calls()

    def interrupt(self, number: int) -> None:
        """Have the plugin stopped, from a signal's handler; the second time it just ends."""
        if self._runner.is_stopping:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        else:
            self._begin_stop(None)

    def _begin_stop(self, call: Call | None) -> None:
        self._runner.is_stopping = True
        self._runner.quick.clear()
        self._runner.queue.appendleft(lambda: self._stop(call))
        self.look()

    def _tell_calls(self) -> None:
        for each in list(self._runner.calls.values()):
            each.nudge()

    def _stop(self, call: Call | None) -> None:
        runner = self._runner
        self._tell_calls()
        runner.service.refuse_waiting()
        self._wait(lambda: not runner.calls, GRACE)
        for each in list(runner.calls.values()):
            runner.calls.pop(each.id, None)
            if each.is_open:
                runner.post_failure(each.id, Failure(Code.NOT_RUNNING, ABOUT_TO_STOP, UNSET))
        is_to_stop = self.is_running and not self.is_rehearsal
        failed = self._end_web() if is_to_stop else None
        error = (self._run_stop(call) if is_to_stop else None) or failed
        if call is None:
            self._report(error)
        elif error is None:
            runner.service.answer(call, _STOP, None)
        else:
            runner.service.fail(call, _STOP, error)
        runner.service.close()
        runner.is_over = True

    def _end_web(self) -> BaseException | None:
        """End what the plugin offers by HTTP; return what that raised."""
        outcome: list[BaseException | None] = []
        web = self._web
        if web is None:
            return None

        async def end() -> None:
            try:
                await web.stop()
            except BaseException as error:
                outcome.append(error)
            else:
                outcome.append(None)
            self.look()

        self._runner.service.loop.run(end())
        self._wait(lambda: bool(outcome))
        return outcome[0]

    def _run_stop(self, call: Call | None) -> BaseException | None:
        """Call the plugin's stop; return what it raised."""
        runner, outcome = self._runner, list[BaseException | None]()
        self.is_running = False
        self.health = None
        runner.channel.current = call

        def ended(error: BaseException | None) -> None:
            outcome.append(error)
            self.look()

        try:
            if _is_async(runner.plugin.stop):
                runner.service.loop.end_life(runner.plugin, ended, call)
            else:
                runner.plugin.stop()
                ended(None)
            self._wait(lambda: bool(outcome))
        except BaseException as error:
            return error
        return outcome[0]

    def _report(self, error: BaseException | None) -> None:
        if error is not None:
            trace = raised(error).data["traceback"]
            name = self._runner.plugin.name
            print(f"plugkeep: plugin {name!r} failed to stop:\n{trace}", file=sys.stderr)
            self._runner.status = 1

    # --- waiting --------------------------------------------------------------------------

    def look(self) -> None:
        """Make the main thread look around, where it does not read."""
        with suppress(RuntimeError):  # it has been rung already
            self._bell.release()

    def wait_for_work(self) -> None:
        """Sleep until there is something for the main thread to do."""
        self._wait(lambda: bool(self._runner.queue) or self._runner.is_over)

    def _wait(self, until: Callable[[], bool], timeout: float | None = None) -> None:
        """Do the main thread's work, and let others read, until something is so."""
        limit = None if timeout is None else time.monotonic() + timeout
        while not until():
            if self._runner.queue:
                self._runner.service.work()
                continue
            left = -1.0 if limit is None else limit - time.monotonic()
            if limit is not None and left <= 0:
                return
            self._bell.acquire(timeout=left)

    def _call(self, request: Request) -> Call:
        call = Call(self._runner, request)
        call.is_own = request.method == m.STOP
        return call


def offers_web(plugin: object) -> bool:
    """Say whether a plugin may have anything for HTTP; to find out which takes imports."""
    return hasattr(plugin, "routes") or hasattr(plugin, "application")


def _is_async(method: Any) -> bool:
    return inspect.iscoroutinefunction(method)
