"""Reading one end of the wire, and telling whoever it concerns."""

from __future__ import annotations

import os
import select
from collections import deque
from collections.abc import Callable, Iterable
from operator import attrgetter
from os import read
from typing import TYPE_CHECKING, Any

from msgspec import UNSET

from plugkeep.channel.in_order import Many
from plugkeep.channel.outbox import Outbox
from plugkeep.channel.waiters import LEADER
from plugkeep.errors import PluginError, ProtocolViolationError
from plugkeep.signals import SignalsHeld
from plugkeep.wire.connection import Connection
from plugkeep.wire.events import (
    Answer,
    Cancel,
    Chunk,
    Credit,
    Dropped,
    Event,
    Log,
    Notification,
    Progress,
    Refusal,
    Request,
    Stop,
)
from plugkeep.wire.frames import Frames
from plugkeep.wire.messages import Id, Message, PlainAnswer
from plugkeep.wire.ndjson import Noise
from plugkeep.wire.sending import Sending

if TYPE_CHECKING:
    from plugkeep.channel.apart import Receiver
    from plugkeep.channel.ends import Ends
    from plugkeep.channel.io_thread import IoThread
    from plugkeep.channel.peer import Peer

#: Read at once. Ever larger reads are no faster, and their allocation alone soon costs more.
READ_SIZE = 16 * 1024
_BUFFERS_AT_ONCE = 8
#: So many bytes are probably several messages.
_SEVERAL = 256
_id_of, _result_of = attrgetter("id"), attrgetter("result")
#: Milliseconds in which nearly always a buffer follows its announcement.
_ON_ITS_WAY = 1


class Reading:
    """What comes, and to whom it goes. To be read by one at a time: see `Leading`."""

    def __init__(
        self,
        connection: Connection,
        ends: Ends,
        peer: Peer,
        explain: Callable[[], PluginError],
        *,
        thread: IoThread | None = None,
        exit_fd: int = -1,
        received: bytes = b"",
    ) -> None:
        self.connection = connection
        self.ends = ends
        self.peer = peer
        self.explain = explain
        self.outbox = Outbox(ends)
        self.is_lost = False
        self._is_special = False  # it is lost, or an event loop reads it
        #: See `Attended`.
        self.uses = 0
        self._thread = thread
        self._exit_fd = exit_fd
        self._early: dict[Id, Answer | PlainAnswer] = {}  # for leaders, read by others
        # What has been read, and what has come of that: a log handler, or a signal's, that calls
        # from inside goes on where its own thread was.
        self._inbox: list[bytes] = [received] if received else []
        self._messages: deque[Message | Noise] = deque()
        self._receiver: Receiver | None = None
        # Ends the wait of whoever reads: what they wait for has come in another way.
        ends.open_nudged()
        self._polls: dict[int, Callable[[int | None], list[tuple[int, int]]]] = {}
        connection.reserve = _reserve

    @property
    def descriptor(self) -> int:
        """What is to be read next."""
        if self.connection.codec.wanted and self.ends.socket is not None:
            return self.ends.socket.fileno()
        return self.ends.read

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
        messages, inbox = self._messages, self._inbox
        calls, take, give_up = self.connection.calls, self.connection.take, self.connection.give_up
        try:
            while messages or inbox:
                while messages:
                    message = messages.popleft()
                    # An answer without anything special takes the short way: there may be many.
                    if (
                        type(message) is Message
                        and message.result is not UNSET
                        and message.method is message.error is message.buffers is UNSET
                        and (waiter := calls.get(message.id)) is not None  # type: ignore[arg-type]
                        and waiter is not LEADER
                    ):
                        give_up(message.id)  # type: ignore[arg-type]
                        waiter.answered(PlainAnswer(message.id, message.result))  # type: ignore[arg-type]
                    else:
                        self.dispatch(take(message))
                if inbox:
                    self._take_in(inbox.pop(0))
        except ProtocolViolationError as error:
            self._lose(error)

    def _take_in(self, data: bytes) -> None:
        if not data:
            self._lose(None)
            return
        if (
            not self._messages
            and len(data) > _SEVERAL
            and self.connection.calls
            and self._take_answers(data)
        ):
            return
        self._messages.extend(self.connection.codec.receive(data))
        if self.connection.codec.wanted:
            self._aim()
            # It is on its way, and to wait for it in here costs less than to come again.
            if self._poll(_ON_ITS_WAY):
                self._read_apart()

    def _take_answers(self, data: bytes) -> bool:
        """Deal with a read that is nothing but plain answers; return False where it is not."""
        codec = self.connection.codec
        several = codec.series(data)
        if not several and (answers := codec.plain_answers(data)):
            several = [(list(map(_id_of, answers)), list(map(_result_of, answers)))]
        for ids, results in several:
            waiter = self.connection.calls.get(ids[0])
            if isinstance(waiter, Many) and waiter.answered_all(ids, results):
                self.connection.give_up_all(ids)
            else:
                self._answered_plainly(map(PlainAnswer, ids, results))
        return bool(several)

    def _answered_plainly(self, answers: Iterable[PlainAnswer]) -> None:
        for answer in answers:
            waiter = self.connection.give_up(answer.id)
            if waiter is LEADER:
                self._early[answer.id] = answer
            elif waiter is not None:
                waiter.answered(answer)
            else:
                self.peer.dropped(f"an answer to call {answer.id!r}, for which nobody waits")

    def _read_apart(self) -> bool:
        """Take from the socket some of what was announced: a few buffers, or a part of one.

        Return False where there is no more of it now.
        """
        try:
            for _ in range(_BUFFERS_AT_ONCE):
                buffer = self._receive_apart(self.connection.codec.wanted)
                if buffer is None:
                    return False
                assert isinstance(self.connection.codec, Frames)  # noqa: S101  # no other wants any
                self._messages.extend(self.connection.codec.supply(buffer))
                if not self.connection.codec.wanted:
                    break
            self._digest()
        except ProtocolViolationError as error:
            self._lose(error)
        except OSError:
            self._lose(None)
        finally:
            self._aim()
        return True

    def _receive_apart(self, wanted: Any) -> Any:
        if self._receiver is None:
            from plugkeep.channel.apart import Receiver

            assert self.ends.socket is not None  # noqa: S101  # else there is nothing to want
            self._receiver = Receiver(self.ends.socket)
        return self._receiver.receive(wanted)

    def _aim(self) -> None:
        """Have those who wait from now on wait for what is to be read next."""
        descriptor = self.descriptor
        if descriptor not in self._polls:
            self._polls[descriptor] = self._poller().poll
        self._poll = self._polls[descriptor]

    def _poller(self) -> select.poll:
        poller = select.poll()
        poller.register(self.descriptor, select.POLLIN)
        poller.register(self.ends.nudged, select.POLLIN)
        if self._exit_fd >= 0:
            poller.register(self._exit_fd, select.POLLIN)
        return poller

    def nudge(self) -> None:
        """Have whoever reads look around."""
        if self.ends.nudged >= 0:
            os.eventfd_write(self.ends.nudged, 1)

    # --- telling --------------------------------------------------------------------------

    def dispatch(self, event: Event) -> None:
        """Tell whoever it concerns."""
        try:
            _DISPATCH[type(event)](self, event)
        except Exception:  # of a handler: it is not the reader's, who may be anyone
            import logging

            logging.getLogger("plugkeep.channel").exception("dealing with %.200r failed", event)

    def _answered(self, answer: Answer) -> None:
        # It must not keep its waiter, which keeps it: the garbage collector does not see events.
        waiter, answer.waiter = answer.waiter, None
        if waiter is LEADER:
            self._early[answer.id] = answer
        else:
            waiter.answered(answer)

    def _received(self, item: Chunk | Progress) -> None:
        waiter, item.waiter = item.waiter, None
        if waiter is not LEADER:
            waiter.received(item)

    def _dropped(self, event: Dropped) -> None:
        if event.reason:
            self.peer.dropped(event.reason)

    def _refused(self, event: Refusal) -> None:
        self.post((event.data, ()))
        self.peer.dropped(event.reason)

    # --- sending --------------------------------------------------------------------------

    def post(self, sending: Sending) -> None:
        """Send without waiting; what cannot be written now is written later."""
        if not self.outbox.send(sending):
            self.leave_unsent()

    def leave_unsent(self) -> None:
        """Have the I/O thread write what cannot be written yet."""
        if self._thread is not None and not self.is_lost:
            self._thread.rouse(self)  # type: ignore[arg-type]  # see `Channel`

    # --- the end --------------------------------------------------------------------------

    def check(self) -> None:
        """Raise what `explain` gives where the other end has gone."""
        if self.is_lost:
            raise self.explain()

    def _lose(self, error: ProtocolViolationError | None) -> None:
        if not self.is_lost:
            self.is_lost = True
            self.peer.lost(error)
        self.fail_all()
        if self._thread is not None:
            self._thread.leave(self)  # type: ignore[arg-type]  # see `Channel`

    def fail_all(self) -> None:
        """Fail every call that is in flight."""
        self.is_lost = self._is_special = True
        for number in list(self.connection.calls):
            waiter = self.connection.give_up(number)
            if waiter is not None and waiter is not LEADER:
                waiter.failed()
        self.nudge()


def _reserve(size: int) -> Any:
    from plugkeep.channel import apart

    return apart.reserve(size)


_DISPATCH: dict[type, Callable[[Reading, Any], None]] = {
    Answer: Reading._answered,
    Chunk: Reading._received,
    Progress: Reading._received,
    Request: lambda reading, event: reading.peer.requested(event),
    Cancel: lambda reading, event: reading.peer.cancelled(event.id),
    Credit: lambda reading, event: reading.peer.credited(event.id),
    Log: lambda reading, event: reading.peer.logged(event),
    Notification: lambda reading, event: reading.peer.noticed(event),
    Noise: lambda reading, event: reading.peer.printed(event),
    Stop: lambda reading, _event: reading.peer.stop(),
    Refusal: Reading._refused,
    Dropped: Reading._dropped,
}
