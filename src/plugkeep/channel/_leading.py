"""Who reads: whoever waits for an answer, for itself and for all others.

It *leads*. The others follow: they sleep until the leader has got what they wait for, or goes and
leaves the lead to one of them. Where an event loop has calls in flight it reads whenever there is
something, and threads follow it, until it is found to be stuck. While nobody waits at all, the I/O
thread reads what comes.

Whoever goes looks for somebody to go on; whoever comes puts itself down first and looks for a
leader after that. So one of the two sees the other.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, Protocol

from plugkeep.channel._reading import Reading
from plugkeep.channel.waiters import NOBODY, Waiter
from plugkeep.errors import ProtocolViolationError
from plugkeep.signals import SignalsHeld
from plugkeep.wire.events import Request
from plugkeep.wire.messages import PING

#: Seconds after which a thread does not wait any longer for an event loop to read.
BESIDE: Final = 0.005
#: Seconds without any progress in writing after which the other end counts as stuck.
STALLED: Final = 30.0
#: Seconds in which an end that takes nothing more has to have said its last.
LAST_WORDS: Final = 0.2
#: Milliseconds after which a thread whose data others are writing looks itself.
_OTHERS_WRITE: Final = 100


class LoopSide(Protocol):  # `_sides.Side`, which is not imported where there are no loops
    """An event loop whose tasks await answers."""

    #: The thread that it runs on.
    thread: int

    @property
    def is_closed(self) -> bool: ...

    def ask(self) -> None:
        """Have it read from now on; to be called from any thread. RuntimeError: it is closed."""
        ...

    def drop(self) -> None:
        """Give up what it has not sent, for it has been closed; to be called from any thread."""
        ...

    def ask_to_stop(self) -> None:
        """Have it let go of the descriptors, in the same manner."""
        ...


class Leading(Reading):
    """A channel's reading, by one thread at a time."""

    def __init__(self, *args: Any, stalled: float = STALLED, **options: Any) -> None:
        super().__init__(*args, **options)
        self._stalled = stalled
        # What was written slowly, and when that has changed; None: nothing waits.
        self._moved = 0
        self._moved_at: float | None = None
        # Reentrant only so that it can be told whether this very thread has it.
        self._lead = threading.RLock()
        self._try_lead, self._release = self._lead.acquire, self._lead.release
        self._leads: Callable[[], bool] = self._lead._is_owned  # type: ignore[attr-defined]
        #: Somebody leads: set a moment later than that, and unset a moment before.
        self._active = False
        #: See `Attended`.
        self.dozing = False
        self._left_at = -1  # what was left to an event loop when `uses` was this
        self._followers: dict[Waiter, None] = {}
        #: The event loop that reads, if one does. What only it may do is to give that up.
        self.loop: LoopSide | None = None
        #: All whose tasks await answers.
        self.loops: dict[Any, Any] = {}
        self._aim()

    # --- the lead -------------------------------------------------------------------------

    @property
    def is_led(self) -> bool:
        """Whether a thread reads, or waits to."""
        return self._active

    def try_lead(self) -> bool:
        """Take the lead if it is free; to be given back by `go`."""
        if self._try_lead(False):
            self._active = True
            return True
        return False

    def lead(self) -> None:
        """Wait for the lead, and take it."""
        self._lead.acquire()
        self._active = True

    def go(self) -> None:
        """Give the lead to whoever needs it."""
        self._active = False
        self._release()
        if self._followers or self.loops or self.dozing:
            self._hand_over()

    def _hand_over(self) -> None:
        with SignalsHeld():
            while self._followers:
                try:
                    waiter, _ = self._followers.popitem()
                except KeyError:
                    break
                if not waiter.is_done:
                    waiter.ring()
                    return
            if self.loop is None:
                self._ask_loops()
            # Also where a loop reads: it may be stuck.
            if self.dozing and self._thread is not None:
                self._thread.rouse(self)  # type: ignore[arg-type]  # see `Channel`

    def _ask_loops(self) -> None:
        for key, side in list(self.loops.copy().items()):
            try:
                side.ask()
            except RuntimeError:  # it has been closed
                self.drop_loop(key)
            else:
                return

    def drop_loop(self, key: Any) -> None:
        """Have no more to do with an event loop that has been closed."""
        side = self.loops.pop(key, None)
        if side is not None:
            side.drop()

    def _recover(self, *, led_before: bool = False) -> None:
        """Give up the lead, if it is held, after an exception from anywhere; leave nobody asleep.

        `led_before`: this thread has had it all along, further out.
        """
        if self._leads() and not led_before:
            self._active = False
            self._release()
        if not self._active and (self._followers or self.loops or self.dozing):
            self._hand_over()

    def leave_to(self, side: LoopSide) -> None:
        """Do as `go` does where an event loop goes on reading afterwards."""
        if self.loop is not side:
            self.go()
            return
        self._active = False
        self._release()
        if self.dozing:
            self._hand_over()

    def read_by(self, side: LoopSide | None) -> None:
        """Leave the reading to an event loop, or (None) to nobody in particular."""
        self.loop = side
        self._is_special = self.is_lost or side is not None

    def fail_all(self) -> None:
        """See `Reading.fail_all`."""
        super().fail_all()
        for side in list(self.loops.values()):
            with suppress(RuntimeError):  # that loop has been closed
                side.tell_lost()

    def check_loop(self) -> None:
        """Do not count on an event loop that has been closed while it was to read."""
        side = self.loop
        if side is not None and side.is_closed:
            self.read_by(None)
            self._ask_loops()

    # --- waiting --------------------------------------------------------------------------

    def wait(self, waiter: Waiter, is_ready: Callable[[], bool], deadline: float | None) -> bool:
        """Wait until `is_ready`, leading or following; return False when `deadline` has passed.

        Also returns, True, when the channel is lost.
        """
        led_before = self._leads()
        try:
            while not (is_ready() or self.is_lost):
                if waiter.jobs:
                    self.run_job(waiter.jobs.popleft())
                elif led_before:
                    if not self.turn(deadline, nested=True):
                        return False
                elif not (
                    self._lead_for(waiter, is_ready, deadline)
                    if self._may_lead() and self.try_lead()
                    else self._follow(waiter, deadline)
                ):
                    return False
            return True
        finally:
            self._followers.pop(waiter, None)
            if led_before:
                self._nudge_outer()
            # It may have been this one that was to go on.
            if not led_before and (self._leads() or (self._followers and not self._active)):
                with SignalsHeld():
                    self._recover()

    def _nudge_outer(self) -> None:
        """End the wait of this very thread further out: what that is for may have come in here.

        If it waits in a read, only something to read can end that: the answer to a ping.
        """
        self.nudge()
        if self.is_lost:
            self.ends.rouse()
        elif self._early and self.ends.patient >= 0:
            self.post(self.connection.request(PING, (), {}, NOBODY)[1])

    def _may_lead(self) -> bool:
        self.check_loop()
        side = self.loop
        return side is None or side.thread == threading.get_ident()

    def _lead_for(
        self, waiter: Waiter, is_ready: Callable[[], bool], deadline: float | None
    ) -> bool:
        in_time = True
        while in_time and not (is_ready() or waiter.jobs or self.is_lost):
            in_time = self.turn(deadline) and not has_passed(deadline)
        self.go()
        return in_time

    def _follow(self, waiter: Waiter, deadline: float | None) -> bool:
        """Sleep until somebody rings; return False when `deadline` has passed."""
        self._followers[waiter] = None
        if not self._active and self._may_lead():  # they went before they could have seen us
            return True
        timeout = -1.0 if deadline is None else max(deadline - time.monotonic(), 0.0)
        loop = self.loop
        if loop is not None:
            timeout = BESIDE if timeout < 0 else min(timeout, BESIDE)
        if waiter.wait(timeout):
            return True
        if loop is not None and self.loop is loop:
            self.read_by(None)  # it is stuck, or has little to do: it will be asked again
        return deadline is None or time.monotonic() < deadline

    def run_job(self, request: Request) -> None:
        """Serve a call on this thread; the peer has asked for it by `Waiter.jobs`."""
        self.peer.serve(request)  # type: ignore[attr-defined]  # only who asks for it need have it

    def turn(self, deadline: float | None, *, nested: bool = False) -> bool:
        """Wait until something can be read or written, and do that; False when it is too late.

        To be led. `nested`: perhaps from inside of another turn.
        """
        if self._inbox or self._messages:
            self.digest()
            return True
        timeout = None if deadline is None else milliseconds(deadline - time.monotonic())
        ready = (self._poll_all if nested or self.outbox else self._poll)(timeout)
        if not ready:
            return False
        descriptors = [descriptor for descriptor, _ in ready]
        if self.outbox:
            self._flush()
        if self.ends.nudged in descriptors:
            with suppress(BlockingIOError):
                os.eventfd_read(self.ends.nudged)
        if self.descriptor in descriptors:
            self.read()
        elif self._exit_fd in descriptors:
            self._lose(None)
        return True

    def _poll_all(self, timeout: int | None) -> list[tuple[int, int]]:
        """Wait until there is something to be read or to be written."""
        poller = self._poller()
        if self.outbox:
            writable = self.outbox.descriptor
            both = select.POLLIN if writable == self.descriptor else 0
            poller.register(writable, select.POLLOUT | both)
        return poller.poll(timeout)

    # --- sending --------------------------------------------------------------------------

    def send(self, sending: Any, deadline: float | None = None) -> None:
        """Send, waiting until all is written: until `deadline` at most, the rest goes later.

        An end that takes nothing for long is cut off.
        """
        if not self.outbox.send(sending):
            self.send_slowly(deadline)

    def send_slowly(self, deadline: float | None) -> None:
        """Wait until all is written, reading meanwhile where nobody else does.

        Both ends may be writing more than the other has read: one of them has to begin.
        """
        led_before = self._leads()
        try:
            while self.outbox and not self.is_lost:
                self._send_some(deadline, led_before)
                if deadline is not None and time.monotonic() >= deadline:
                    self.leave_unsent()
                    return
            self._moved_at = None
            if self.outbox.is_broken:
                self.lose_unread(led_before)
        finally:
            if led_before:
                self._nudge_outer()
            elif self._leads():
                with SignalsHeld():
                    self._recover()

    def _send_some(self, deadline: float | None, led_before: bool) -> None:
        until = self._note_progress() + self._stalled
        if deadline is not None:
            until = min(until, deadline)
        if led_before:
            self.turn(until, nested=True)
        elif self.try_lead():
            self.turn(until)
            self.go()
        else:
            left = milliseconds(until - time.monotonic())
            self.outbox.wait(min(left, _OTHERS_WRITE))
            self._flush()
        self._note_progress()

    def _flush(self) -> bool:
        return self.outbox.flush() or self.outbox.is_broken

    def _note_progress(self) -> float:
        """Cut the other end off if it has taken nothing for too long; return since when."""
        now, since, moved = time.monotonic(), self._moved_at, self.outbox.moved
        if since is None or moved != self._moved:
            self._moved, self._moved_at = moved, now
            return now
        if self.outbox and now >= since + self._stalled:
            self._lose(ProtocolViolationError(f"it has read nothing for {self._stalled:g} s"))
        return since

    def lose_soon(self) -> bool:
        """Be lost in a moment, for the other end takes nothing more; say whether it is so now.

        The end of what it has said may be just about to be read.
        """
        if self._moved_at is None:
            self._moved_at = time.monotonic()
        elif time.monotonic() >= self._moved_at + LAST_WORDS:
            self._lose(None)
        return self.is_lost

    def lose_unread(self, leads: bool = False) -> None:
        """Deal with what the other end has said before it went, and be lost."""
        if leads or self.try_lead():
            while not self.is_lost and self.turn(0.0, nested=True):
                pass
            if not leads:
                self.go()
            self._lose(None)
        elif self._thread is None:
            self._lose(None)
        else:
            # Whoever leads reads to the end first. If that does not come, `tick` sees to it.
            self._thread.rouse(self)  # type: ignore[arg-type]  # see `Channel`


def has_passed(deadline: float | None) -> bool:
    """Say whether it is too late."""
    return deadline is not None and time.monotonic() >= deadline


def milliseconds(seconds: float) -> int:
    """Return what a poll is to wait, rounded up, in milliseconds."""
    return int(min(max(seconds * 1000 + 0.999, 0), 2**31 - 1))
