"""Moves bytes between a connection and its descriptors, on whichever thread is there.

Whoever waits for an answer reads, for itself and for all others: it *leads*. The others follow:
they sleep until the leader has got what they wait for, or goes and leaves the lead to one of them.
So a lone caller changes no threads. The lead is held by one thread at a time, or by an event loop
while its tasks have calls in flight. While nobody leads, the I/O thread reads what comes.
"""

from __future__ import annotations

import select
import threading
import time
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from os import read
from typing import Any, Protocol

from msgspec import UNSET

from plugkeep.channel.ends import Ends
from plugkeep.channel.io_thread import IoThread
from plugkeep.channel.outbox import Outbox
from plugkeep.channel.waiters import LEADER, Waiter
from plugkeep.errors import CallTimeoutError, PluginError, ProtocolViolationError
from plugkeep.signals import SignalsHeld
from plugkeep.wire.connection import (
    Answer,
    Cancel,
    Chunk,
    Connection,
    Credit,
    Dropped,
    Event,
    Log,
    Notification,
    Progress,
    Refusal,
    Request,
    Sending,
    Stop,
)
from plugkeep.wire.messages import Id, Message
from plugkeep.wire.ndjson import Noise

#: Read at once. Ever larger reads are no faster, and their allocation alone soon costs more.
READ_SIZE = 16 * 1024
_LITTLE = (4 * 1024,)  # for a single small answer
#: Seconds after which a follower looks whether the event loop that leads is stuck.
BESIDE = 0.005
#: Seconds without any progress in writing after which the other end counts as stuck.
STALLED = 30.0


class Peer(Protocol):
    """What a channel tells about the other end. Called while the channel is being read, so none
    of it may wait.
    """

    #: Whether calls of the other end's are being served on threads that may call back.
    is_serving: bool

    def requested(self, request: Request) -> None: ...
    def cancelled(self, number: Id) -> None: ...
    def credited(self, number: Id) -> None: ...
    def logged(self, log: Log) -> None: ...
    def noticed(self, notification: Notification) -> None: ...
    def printed(self, noise: Noise) -> None: ...
    def dropped(self, reason: str) -> None: ...
    def stop(self) -> None: ...

    def lost(self, error: ProtocolViolationError | None) -> None:
        """The other end has gone, or has broken a rule: `error`. The channel is of no use now."""
        ...


#: On behalf of which call of the other end's this runs: the channel, and the number.
serving: ContextVar[tuple[Channel, Id] | None] = ContextVar("serving", default=None)


class Channel:
    """One end of the wire at work.

    `explain` makes the error that calls fail with once the other end has gone.
    """

    def __init__(
        self,
        connection: Connection,
        ends: Ends,
        peer: Peer,
        explain: Callable[[], PluginError],
        *,
        thread: IoThread | None = None,
        exit_fd: int = -1,
    ) -> None:
        self.connection = connection
        self.ends = ends
        self.peer = peer
        self.outbox = Outbox(ends)
        self.is_lost = False
        self._active = False  # somebody leads: set a moment later, and unset a moment before
        #: See `Attended`.
        self.uses = 0
        self.dozing = False
        self.explain = explain
        self._thread = thread
        self._exit_fd = exit_fd
        # The lead. Reentrant, so that it can be told whether this very thread has it.
        self._lead = threading.RLock()
        self._try_lead = self._lead.acquire
        self._leads: Callable[[], bool] = self._lead._is_owned  # type: ignore[attr-defined]
        #: Held around reading where an event loop has the lead, for others may read beside it.
        self.gate = threading.Lock()
        #: The event loop that has the lead, if one has; see `aio`.
        self.loop: Any = None
        #: Event loops whose tasks await answers while somebody else leads.
        self.loops: dict[Any, Callable[[], None]] = {}
        self._followers: deque[Waiter] = deque()
        self._early: dict[Id, Answer] = {}  # for leaders, read by others
        self._inbox: list[bytes] = []
        self._read_from = (ends.read,)
        self._poll = self._poller(ends.read).poll
        self._sole = connection.codec.sole
        self._send_now = self.outbox.send
        self._release = self._lead.release
        if thread is not None:
            thread.attend(self)

    # --- calling --------------------------------------------------------------------------

    def call(
        self,
        method: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        timeout: float | None = None,
    ) -> Answer | Message:
        """Call, wait and return what was answered: as a Message if it is a plain result.

        Raises CallTimeoutError, UnsendableValueError, and what `explain` gives.
        """
        if (self._active and self._leads()) or self.peer.is_serving:
            return self._call_following(method, args, kwargs, timeout)
        number = 0
        try:
            if not self._try_lead(False):
                return self._call_following(method, args, kwargs, timeout)
            self._active = True
            if timeout is None:
                wait, left = None, UNSET
            else:
                deadline = time.monotonic() + timeout
                wait = left = _milliseconds(timeout)
            connection, inbox = self.connection, self._inbox
            number, sending = connection.request(method, args, kwargs, LEADER, left)
            if not self._send_now(sending):
                self._send_slowly(None if timeout is None else deadline)
            self.uses += 1
            # What follows is `_await_leading` for the case that the next thing to come is just
            # the answer, cut down to what that needs.
            message = None
            if not inbox and not self.is_lost and len(ready := self._poll(wait)) == 1:
                if ready[0][0] == self._read_from[0]:
                    inbox.extend(map(read, self._read_from, _LITTLE))  # see `Outbox`
                    message = self._sole(inbox[0])
            if message is not None and message.id == number and message.result is not UNSET:
                del connection.calls[number], inbox[0]
            else:
                message = self._await_leading(number, method, timeout)
            self._active = False
            self._release()
        except BaseException:
            # Also of what came in between any two lines, such as Ctrl-C.
            if self._leads():
                self._go()
            self._abandon(number)
            raise
        if self._followers or self.loops or self.dozing:
            self._hand_over()
        return message

    def _await_leading(
        self, number: Id, deadline: float | None, method: str, timeout: float | None
    ) -> Answer:
        while True:
            if (answer := self._early.pop(number, None)) is not None:
                return answer
            self.check()
            if not self._turn(deadline):
                raise self.timed_out(method, timeout)

    def _call_following(
        self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any], timeout: float | None
    ) -> Answer:
        waiter = Waiter()
        deadline = None if timeout is None else time.monotonic() + timeout
        number = self.open(method, args, kwargs, waiter, timeout=timeout)
        try:
            if not self.wait(waiter, lambda: waiter.is_done, deadline):
                raise self.timed_out(method, timeout)
            if waiter.answer is None:
                raise self.explain()
            return waiter.answer
        except BaseException:
            self._abandon(number)
            raise

    def open(
        self,
        method: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        waiter: Any,
        *,
        timeout: float | None = None,
        credit: Any = UNSET,
        wait: bool = True,
    ) -> int:
        """Send a call; `waiter` will be told what comes. Return its number.

        Without `wait` what cannot be written at once is left in the outbox.
        """
        self.check()
        within = serving.get()
        number, sending = self.connection.request(
            method,
            args,
            kwargs,
            waiter,
            deadline_ms=UNSET if timeout is None else _milliseconds(timeout),
            credit=credit,
            within=within[1] if within and within[0] is self else UNSET,
        )
        try:
            if wait:
                self._send(sending, None if timeout is None else time.monotonic() + timeout)
            else:
                self.post(sending)
            self.check()  # again, for it may have been lost before the call was in the table
        except BaseException:
            self.connection.give_up(number)
            raise
        return number

    def _abandon(self, number: Id) -> None:
        """Wait no more for a call, and say so at the other end, if it is not over."""
        with SignalsHeld():
            self._early.pop(number, None)
            if self.connection.give_up(number) is not None and not self.is_lost:
                self.post(self.connection.cancel(number))

    def abandon(self, number: Id) -> None:
        """Wait no more for a call, and say so at the other end, if it is not over."""
        self._abandon(number)

    def timed_out(self, method: str, timeout: float | None) -> CallTimeoutError:
        return CallTimeoutError(
            f"{method!r} was not answered within {timeout:g} s", timeout=timeout or 0.0
        )

    def check(self) -> None:
        """Raise what `explain` gives where the other end has gone."""
        if self.is_lost:
            raise self.explain()

    # --- sending --------------------------------------------------------------------------

    def post(self, sending: Sending) -> None:
        """Send without waiting; what cannot be written now is written later."""
        try:
            if not self.outbox.send(sending) and self._thread is not None:
                self._thread.rouse(self)
        except OSError:
            self._lose(None)

    def _send(self, sending: Sending, deadline: float | None) -> None:
        try:
            if self.outbox.send(sending):
                return
        except OSError:
            self._lose(None)
            return
        self._send_slowly(deadline)

    def _send_slowly(self, deadline: float | None) -> None:
        """Wait until all is written, reading meanwhile where nobody else does.

        Both ends may be writing more than the other has read: one of them has to begin.
        """
        stalled = time.monotonic() + STALLED
        moved = self.outbox.moved
        while self.outbox and not self.is_lost:
            until = stalled if deadline is None else min(deadline, stalled)
            if self._leads() or self.try_lead():
                try:
                    done = self._turn(until)
                finally:
                    self._go()
            else:
                done = bool(self.outbox.wait(_milliseconds(min(until - time.monotonic(), 0.1))))
                self._flush()
            if self.outbox.moved != moved:
                moved, stalled = self.outbox.moved, time.monotonic() + STALLED
            elif time.monotonic() >= until:
                if until == stalled:
                    self._violated(f"it has read nothing for {STALLED:g} s")
                return

    def _flush(self) -> bool:
        try:
            return self.outbox.flush()
        except OSError:
            self._lose(None)
            return True

    # --- reading --------------------------------------------------------------------------

    def wait(self, waiter: Waiter, is_ready: Callable[[], bool], deadline: float | None) -> bool:
        """Wait until `is_ready`, leading or following; return False when `deadline` has passed."""
        while not is_ready() and not self.is_lost:
            while waiter.jobs:
                self.run_job(waiter.jobs.popleft())
            if is_ready():
                break
            if self._leads():
                if not self._turn(deadline, beside=self.loop is not None):
                    return False
            elif self.try_lead():
                try:
                    while not is_ready() and not waiter.jobs and not self.is_lost:
                        if not self._turn(deadline):
                            return False
                finally:
                    self._go()
            elif not self._follow(waiter, deadline):
                return False
        return True

    def _follow(self, waiter: Waiter, deadline: float | None) -> bool:
        """Sleep until somebody rings; return False when `deadline` has passed."""
        self._followers.append(waiter)
        if not self.is_led:  # they went before they could have seen us
            return True
        timeout = -1.0 if deadline is None else max(deadline - time.monotonic(), 0)
        if self.loop is not None:
            timeout = BESIDE if timeout < 0 else min(timeout, BESIDE)
        if not waiter.wait(timeout):
            if self.loop is not None and self.gate.acquire(timeout=BESIDE):
                try:
                    if self.loop is not None:
                        self._turn(time.monotonic(), beside=True, gated=True)
                finally:
                    self.gate.release()
            return deadline is None or time.monotonic() < deadline
        return True

    def run_job(self, request: Request) -> None:
        """Serve a call on this thread; the peer has asked for it by `Waiter.jobs`."""
        self.peer.serve(request)  # type: ignore[attr-defined]

    def _turn(self, deadline: float | None, *, beside: bool = False, gated: bool = False) -> bool:
        """Wait until something can be read or written, and do that; False when it is too late."""
        if not self._inbox:
            wait = None if deadline is None else _milliseconds(deadline - time.monotonic())
            poller = self._poller(self.descriptor)
            if self.outbox:
                poller.register(self.outbox.descriptor, select.POLLOUT)
            if beside and not gated:
                with self.gate:
                    return self._turn_ready(poller.poll(wait))
            return self._turn_ready(poller.poll(wait))
        self.digest()
        return True

    def _turn_ready(self, ready: list[tuple[int, int]]) -> bool:
        if not ready:
            return False
        descriptors = {descriptor for descriptor, _ in ready}
        if self.outbox:
            self._flush()
        if self.descriptor in descriptors:
            self.read()
        elif self._exit_fd in descriptors:
            self._lose(None)
        return True

    def _poller(self, descriptor: int) -> select.poll:
        poller = select.poll()
        poller.register(descriptor, select.POLLIN)
        if self._exit_fd >= 0:
            poller.register(self._exit_fd, select.POLLIN)
        return poller

    def read(self) -> bool:
        """Read once, and deal with what came; False where there was nothing. To be led."""
        with SignalsHeld():
            self.uses += 1
            if self.connection.codec.wanted:
                return self._read_apart()
            try:
                data = read(self.ends.read, READ_SIZE)
            except BlockingIOError:
                return False
            except OSError:
                data = b""
            self._inbox.append(data)
            self._digest()
        return True

    def digest(self) -> None:
        """Deal with what has been read. To be led."""
        with SignalsHeld():
            self._digest()

    def _digest(self) -> None:
        try:
            while self._inbox:
                data = self._inbox.pop(0)
                if not data:
                    self._lose(None)
                    return
                for event in self.connection.receive(data):
                    self.dispatch(event)
        except ProtocolViolationError as error:
            self._lose(error)

    def _read_apart(self) -> bool:
        from plugkeep.channel import apart

        try:
            buffer = apart.receive(self)
            if buffer is None:
                return False
            for event in self.connection.supply(buffer):
                self.dispatch(event)
        except ProtocolViolationError as error:
            self._lose(error)
        except OSError:
            self._lose(None)
        return True

    def dispatch(self, event: Event) -> None:
        """Tell whoever it concerns."""
        _DISPATCH[type(event)](self, event)

    def _answered(self, answer: Answer) -> None:
        if answer.waiter is LEADER:
            self._early[answer.id] = answer
        else:
            answer.waiter.answered(answer)

    def _received(self, item: Chunk | Progress) -> None:
        if item.waiter is not LEADER:
            item.waiter.received(item)

    def _dropped(self, event: Dropped) -> None:
        if event.reason:
            self.peer.dropped(event.reason)

    def _refused(self, event: Refusal) -> None:
        self.post((event.data, ()))
        self.peer.dropped(event.reason)

    # --- the lead -------------------------------------------------------------------------

    @property
    def descriptor(self) -> int:
        """What is to be read next."""
        if self.connection.codec.wanted and self.ends.socket is not None:
            return self.ends.socket.fileno()
        return self.ends.read

    @property
    def is_led(self) -> bool:
        """Whether anybody reads, or waits to."""
        if self._lead.acquire(False):
            self._lead.release()
            return False
        return True

    def try_lead(self) -> bool:
        """Take the lead if it is free; to be given back by `go`."""
        if self._lead.acquire(False):
            self._active = True
            return True
        return False

    def lead(self) -> None:
        """Wait for the lead, and take it."""
        self._lead.acquire()
        self._active = True

    def go(self) -> None:
        """Give the lead to whoever needs it."""
        self._go()

    def _go(self) -> None:
        self._active = False
        self._lead.release()
        if self._followers or self.loops or self.dozing:
            self._hand_over()

    def _hand_over(self) -> None:
        while self._followers:
            try:
                waiter = self._followers.popleft()
            except IndexError:
                break
            if not waiter.is_done:
                waiter.ring()
                return
        for ask in list(self.loops.values()):
            try:
                ask()
            except RuntimeError:  # that loop has been closed
                continue
            return
        if self.dozing and self._thread is not None:
            self._thread.rouse(self)

    def take_over(self) -> bool:
        """Read on behalf of nobody in particular; False where somebody else leads."""
        if not self.try_lead():
            return False
        try:
            if not self.is_lost:
                self.read()
        finally:
            self._go()
        return True

    def tick(self) -> bool:
        """Write what could not be written before."""
        return self.is_lost or self._flush()

    # --- the end --------------------------------------------------------------------------

    def _violated(self, rule: str) -> None:
        self._lose(ProtocolViolationError(rule))

    def _lose(self, error: ProtocolViolationError | None) -> None:
        if not self.is_lost:
            self.is_lost = True
            self.peer.lost(error)
            self.fail_all()

    def fail_all(self) -> None:
        """Fail every call that is in flight."""
        self.is_lost = True
        for number in list(self.connection.calls):
            waiter = self.connection.give_up(number)
            if waiter is not None and waiter is not LEADER:
                waiter.failed()

    def close(self) -> None:
        """Fail what is in flight, and close the descriptors."""
        self.fail_all()
        if self._thread is not None:
            self._thread.leave(self)
        # Whoever leads sees that it is lost; a thread that does not come back must not hold us.
        if self._lead.acquire(timeout=1.0):
            try:
                self.ends.close()
            finally:
                self._lead.release()


_DISPATCH: dict[type, Callable[[Channel, Any], None]] = {
    Answer: Channel._answered,
    Chunk: Channel._received,
    Progress: Channel._received,
    Request: lambda channel, event: channel.peer.requested(event),
    Cancel: lambda channel, event: channel.peer.cancelled(event.id),
    Credit: lambda channel, event: channel.peer.credited(event.id),
    Log: lambda channel, event: channel.peer.logged(event),
    Notification: lambda channel, event: channel.peer.noticed(event),
    Noise: lambda channel, event: channel.peer.printed(event),
    Stop: lambda channel, _event: channel.peer.stop(),
    Refusal: Channel._refused,
    Dropped: Channel._dropped,
}


def _milliseconds(seconds: float) -> int:
    return min(max(int(seconds * 1000 + 0.999), 0), 2**31 - 1)
