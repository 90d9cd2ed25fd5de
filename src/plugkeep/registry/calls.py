"""One call of a plugin's start or stop, and the thread of its own that it may run on.

A driver waits for a call, and may give up waiting. Exactly one of the two happens: the call
finishes and the driver hears of it, or the driver abandons it and whoever runs the call clears
up when it returns after all.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from contextvars import copy_context
from time import perf_counter
from typing import Any

from plugkeep.deadlines import time_left
from plugkeep.errors import AsyncPluginError, PluginError
from plugkeep.registry.ledger import START, STOP, Entry, Ledger, Step

#: Seconds after its time is up that a plugin has which sees to that itself, as sandboxes do.
CLEARING = 0.2

#: `inspect.CO_COROUTINE`, part of the code object's documented flags.
CO_COROUTINE = 0x80


class Call:
    """One call of one method of one plugin."""

    __slots__ = (
        "_abandoned",
        "_began",
        "_ended",
        "_lock",
        "_notify",
        "cancel",
        "cancelled",
        "cut",
        "duration",
        "entry",
        "error",
        "ledger",
        "limit",
        "refusal",
        "refused",
        "step",
    )

    def __init__(
        self, ledger: Ledger, step: Step, entry: Entry, notify: Callable[[Call], object]
    ) -> None:
        self.ledger = ledger
        self.step = step
        self.entry = entry
        stops = step.method == "stop"
        self.limit = _capped(ledger.stop_limit(entry)) if stops else ledger.limit(step, entry)
        #: What the method raised, once it has returned; and how long it took, in seconds.
        self.error: BaseException | None = None
        self.duration = 0.0
        #: Why the host refuses a plugin that has started, where this call takes that back.
        self.refused: PluginError | None = None
        #: What the host's attendants have come to: why a start is refused, a stop has failed.
        self.refusal: Exception | None = None
        #: Whether that was a task's being cancelled, which is no reason to end everything.
        self.cancelled = False
        #: Asks the method to give up, once it has been abandoned; for tasks, threads cannot.
        self.cancel: Callable[[], object] = lambda: None
        #: Ends what a thread waits for, which cannot be cancelled itself: a sandbox's process.
        self.cut: Callable[[], object] = lambda: None
        self._notify = notify
        self._lock = threading.Lock()
        self._ended = self._abandoned = False
        self._began = perf_counter()

    @property
    def deadline(self) -> float:
        """When its time is up, on the clock of `perf_counter`."""
        return self._began + self.limit if self.limit is not None else float("inf")

    @property
    def abandoned(self) -> bool:
        """Whether nobody waits for it any more."""
        return self._abandoned

    def finish(self, error: BaseException | None) -> bool:
        """Tell the driver what came of it; False if the driver has given up waiting."""
        with self._lock:
            if self._abandoned:
                return False
            self._ended = True
        self.error = error
        self.duration = perf_counter() - self._began
        try:
            self._notify(self)
        except RuntimeError:  # the driver's event loop has been closed: nobody waits
            self._abandoned = True
        return not self._abandoned

    def abandon(self) -> bool:
        """Give up waiting; False if the call has finished after all."""
        with self._lock:
            self._abandoned = not self._ended
        self.duration = perf_counter() - self._began
        return self._abandoned

    def returned_late(self, error: BaseException | None) -> None:
        """Note that the method has returned although nobody waits any more."""
        self.ledger.returned_late(self.entry, perf_counter() - self._began, error)

    @property
    def fatal(self) -> bool:
        """Whether what the method raised is no mere failure of the plugin, such as a Ctrl-C."""
        return not (self.error is None or isinstance(self.error, Exception) or self.cancelled)

    def failure(self) -> PluginError | None:
        """Return what has gone wrong, now that the method has returned; None: nothing."""
        if self.error is None:
            if self.step.method == "stop" and self.refusal is not None:
                return self._and_refused(explain(STOP, self.entry, self.refusal))
            return self.refused
        return self._and_refused(explain(self.step, self.entry, self.error))

    def overdue(self) -> PluginError:
        """Return the error for a call that was given up because its time was up."""
        limit = perf_counter() - self._began if self.deadline == math.inf else self.limit or 0.0
        error = self.step.timeout(
            f"plugin {self.entry.name!r} did not {self.step.method} within {limit:.3g} s; "
            f"it cannot start again until its {self.step.method}() has returned",
            plugin=self.entry.name,
            timeout=limit,
        )
        return self._and_refused(error)

    def _and_refused(self, error: PluginError) -> PluginError:
        if self.refused is None:
            return error
        self.refused.add_note(str(error))
        return self.refused


def _capped(limit: float | None) -> float | None:
    """Return the seconds that a stop may take where all has to be stopped by a certain time."""
    left = time_left()
    if left == math.inf:
        return limit
    return min(math.inf if limit is None else limit, left + CLEARING)


def explain(step: Step, entry: Entry, cause: BaseException) -> PluginError:
    """Return an error that names the plugin and has `cause` as its cause."""
    if isinstance(cause, AsyncPluginError):
        return cause
    reason = _reason(step, cause)
    error = step.error(
        f"plugin {entry.name!r} failed to {step.method}: {reason}", plugin=entry.name
    )
    error.__cause__ = cause
    return error


def _reason(step: Step, cause: BaseException) -> str:
    text, kind = str(cause), type(cause).__name__
    if isinstance(cause, KeyboardInterrupt):
        return f"it was interrupted{f' by {text}' if text else ''}"
    if kind == "CancelledError":  # asyncio's, whose texts are about tasks
        return "it was cancelled meanwhile"
    hint = ""
    if isinstance(cause, TypeError) and "argument" in text and _raised_by_the_call(cause):
        hint = f"; {step.method}() takes no arguments but self"
    return f"{kind}: {text or 'no message'}{hint}"


def _raised_by_the_call(cause: BaseException) -> bool:
    """Say whether the method was never entered: the traceback ends in one of our own frames."""
    innermost = cause.__traceback__
    while innermost is not None and innermost.tb_next is not None:
        innermost = innermost.tb_next
    return innermost is not None and innermost.tb_frame.f_globals is globals()


def is_async(entry: Entry, step: Step) -> bool:
    """Say whether a method is ``async def``. By its code's flag: `inspect` is slow to import."""
    try:
        method = getattr(entry.plugin, step.method)
    except Exception:  # a property: calling it will say so
        return False
    code = getattr(getattr(method, "__func__", method), "__code__", None)
    return code is not None and bool(code.co_flags & CO_COROUTINE)


def refuse_async(entry: Entry, step: Step) -> AsyncPluginError | None:
    """Return the error for a plain form that meets an asynchronous method, before it is called.

    What could not be stopped plainly is not started plainly either.
    """
    for each in (START, STOP) if step is START else (STOP,):
        if is_async(entry, each):
            return AsyncPluginError(
                f"plugin {entry.name!r} has an asynchronous {each.method}(), which needs an event "
                f"loop; use a{step.method}_all(), a{step.method}() or 'async with registry'",
                plugin=entry.name,
            )
    return None


def invoke(entry: Entry, step: Step) -> Any:
    """Call a method and return what it returns."""
    return getattr(entry.plugin, step.method)()


def call_plainly(entry: Entry, step: Step) -> None:
    """Call a method that has to be plain, and raise what it raises."""
    result = invoke(entry, step)
    if result is not None and hasattr(result, "__await__"):
        if hasattr(result, "close"):
            result.close()  # or Python warns that it was never awaited
        raise AsyncPluginError(
            f"{step.method}() of plugin {entry.name!r} returned {type(result).__name__!r}, which "
            f"has to be awaited, but is not declared with 'async def'; declare it so",
            plugin=entry.name,
        )


def run_call(call: Call) -> None:
    """Run a call on the current thread, whatever becomes of it."""
    if call.abandoned:  # before its turn came
        call.returned_late(None)
        return
    error: BaseException | None = None
    try:
        call_plainly(call.entry, call.step)
    except BaseException as raised:
        error = raised
    if not call.finish(error):
        clear_up(call, error)


def clear_up(call: Call, error: BaseException | None) -> None:
    """Stop, there and then, what started after all when nobody waited for it any more."""
    try:
        if call.step is START and error is None:
            call_plainly(call.entry, STOP)
    except BaseException as raised:
        error = raised
    finally:
        call.returned_late(error)


class BoundThread:
    """A daemon thread that runs one call after another until it is closed."""

    def __init__(self, plugin: str) -> None:
        from queue import SimpleQueue

        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        spawn(self._serve, f"plugkeep-{plugin}")

    def submit(self, work: Callable[[], None]) -> None:
        """Have `work` run after what has been submitted before."""
        context = copy_context()
        self._work.put(lambda: context.run(work))

    def close(self) -> None:
        """Let the thread end once it has run what has been submitted."""
        self._work.put(None)

    def _serve(self) -> None:
        while (work := self._work.get()) is not None:
            work()
            del work  # or it would keep the plugin alive until the next one


def spawn(work: Callable[[], None], name: str) -> None:
    """Run `work` on a daemon thread, in a copy of the caller's context.

    Daemon, so that a method which hangs cannot keep the interpreter from exiting.
    """
    threading.Thread(target=copy_context().run, args=(work,), name=name, daemon=True).start()


def launch(call: Call) -> None:
    """Run a call on a thread of its own, or on the one that the plugin is bound to."""
    entry = call.entry
    line = entry.line
    call.cut = getattr(entry.plugin, "cut_short", call.cut)
    if isinstance(line, BoundThread):
        line.submit(lambda: run_call(call))
    elif call.step is START and getattr(entry.plugin, "thread_bound", False):
        entry.line = line = BoundThread(entry.name)
        line.submit(lambda: run_call(call))
    else:
        spawn(lambda: run_call(call), f"plugkeep-{entry.name}-{call.step.method}")


def release_line(entry: Entry) -> None:
    """Let the plugin's thread or task end, if it has one: it neither runs nor is about to."""
    if entry.line is not None:
        entry.line.close()
        entry.line = None
