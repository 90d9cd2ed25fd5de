"""Moves bytes between a connection and its descriptors, on whichever thread is there.

Calls go out here and their answers come in. A lone caller reads its own answer and changes no
threads; see `_leading` for what happens where there are several.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from os import read
from select import POLLIN
from threading import get_ident
from typing import Any

from msgspec import UNSET

from plugkeep.channel._leading import STALLED, Leading, has_passed, milliseconds
from plugkeep.channel._luck import Luck
from plugkeep.channel._reading import READ_SIZE
from plugkeep.channel.ends import Ends
from plugkeep.channel.io_thread import IoThread
from plugkeep.channel.peer import Peer
from plugkeep.channel.waiters import LEADER, AnyWaiter, Waiter
from plugkeep.errors import CallError, CallTimeoutError, PluginError, ProtocolViolationError
from plugkeep.signals import SignalsHeld
from plugkeep.wire.connection import Connection
from plugkeep.wire.events import Answer
from plugkeep.wire.messages import HEALTH, PING, STOP, Id, PlainAnswer
from plugkeep.wire.sending import Sending

__all__ = ["READ_SIZE", "Channel", "Peer", "Retired", "serving"]

_LITTLE = (4 * 1024,)  # for a single small answer
_MUCH = (READ_SIZE,)
#: So many reads take all that any pipe holds.
_LEFT_BEHIND = 100
#: Seconds that event loops have to let go of a channel which is closed, and between two looks.
_LOOPS_PATIENCE, _LOOPS_PAUSE = 0.2, 0.0005

#: What is asked for to the very end.
_CONTROL = (STOP, PING, HEALTH)


class Retired(CallError):
    """Raised where a channel takes no more calls: what was to be called has not been sent."""


#: On behalf of which call of the other end's this runs: the channel, and the number.
serving: ContextVar[tuple[Channel, Id] | None] = ContextVar("serving", default=None)


class Channel(Leading):
    """One end of the wire at work.

    `explain` makes the error that calls fail with once the other end has gone; `exit_fd` becomes
    readable then; `received` is what came on ``ends.read`` behind the ready message; `thread`
    reads while nobody calls; an end that takes nothing for `stalled` seconds is cut off.
    """

    #: Whether `open` does nothing of its own for calls that are made on behalf of none.
    opens_plainly = True

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
        stalled: float = STALLED,
    ) -> None:
        super().__init__(
            connection,
            ends,
            peer,
            explain,
            thread=thread,
            exit_fd=exit_fd,
            received=received,
            stalled=stalled,
        )
        #: Numbers a call, and gives what is to be sent for it; see `Connection.request`.
        self.request, self._calls = connection.request, connection.calls
        self._numbers, self._quick_request = connection.numbers, connection.codec.quick_request
        self._plain_answer = connection.codec.plain_answer
        #: Deals with what has been read where that is something that comes often, or does nothing
        #: and returns False.
        self.takes: Callable[[bytes], bool] | None = None
        self.luck = Luck()
        #: It takes no more calls. Looked at after a call has been put in the table, so that
        #: whoever sets it, and finds the table empty then, knows that none will be sent.
        self.is_retired = False
        #: Those that make one call after another on it, which are not in the table in between.
        self.mapping: set[object] = set()
        self._is_closing = False
        self._forgotten: deque[Id] = deque()
        self._send_now = self.outbox.send
        self._readable = [(ends.read, POLLIN)]  # and nothing else
        if thread is not None:
            if exit_fd >= 0:  # the thread will tell whoever waits there that nothing more comes
                ends.open_patient()
            thread.attend(self)
        is_patient = ends.patient >= 0
        self._read_from = (ends.read,)
        self._read_patiently = (ends.patient,)
        self._pipe_poll = self._poll if is_patient else None

    # --- calling --------------------------------------------------------------------------

    def call(  # noqa: C901  # every call made here costs each call
        self,
        method: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        timeout: float | None = None,
    ) -> Answer | PlainAnswer:
        """Call, wait and return what was answered: a PlainAnswer if it is a plain result.

        Raises CallTimeoutError, UnsendableValueError, and what `explain` gives.
        """
        if self._active or self._is_special or self.peer.is_serving:
            return self.call_following(method, args, kwargs, timeout)
        number = 0
        try:
            if not self._try_lead(False):
                return self.call_following(method, args, kwargs, timeout)
            self._active = True
            # From here on it is `open` and `wait` in one, cut down to what a lone call needs.
            deadline: float | None = None
            wait: int | None = None
            left: Any = UNSET
            if timeout is not None:
                deadline = time.monotonic() + timeout
                wait = left = milliseconds(timeout)
            frame = None
            if not kwargs:
                number = next(self._numbers)
                frame = self._quick_request(number, method, args, left)
            if frame is not None:
                self._calls[number] = LEADER
                sending: Sending = (frame, ())
            else:
                number, sending = self.request(method, args, kwargs, LEADER, left)
            if self.is_retired and method not in _CONTROL:
                self.refuse(number)
            if not self._send_now(sending):
                self.send_slowly(deadline)
            self.uses += 1
            inbox = self._inbox
            answer: Answer | PlainAnswer | None = None
            if not inbox:
                # Read and kept in one step, lest a signal's handler come in between. Not to poll
                # first is a tenth faster; only who has no time limit can do without.
                if wait is None and self._poll is self._pipe_poll and not self._is_special:
                    inbox.extend(map(read, self._read_patiently, _LITTLE))
                elif not self._is_there_at_once() and self._poll(wait) == self._readable:
                    try:  # noqa: SIM105  # that takes longer
                        inbox.extend(map(read, self._read_from, _LITTLE))
                    except BlockingIOError:
                        pass  # it has been read in between
                answer = self._plain_answer(inbox[0]) if inbox else None
            # Without anything in the inbox what came in between has dealt with it.
            if answer is not None and answer.id == number and inbox:
                del inbox[0]
                self._calls.pop(number, None)
            else:
                answer = self._await_leading(number, method, timeout, deadline)
            self._active = False
            self._release()
            if self._followers or self.loops or self.dozing:
                self._hand_over()
        except BaseException:
            # Also of what came in between any two lines, such as Ctrl-C.
            self._give_up(number)
            raise
        return answer

    def _is_there_at_once(self) -> bool:
        """Read without waiting, unless that is known to be in vain."""
        if self.luck.passes() or self.connection.codec.wanted:
            return False
        try:
            self._inbox.extend(map(read, self._read_from, _LITTLE))
        except BlockingIOError:
            self.luck.note(hit=False)
            return False
        self.luck.note(hit=True)
        return True

    def _await_leading(
        self, number: Id, method: str, timeout: float | None, deadline: float | None
    ) -> Answer | PlainAnswer:
        while True:
            if (answer := self._early.pop(number, None)) is not None:
                return answer
            self.check()
            if not self.turn(deadline) or (has_passed(deadline) and number not in self._early):
                raise timed_out(method, timeout)

    def call_following(
        self,
        method: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        timeout: float | None = None,
        on_progress: Callable[[Any], object] | None = None,
    ) -> Answer | PlainAnswer:
        """Do what `call` does in any circumstances, and tell how far the call has come."""
        deadline = None if timeout is None else time.monotonic() + timeout
        led_before = self._leads()
        number = 0
        try:
            waiter = Waiter(wants_progress=on_progress is not None)
            number = self.open(method, args, kwargs, waiter, timeout=timeout)
            while True:
                in_time = self.wait(waiter, waiter.has_news, deadline)
                while waiter.progress and on_progress is not None:
                    on_progress(waiter.progress.popleft().value)
                if waiter.answer is not None:
                    return waiter.answer
                self.check()
                if not in_time:
                    raise timed_out(method, timeout)  # noqa: TRY301  # it is given up as others are
        except BaseException:
            self._give_up(number, led_before=led_before)
            raise
        finally:
            if self.loops:
                self._rouse_own_loop()

    def _rouse_own_loop(self) -> None:
        """Have the loop of this very thread look around, if it has one.

        A signal's handler that calls may have interrupted its sleep, and what has come for its
        tasks meanwhile has only been put in its queue.
        """
        thread = get_ident()
        for side in list(self.loops.values()):
            if side.thread == thread:
                with suppress(RuntimeError):  # it has been closed
                    side.ask()

    def open(
        self,
        method: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        waiter: AnyWaiter,
        *,
        timeout: float | None = None,
        credit: Any = UNSET,
        wait: bool = True,
        later: bool = False,
        **how: Any,
    ) -> int:
        """Send a call; `waiter` will be told what comes. Return its number.

        Without `wait` only what can be written now is written, and with `later` nothing. `how` is
        for `Connection.request`.
        """
        self.check()
        number, sending = self.request(
            method,
            args,
            kwargs,
            waiter,
            deadline_ms=UNSET if timeout is None else milliseconds(timeout),
            credit=credit,
            within=self.within(),
            **how,
        )
        try:
            if self.is_retired and method not in _CONTROL:
                self.refuse(number)
            if wait:
                self.send(sending, None if timeout is None else time.monotonic() + timeout)
            elif later:
                self.outbox.put(sending)
            else:
                self.outbox.send(sending)
            # Again, for it may have been lost before the call was in the table. Where it is not
            # in there any more it is over, and the waiter has been told.
            if number in self._calls:
                self.check()
        except BaseException:
            self.connection.give_up(number)
            raise
        return number

    def retire(self) -> None:
        """Take no more calls; those under way go on."""
        self.is_retired = True

    @property
    def is_idle(self) -> bool:
        """Whether no call is under way, nor about to be by what is under way."""
        return not self._calls and not self.mapping

    def refuse(self, number: Id) -> None:
        """Raise Retired, for a call that is in the table and has not been sent."""
        self.connection.give_up(number)
        raise Retired("it takes no more calls")

    def within(self) -> Any:
        """Return the number of the call on whose behalf this thread, or task, calls."""
        within = serving.get()
        return within[1] if within and within[0] is self else UNSET

    def flush_waiting(self, timeout: float | None) -> None:
        """Write what is in the outbox, waiting as long as that takes."""
        if not self.outbox.flush():
            self.send_slowly(None if timeout is None else time.monotonic() + timeout)

    def abandon(self, number: Id) -> None:
        """Wait no more for a call, and say so at the other end, if it is not over."""
        with SignalsHeld():
            self._abandon(number)

    def _abandon(self, number: Id) -> None:
        self._early.pop(number, None)
        if self.connection.give_up(number) is not None and not self.is_lost:
            self.post(self.connection.cancel(number))

    def forget(self, number: Id) -> None:
        """Do as `abandon` does, but soon: for the garbage collector, which comes at any point."""
        if self._thread is None:
            self.abandon(number)
        else:
            self._forgotten.append(number)
            self.leave_unsent()

    def grant(self, number: Id, amount: int) -> None:
        """Take `amount` more values of a stream."""
        if (sending := self.connection.grant(number, amount)) is not None:
            self.post(sending)

    def cut_off(self, violation: ProtocolViolationError) -> None:
        """Have no more to do with an end that breaks the rules."""
        with SignalsHeld():
            self._lose(violation)

    def _give_up(self, number: Id, *, led_before: bool = False) -> None:
        with SignalsHeld():
            self._recover(led_before=led_before)
            self._abandon(number)

    def recover(self, *, led_before: bool = False) -> None:
        """Leave nobody asleep after an exception from anywhere."""
        with SignalsHeld():
            self._recover(led_before=led_before)

    # --- for event loops ------------------------------------------------------------------

    def read_answer(self) -> bool:
        """Read once, and deal with what came; True where it was one plain answer. To be led.

        In that case nothing is lost or done twice wherever a signal's handler comes in between.
        """
        inbox, codec = self._inbox, self.connection.codec
        if not (inbox or self._messages or codec.wanted):
            try:
                inbox.extend(map(read, (self.ends.read,), _MUCH))  # which does not wait
            except BlockingIOError:
                return True
            self.uses += 1
            # Without a call of ours under way it is none, and to try to read it as one takes time.
            answer = self._plain_answer(inbox[0]) if inbox and self._calls else None
            waiter = None if answer is None else self._calls.get(answer.id)
            if answer is not None and waiter is not None and waiter is not LEADER:
                waiter.answered(answer)
                del inbox[:1]
                self.connection.give_up(answer.id)
                return True
            if self.takes is not None and inbox and self.takes(inbox[0]):
                del inbox[:1]
                return True
        self.turn(0.0, nested=True)
        return False

    # --- for the I/O thread ---------------------------------------------------------------

    def take_over(self) -> bool:
        """Read on behalf of nobody in particular; False where somebody else leads."""
        self.check_loop()
        if self.loop is not None and self._left_at != self.uses:
            self._left_at = self.uses  # it has until the next tick
            return False
        if not self.try_lead():
            return False
        try:
            if not self.is_lost:
                self.turn(0.0)
        finally:
            self.go()
        return True

    def tick(self) -> bool:
        """Write what could not be written before; return False while there is more of it."""
        while self._forgotten:
            self._abandon(self._forgotten.popleft())
        if self.outbox.is_broken and not self.is_lost:
            return self.lose_soon()
        if self.is_lost or self._flush():
            self._moved_at = None
            return True
        self._note_progress()
        return False

    def disown(self) -> None:
        """Never be used again: for a copy, in a process forked from the one whose channel it is."""
        self.is_lost = self._is_special = True
        self._thread = None

    # --- the beginning and the end --------------------------------------------------------

    def settle(self) -> None:
        """Deal with what has been read, and with all that an end which has gone left behind.

        Where somebody else leads, that is theirs to do; they see what comes, and the exit.
        """
        if self.try_lead():
            try:
                for _ in range(_LEFT_BEHIND):
                    if self.is_lost or not self.turn(0.0):
                        break
            finally:
                self.go()
        else:
            self.ends.rouse()

    def fail_all(self) -> None:
        """Fail every call that is in flight."""
        super().fail_all()
        if self._active and not self._leads():
            self.ends.rouse()

    def close(self) -> None:
        """Fail what is in flight, and close the descriptors, once nobody reads them any more."""
        self.fail_all()
        if self._thread is not None:
            self._thread.leave(self)
        self._is_closing = True
        self._part_from_loops()
        self.dozing = True  # so that whoever reads looks when it goes
        self._hand_over()

    def _part_from_loops(self) -> None:
        """Have event loops let go of the descriptors, and wait a moment until they have.

        One that is just being closed may have taken the request and never come to it.
        """
        for side in list(self.loops.values()):
            with suppress(RuntimeError):  # that loop has been closed
                side.ask_to_stop()
        until = time.monotonic() + _LOOPS_PATIENCE
        while self.loops and time.monotonic() < until:
            for key, side in list(self.loops.copy().items()):
                if side.is_closed:
                    self.drop_loop(key)
            time.sleep(_LOOPS_PAUSE if self.loops else 0)

    def _hand_over(self) -> None:
        if not self._is_closing:
            super()._hand_over()
        elif not self.loops and self._try_lead(False):
            try:
                self.ends.close()
                self.dozing = False
            finally:
                self._release()


def timed_out(method: str, timeout: float | None) -> CallTimeoutError:
    """Return the error of a call that has taken too long."""
    timeout = timeout or 0.0
    return CallTimeoutError(f"{method!r} was not answered within {timeout:g} s", timeout=timeout)
