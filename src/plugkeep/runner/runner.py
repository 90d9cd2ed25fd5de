"""Serves a plugin to its host.

Each call runs where its method says: one at a time on the main thread, on the event loop, on a
thread of its own. What is read is told to `Runner`, by whichever thread reads; what it takes time
to do is left to one of these.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from time import monotonic
from types import FrameType
from typing import Any, Final

from msgspec import UNSET, json

from plugkeep import current
from plugkeep.channel.exposed import ExposedMethod
from plugkeep.channel.failures import Failure, failure_of
from plugkeep.channel.io_thread import IoThread
from plugkeep.current import CurrentCall
from plugkeep.errors import (
    MethodNotFoundError,
    PluginBusyError,
    PluginError,
    ProtocolViolationError,
    ReentryLimitError,
    did_you_mean,
)
from plugkeep.plugin import Plugin
from plugkeep.runner import _began
from plugkeep.runner._calls import Call, whole
from plugkeep.runner._channel import PluginChannel
from plugkeep.runner._host_watch import HostWatch
from plugkeep.runner._imports import imported
from plugkeep.runner._life import Life
from plugkeep.runner._methods import Methods
from plugkeep.runner._output import Output
from plugkeep.runner._service import ABOUT_TO_STOP, Service
from plugkeep.runner._wire import Wire
from plugkeep.wire import messages as m
from plugkeep.wire.connection import Connection
from plugkeep.wire.events import Log, Notification, Request
from plugkeep.wire.frames import HEADER, Frames
from plugkeep.wire.http import HTTP
from plugkeep.wire.messages import Code, Id
from plugkeep.wire.ndjson import Ndjson, Noise
from plugkeep.wire.sending import Sending

#: Calls, each within the one before, to this depth.
MOST_DEEP: Final = 32
#: So many calls may wait for their turn.
MOST_WAITING: Final = 100_000
#: What one read takes: little for a call, more where there was more.
_READ_SIZE: Final = 4 * 1024
_READ_MORE: Final = 16 * 1024
#: Seconds that the main thread waits for whoever reads just now, before it does something else.
_MOMENT: Final = 0.002
#: Seconds that a reader of logs who is behind is waited for, and how many bytes it may be behind.
_LOG_PATIENCE: Final = 1.0
#: Seconds that a host has for taking what was said last.
_LAST_WORDS: Final = 2.0
_LOG_BACKLOG: Final = 1024 * 1024


class _Woken(BaseException):
    """Raised by a signal's handler, to end the read that the main thread waits in."""


class Runner:
    """The plugin's end of the wire: the `Peer` of its channel. To be made on the main thread."""

    is_serving = True

    def __init__(
        self,
        plugin: Plugin,
        wire: Wire,
        output: Output,
        *,
        name: str | None = None,
        base: str | None = None,
    ) -> None:
        self.plugin = plugin
        self.name = plugin.name if name is None else name
        self.base = base
        self._wire = wire
        self.level = wire.level
        self.output = output
        self.methods = Methods(plugin)
        self.connection = Connection(_codec(wire.level))
        self.io_thread = IoThread()
        self.life = Life(self)
        self.channel = PluginChannel(
            self.connection, wire.ends, self, _host_is_gone, self.io_thread, self.life.look
        )
        self.queue = self.channel.queue
        #: The methods that may be called without further ado, while the plugin runs: what to
        #: call, and which types of arguments are right as they come.
        self.quick: dict[str, tuple[Any, set[Any] | None]] = {}
        #: Calls that have been cancelled and not been answered yet.
        self.unwanted: set[Id] = set()
        #: Those that are served, or wait for it, other than the quickest.
        self.calls: dict[Id, Call] = {}
        self.service = Service(self)
        self.is_stopping = False
        self.is_over = False
        # How the host has said that the plugin is to stop: by what it waits for an answer to, or
        # by what it may hang up after.
        self._was_asked = self._was_told = False
        #: Whether the event loop reads, and the main thread waits for what is left to it.
        self.is_led = False
        self.status = 0
        self._main = threading.get_ident()
        self._lost_logs = 0
        self._read_size = _READ_SIZE

    # --- the main thread ------------------------------------------------------------------

    def run(self) -> int:
        """Serve until the plugin is to stop; return the exit status."""
        current.found_by(self.find_current)
        watch = None
        if self.level:
            watch = HostWatch(self._wire.ends.read, self.io_thread, self._may_host_hang_up)
            self.announce()
            self.output.attach(self)
        else:
            self.life.start_unasked()
            self.announce()
            self._wire.give_back_stdout()
        while not self.is_over:
            try:
                if self.is_led:
                    self.life.wait_for_work()
                else:
                    self._serve_quickly()
            except _Woken:
                self.channel.recover()
            self.service.work()
        if watch is not None:
            watch.close()
        self.output.detach()
        self.channel.send_slowly(monotonic() + _LAST_WORDS)  # what another thread is writing
        self.channel.close()
        self.io_thread.end()
        return self.status

    def _may_host_hang_up(self) -> bool:
        return self._was_told or (self._was_asked and self.is_over)

    def announce(self) -> None:
        """Say that the plugin is ready to be spoken to."""
        said: dict[str, Any] = {"ready": True}
        if self.level:
            said |= {"wire": self.level, "began": _began.BEGAN}
        said["name"] = self.name
        if isinstance(version := getattr(self.plugin, "version", None), str):
            said["version"] = version
        if self.level == 2:
            said["codec"] = "msgpack"
            said["batch"] = True
        if self.level and (imports := imported()):
            said["imports"] = imports
        if self.level and (methods := self.methods.announced) is not None:
            said["methods"] = methods
        text = json.encode(said)
        whole = HEADER.pack(len(text), len(text), 0) + text if self.level == 2 else text + b"\n"
        self.channel.send((whole, ()))

    def _serve_quickly(self) -> None:  # noqa: C901  # every call made here costs each call
        """Serve calls without anything special as they come, until there is something else to do.

        All that a lone call takes is here, for every step counts. The lead is left meanwhile, so
        that the I/O thread reads where the method takes long.
        """
        channel, connection, queue = self.channel, self.connection, self.queue
        plain_request, quick_answer = connection.codec.plain_request, connection.codec.quick_answer
        answer, open_calls, unwanted = connection.answer, connection.serving, self.unwanted
        quick, send, read, source = self.quick.get, channel.outbox.send, os.read, channel.ends.read
        acquire, release = channel._try_lead, channel._release
        codec, size, take_many = connection.codec, self._read_size, connection.take_many_plain
        names = self.quick.keys()
        if not (acquire(False) or acquire(True, _MOMENT)):
            return
        channel._active = True
        if queue and not channel.is_lost:
            channel.turn(0.0)  # lest a stream keep others from their turn
        while not (queue or codec.wanted or channel.is_lost):
            try:
                data = read(source, size)
            except BlockingIOError:  # somebody who shares the descriptor wants it so
                channel.turn(None)
                continue
            channel.uses += 1
            request = plain_request(data)
            if request is None or request.id in open_calls:
                size = self._read_size = _READ_MORE  # where there were several there will be more
                if many := take_many(data, names):
                    channel.since = monotonic()
                    queue.extend(many)
                    channel.go()
                    self.service.work()
                    if self.is_over or not (acquire(False) or acquire(True, _MOMENT)):
                        return
                    channel._active = True
                else:
                    channel.take(data)
                continue
            open_calls[request.id] = None
            if size is _READ_MORE:
                size = self._read_size = _READ_SIZE
            params, limit = request.params, request.deadline_ms
            function, known = quick(request.method, _NOT_QUICK)
            if (
                known is not None
                and (type(params[0]) if len(params) == 1 else tuple(map(type, params))) not in known
            ) or (limit is not UNSET and limit <= 0):
                self.requested(whole(request))
                continue
            channel._active = False
            release()
            if channel._followers or channel.loops or channel.dozing:
                channel._hand_over()
            channel.current = request
            if limit is not UNSET:
                channel.since = monotonic()
            try:
                result = function(*params)
                frame = quick_answer(request.id, result)
                if frame is not None:
                    del open_calls[request.id]
                    sending: Sending = (frame, ())
                else:
                    sending = answer(request.id, result)
            except BaseException as error:
                sending = self.service.failed(request, error)
            if not send(sending):
                channel.send_slowly(None)
            if unwanted:
                unwanted.discard(request.id)
            # A method on another thread may lead by now, until the host has answered its call;
            # and what is to be done here before that, it puts into the queue.
            if not (acquire(False) or acquire(True, _MOMENT)):
                return
            channel._active = True
        if codec.wanted and not (queue or channel.is_lost):
            channel.turn(None)
        channel.go()

    def terminate(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal: stop in an orderly way, as soon as what the main thread does is done."""
        self.life.interrupt(number)
        # In the loop itself, with the lead, it is about to read, or waits in there.
        if frame is not None and frame.f_code is _LOOP and self.channel._active:
            raise _Woken

    # --- sending --------------------------------------------------------------------------

    def tell(self, sending: Sending) -> None:
        """Send what may be lost: a log record, or progress.

        A host that does not read is waited for a moment, and then no more.
        """
        channel = self.channel
        if channel.outbox.size > _LOG_BACKLOG:
            self._wait_for_reader()
            if channel.outbox.size > _LOG_BACKLOG:
                self._lost_logs += 1
                return
        if self._lost_logs:
            lost, self._lost_logs = self._lost_logs, 0
            channel.post(_lost_logs(self.connection, lost))
        channel.post(sending)

    def _wait_for_reader(self) -> None:
        if not self.channel._leads():
            self.channel.send_slowly(monotonic() + (0 if self._lost_logs else _LOG_PATIENCE))

    # --- what the channel tells -----------------------------------------------------------

    def requested(self, request: Request) -> None:
        """Begin to serve a call."""
        quick = self.quick.get(request.method)
        if (
            quick is None
            or request.credit
            or request.within is not None
            or request.deadline_ms is not None
        ):
            self._consider(request)
        elif len(self.queue) < MOST_WAITING:
            self.queue.append(request)
            if self.is_led:
                self.life.look()
        else:
            self._refuse(request, PluginBusyError(f"{MOST_WAITING} calls are waiting already"))

    def _consider(self, request: Request) -> None:
        if request.method.startswith(m.RESERVED):
            self._requested_reserved(request)
            return
        method = self.methods.find(request.method)
        origin = self.channel.origin(request.within)
        call = Call(self, request, depth=getattr(origin, "depth", 1 if origin else 0) + 1)
        if method is None:
            self._refuse(request, self._unknown(request.method))
        elif self.is_stopping or not (self.life.is_running or origin):
            text = ABOUT_TO_STOP if self.is_stopping else "the plugin does not run yet"
            self.post_failure(request.id, Failure(Code.NOT_RUNNING, text, UNSET))
        elif call.depth > MOST_DEEP:
            self._refuse(
                request, ReentryLimitError(f"calls within calls, more than {MOST_DEEP} deep")
            )
        elif len(self.calls) >= MOST_WAITING:
            self._refuse(request, PluginBusyError(f"{MOST_WAITING} calls are waiting already"))
        else:
            self.calls[call.id] = call
            self.service.begin(call, method)

    def _requested_reserved(self, request: Request) -> None:
        if request.method == m.PING:
            self.channel.post(self.connection.answer(request.id, None))
        elif request.method == m.START:
            self.life.start(request)
        elif request.method == m.STOP:
            self._was_asked = True
            self.life.stop(request)
        elif request.method == m.HEALTH and (method := self.life.health) is not None:
            self._ask_health(request, method)
        elif request.method == HTTP:
            self.life.requested(request)
        else:
            self._refuse(request, self._unknown(request.method))

    def _ask_health(self, request: Request, method: ExposedMethod) -> None:
        """Have the plugin say how it is, where its methods run."""
        call = Call(self, request)
        self.calls[call.id] = call
        self.service.begin(call, method)

    def _unknown(self, name: str) -> MethodNotFoundError:
        hint = self.methods.hint(name)
        more = f"; {hint}" if hint else did_you_mean(name, self.methods)
        error = MethodNotFoundError(f"there is no method {name!r}{more}")
        known = sorted(self.methods)[:100]
        vars(error).update(known=known, hint=hint)  # see `failure_of`
        return error

    def _refuse(self, request: Request, error: PluginError) -> None:
        self.post_failure(request.id, failure_of(error))

    def post_failure(self, number: Id, failure: Failure) -> None:
        """Answer with an error, without waiting."""
        self.channel.post(self.connection.refuse(number, *failure))

    def cancelled(self, number: Id) -> None:
        """Note that the host has lost interest in a call."""
        self.unwanted.add(number)
        if call := self.calls.get(number):
            call.nudge()

    def credited(self, number: Id) -> None:
        """Note that a stream may go on."""
        if call := self.calls.get(number):
            call.nudge()

    def stop(self) -> None:
        """Obey the stop message of level 0."""
        self._was_told = True
        self.life.stop(None)

    def lost(self, error: ProtocolViolationError | None) -> None:
        """Stop, for the host is gone, or says what no host may."""
        if error is not None:
            print(f"plugkeep: the host has broken a rule of the wire: {error}", file=sys.stderr)
            self.status = 1
        if error is not None and threading.get_ident() != self._main:
            signal.pthread_kill(self._main, signal.SIGTERM)  # it may wait in a read
        else:
            self.life.stop(None)

    def logged(self, log: Log) -> None:
        """Pass over what only plugins say."""

    def noticed(self, notification: Notification) -> None:
        """Pass over what a later version may mean something by."""

    def printed(self, noise: Noise) -> None:
        """Pass over a line that is no message."""

    def dropped(self, reason: str) -> None:
        """Pass over what makes no difference."""

    # --- for plugin code ------------------------------------------------------------------

    def find_current(self) -> CurrentCall:
        """Return the call that the main thread serves; others have noted theirs."""
        serves = self.channel.current
        if threading.get_ident() != self._main or serves is None:
            return CurrentCall()
        return self.current_record(serves)

    def current_record(self, request: Any) -> Call:
        """Return the record of a call that the main thread serves, making it if need be."""
        if not isinstance(self.channel.current, Call):
            self.channel.current = Call(self, whole(request), since=self.channel.since)
        return self.channel.current


def _codec(level: int) -> Frames | Ndjson:
    if level != 2:
        return Ndjson()
    codec = Frames()
    codec.takes_batches = True
    return codec


def _host_is_gone() -> PluginError:
    return ProtocolViolationError("the host is gone")


def _lost_logs(connection: Connection, count: int) -> Sending:
    return connection.notify(
        m.LOG,
        level="warning",
        logger="plugkeep.runner",
        message=f"{count} log records were lost, for the host did not read them",
        fields={},
    )


#: What stands for a method that is none of the quick ones: no types are right.
_NOT_QUICK: Final[tuple[Any, set[Any] | None]] = (None, set())
_LOOP: Final = Runner._serve_quickly.__code__
