"""The plugin's end of the wire: that of `Channel`, and what serving the host's calls needs besides.

The main thread waits for the host in a read that blocks, for nothing is quicker. While it is in
plugin code, the I/O thread reads what comes, so that cancel, ping and stop are seen.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from msgspec import UNSET

from plugkeep.channel.channel import Channel
from plugkeep.channel.ends import Ends
from plugkeep.channel.failures import failure_of
from plugkeep.channel.io_thread import IoThread
from plugkeep.channel.waiters import NOBODY, Waiter
from plugkeep.current import served
from plugkeep.errors import UnsendableValueError
from plugkeep.wire.connection import Connection
from plugkeep.wire.messages import PING, Id, PlainAnswer
from plugkeep.wire.sending import Sending

if TYPE_CHECKING:
    from plugkeep.errors import PluginError
    from plugkeep.runner.runner import Runner

_id_of, _result_of = attrgetter("id"), attrgetter("result")
#: Something that the main thread has to do.
Job = Callable[[], None]


class PluginChannel(Channel):
    """One end of the wire at work, in the plugin. To be made on the main thread."""

    opens_plainly = False

    def __init__(
        self,
        connection: Connection,
        ends: Ends,
        peer: Runner,
        explain: Callable[[], PluginError],
        thread: IoThread,
        look: Callable[[], None],
    ) -> None:
        #: Makes the main thread look around, where it does not read.
        self.look = look
        #: What the main thread is serving: a record of the call, or what it came as.
        self.current: Any = None
        #: When the calls came that are served as they came, those with a deadline.
        self.since = 0.0
        #: Jobs for the main thread.
        self.queue: deque[Any] = deque()
        #: Answers that are sent together: frames, and plain results that are yet to become some.
        self.held: deque[bytes | bytearray | PlainAnswer] = deque()
        self._holding = threading.RLock()
        #: Whether the I/O thread comes by every few milliseconds, and would send what is held.
        self.is_hot = False
        # What was being served when each of our own calls was made; those that are over, too.
        self._origins: dict[Id, Any] = {}
        self._main = threading.get_ident()
        self._handing_out = threading.Lock()
        self._io_thread = thread
        super().__init__(connection, ends, peer, explain, thread=thread)
        self.request = self._number

    # --- reading --------------------------------------------------------------------------

    def take(self, data: bytes) -> None:
        """Deal with what the main thread has read. To be led."""
        self._inbox.append(data)
        self._digest()

    def take_over(self) -> bool:
        """See `Channel.take_over`."""
        self.is_hot = not super().take_over()
        return not self.is_hot

    @property
    def is_led(self) -> bool:
        """See `Channel.is_led`; where nobody reads, the I/O thread is about to go, too.

        Not while there is something that it has to send.
        """
        self.is_hot = is_needed = self._active or bool(self.held)
        return is_needed

    # --- answers of the main thread's -----------------------------------------------------

    def hold(self, sending: Sending) -> None:
        """Send with what comes after it, for one write takes longer than one small call."""
        frame, apart = sending
        if apart:
            self.send_held()
            self.send(sending)
        else:
            self.held.append(frame)
            if len(self.held) >= MOST_HELD:
                self.send_held()

    def send_held(self) -> None:
        """Send what is held, in order, and wait until it is written."""
        with self._holding:
            if held := list(self.held):
                self.held.clear()  # only this thread adds to it
                self.send((self._encoded(held), ()))

    def heat(self) -> None:
        """See to it that what is held is sent soon, however long the next job takes."""
        if self.held and (self.dozing or not self.is_hot):
            self.is_hot = True
            self._io_thread.rouse(self)

    def tick(self) -> bool:
        """See `Channel.tick`."""
        if self.held and self._holding.acquire(False):
            try:
                held = [self.held.popleft() for _ in range(len(self.held))]
                self.outbox.put((self._encoded(held), ()))
            finally:
                self._holding.release()
        return super().tick()

    def _encoded(self, held: Sequence[Any]) -> bytes:
        """Return what was held, in one piece."""
        if {PlainAnswer}.issuperset(map(type, held)):
            ids, results = list(map(_id_of, held)), list(map(_result_of, held))
            frames = self.connection.codec.quick_answers(ids, results)
            if frames is not None:
                return frames
        return b"".join(map(self._frame, held))

    def _frame(self, held: bytes | bytearray | PlainAnswer) -> bytes | bytearray:
        if type(held) is not PlainAnswer:
            return held  # type: ignore[return-value]  # it is a frame
        self.connection.serving[held.id] = None
        try:
            return self.connection.answer(held.id, held.result)[0]
        except UnsendableValueError as error:
            return self.connection.refuse(held.id, *failure_of(error))[0]

    # --- calling the host -----------------------------------------------------------------

    def within(self) -> Any:
        """See `Channel.within`."""
        origin = self._served_here()
        return UNSET if origin is None else origin.id

    def _served_here(self) -> Any:
        on_main = threading.get_ident() == self._main
        return self.current if on_main else served.get()

    def _number(self, *args: Any, **kwargs: Any) -> tuple[int, Sending]:
        """Number a call of ours, and note on whose behalf it is made before anybody hears of it."""
        number, sending = self.connection.request(*args, **kwargs)
        self._origins[number] = self._served_here()
        if len(self._origins) > _MOST_ORIGINS + 2 * len(self.connection.calls):
            for each in self._origins.keys() - self.connection.calls.keys():
                self._origins.pop(each, None)
        return number, sending

    def wait(self, waiter: Waiter, is_ready: Callable[[], bool], deadline: float | None) -> bool:
        """See `Channel.wait`."""
        try:
            return super().wait(waiter, is_ready, deadline)
        finally:
            if waiter.is_done:
                self._take_back(waiter)

    def _abandon(self, number: Id) -> None:
        with self._handing_out:
            waiter = self.connection.calls.get(number)
            super()._abandon(number)
        if isinstance(waiter, Waiter):
            self._take_back(waiter)

    def run_job(self, request: Any) -> None:
        """See `Channel.run_job`; here it is a `Job`."""
        request()

    def on_main(self, job: Job, within: Id | None) -> None:
        """Have the main thread do `job`: now, where it waits for what that is `within`."""
        with self._handing_out:
            waiter = self._waiting(within)
            if waiter is None:
                self.queue.append(job)
                self.look()
            else:
                waiter.jobs.append(job)  # type: ignore[arg-type]  # `run_job` knows
                waiter.ring()

    def have_main_do(self, job: Job) -> None:
        """Have the main thread do `job`, whatever it waits in."""
        self.queue.append(job)
        self.look()
        if threading.get_ident() != self._main:
            self._end_wait()

    def _end_wait(self) -> None:
        """Have the main thread look around: if it waits in a read, only something to read can."""
        self.post(self.connection.request(PING, (), {}, NOBODY)[1])

    def origin(self, within: Id | None) -> Any:
        """Return what we were serving when we made the call `within`, if that is under way."""
        return self._origins.get(within) if within in self.connection.calls else None

    def _waiting(self, within: Id | None) -> Waiter | None:
        """Return the main thread's waiter, where it waits for `within` or for what led to it."""
        while within is not None:
            waiter = self.connection.calls.get(within)
            if isinstance(waiter, Waiter) and waiter.thread == self._main:
                return waiter
            within = getattr(self.origin(within), "within", None)
        return None

    def _take_back(self, waiter: Waiter) -> None:
        """Leave the jobs that came too late for a waiter to the main thread's queue."""
        if waiter.jobs:
            while waiter.jobs:
                self.queue.appendleft(waiter.jobs.pop())
            self.look()
            if threading.get_ident() != self._main:
                self._end_wait()


#: So many answers are held back at most.
MOST_HELD = 64
#: So many calls that are over are remembered at most.
_MOST_ORIGINS = 100
