"""Takes plugins through a step, one after another or side by side, with limits.

A campaign decides and keeps the books; it neither waits nor knows whether calls run on threads
or in an event loop. The drivers, one plain and one asynchronous, wait for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from queue import Empty, SimpleQueue
from time import perf_counter

from plugkeep.deadlines import time_left
from plugkeep.errors import PluginError, StartAbandonedError
from plugkeep.order import Frontier
from plugkeep.registry.calls import Call, call_plainly, explain, launch, refuse_async, release_line
from plugkeep.registry.ledger import START, STOP, Entry, Ledger, Step
from plugkeep.registry.turns import PULSE, Operation
from plugkeep.signals import foreign

#: What hinders a plugin from being called in the form at hand; None if nothing does.
Refuse = Callable[[Entry, Step], PluginError | None]


class Campaign:
    """One step for many plugins, at most `workers` of them at a time."""

    def __init__(
        self,
        ledger: Ledger,
        step: Step,
        agenda: Frontier,
        operation: Operation,
        *,
        launch: Callable[[Call], None],
        notify: Callable[[Call], object],
        refuse: Refuse,
        workers: int = 1,
    ) -> None:
        self.ledger = ledger
        self.step = step
        self.agenda = agenda
        self.operation = operation
        self.workers = workers
        self.errors: list[PluginError] = []
        #: Something that is no mere failure of a plugin, such as a Ctrl-C that landed in one.
        self.fatal: BaseException | None = None
        self._launch = launch
        self._notify = notify
        self._refuse = refuse
        self._under_way: dict[Call, None] = {}

    def advance(self) -> bool:
        """Begin what may begin; say whether there is anything to wait for."""
        while len(self._under_way) < self.workers and not self.operation.halted and not self.fatal:
            name = self.agenda.pop()
            if name is None:
                break
            entry = self.ledger.entries.get(name)
            if entry is None or not self._begin(entry):
                self.agenda.done(name)
        return bool(self._under_way)

    def patience(self) -> float:
        """How many seconds to wait before `expire`; infinite: as long as it takes."""
        first = min(call.deadline for call in self._under_way)
        return max(0.0, min(first, self.operation.due) - perf_counter())

    def settle(self, call: Call) -> None:
        """Take note of a call that has finished."""
        if call in self._under_way:  # else it had been abandoned before it could say so
            if call.fatal:
                self.fatal = self.fatal or call.error
            error = call.failure()
            if error is None and call.step is START and not self._admit(call):
                return
            self._close(call, error)

    def _admit(self, call: Call) -> bool:
        """Say whether the host admits what has started; if not, begin to stop it again."""
        entry = call.entry
        try:
            if call.refusal is not None:
                raise call.refusal  # noqa: TRY301  # as what follows does
            self.ledger.admit(entry)
        except Exception as refusal:
            undoing = Call(self.ledger, STOP, entry, self._notify)
            undoing.refused = explain(START, entry, refusal)
            del self._under_way[call]
            self._under_way[undoing] = None
            self._launch(undoing)
            return False
        return True

    def expire(self) -> None:
        """Give up the calls whose time is up."""
        now = perf_counter()
        is_due = self.operation.due <= now
        for call in [each for each in self._under_way if is_due or each.deadline <= now]:
            if call.abandon():
                self._close(call, call.overdue(), returned=False)
                call.cancel()
                call.cut()

    def give_up(self, cause: BaseException) -> None:
        """Leave no plugin in between: the driver itself has been interrupted, wherever it was.

        The turn is ours, so whatever is in between is in between because of this campaign.
        """
        calls = {call.entry: call for call in self._under_way}
        for entry in self.ledger.in_state(self.step.during):
            call = calls.get(entry)
            if call is None:  # not called yet
                fail(self.ledger, self.step, entry, perf_counter(), cause)
            elif call.abandon():
                self._close(call, explain(self.step, entry, cause), returned=False)
                call.cancel()
                if self.step is not START:  # that may still come up, and clear up after itself
                    call.cut()
            else:
                self._close(call, call.failure())

    def _begin(self, entry: Entry) -> bool:
        if not begin(self.ledger, self.step, entry, self._refuse, self.errors):
            return False
        call = None
        try:
            self.ledger.emit(self.step.began, entry)
            if self.step is START:
                self.ledger.limit(STOP, entry)  # a misfit is told now, not when it has to stop
            call = Call(self.ledger, self.step, entry, self._notify)
            self._under_way[call] = None
            self._launch(call)
        except Exception as cause:  # a limit that is none, no more threads
            if call is not None:
                del self._under_way[call]
            self.errors.append(fail(self.ledger, self.step, entry, perf_counter(), cause))
            return False
        return True

    def _close(self, call: Call, error: PluginError | None, *, returned: bool = True) -> None:
        conclude(self.ledger, self.step, call.entry, call.duration, error, returned=returned)
        del self._under_way[call]
        if error is not None:
            self.errors.append(error)
        self.agenda.done(call.entry.name)


def begin(
    ledger: Ledger, step: Step, entry: Entry, refuse: Refuse, errors: list[PluginError]
) -> bool:
    """Move a plugin into `step`; if that cannot be, add why to `errors` and return False."""
    refusal = refuse(entry, step) or ledger.begin(step, entry)
    if refusal is None:
        return entry.state is step.during
    errors.append(refusal)
    ledger.emit(step.failed if step.method == "stop" else "StartSkipped", entry, None, refusal)
    return False


def conclude(
    ledger: Ledger,
    step: Step,
    entry: Entry,
    duration: float,
    error: PluginError | None,
    *,
    returned: bool = True,
) -> None:
    """Move a plugin out of `step`, and let go of its thread or task where it is not up now."""
    if entry.line is not None and (error is not None or step.method == "stop"):
        release_line(entry)
    ledger.end(step, entry, duration, error, returned=returned)


def fail(
    ledger: Ledger, step: Step, entry: Entry, began: float, cause: BaseException
) -> PluginError:
    """Move a plugin out of `step` because of `cause`; return the error that names both."""
    error = explain(step, entry, cause)
    conclude(ledger, step, entry, perf_counter() - began, error)
    return error


def abandoned(names: list[str]) -> list[PluginError]:
    """Return an error for each plugin that was not attempted because stop_all came."""
    return [
        StartAbandonedError(
            f"plugin {name!r} was not started: stop_all() was called meanwhile", plugin=name
        )
        for name in names
    ]


# --- the plain drivers ------------------------------------------------------------------------


def run_one(
    ledger: Ledger, step: Step, entry: Entry, operation: Operation, errors: list[PluginError]
) -> None:
    """Take one plugin through a step, on this thread unless a limit or the plugin forbids it."""
    if _needs_thread(ledger, step, entry):
        errors += run_apart(ledger, step, Frontier({entry.name: ()}), operation)
    elif begin(ledger, step, entry, refuse_async, errors):
        began = perf_counter()
        try:
            ledger.emit(step.began, entry)
            began = perf_counter()  # what listeners took is not the plugin's
            foreign(call_plainly, entry, step)
            if step is START:
                admit(ledger, entry)
        except BaseException as cause:
            errors.append(fail(ledger, step, entry, began, cause))
            if not isinstance(cause, Exception):
                raise
        else:
            ledger.end(step, entry, perf_counter() - began, None)


def _needs_thread(ledger: Ledger, step: Step, entry: Entry) -> bool:
    if entry.line is not None:
        return True
    if step.method == "stop":
        return time_left() < math.inf or ledger.stop_limit(entry) is not None
    try:
        ledger.limit(STOP, entry)
        bound = getattr(entry.plugin, "thread_bound", False)
        return bool(bound) or ledger.limit(START, entry) is not None
    except Exception:  # as it will again, where it is noted as why the plugin failed
        return True


def admit(ledger: Ledger, entry: Entry) -> None:
    """Have the host admit a plugin that has started; where it does not, stop it and raise."""
    try:
        ledger.admit(entry)
    except BaseException as refusal:
        try:
            foreign(call_plainly, entry, STOP)
        except Exception as error:
            refusal.add_note(str(explain(STOP, entry, error)))
        raise


def run_apart(
    ledger: Ledger, step: Step, agenda: Frontier, operation: Operation, workers: int = 1
) -> list[PluginError]:
    """Take plugins through a step on threads of their own."""
    finished: SimpleQueue[Call | None] = SimpleQueue()
    operation.nudge = lambda: finished.put(None)
    campaign = Campaign(
        ledger,
        step,
        agenda,
        operation,
        launch=launch,
        notify=finished.put,
        refuse=refuse_async,
        workers=workers,
    )
    try:
        while campaign.advance():
            try:
                call = foreign(finished.get, True, min(campaign.patience(), PULSE))
            except Empty:
                call = None
            if call is None:
                campaign.expire()
            else:
                campaign.settle(call)
    except BaseException as cause:
        campaign.give_up(cause)
        raise
    if campaign.fatal is not None:
        raise campaign.fatal
    return campaign.errors
