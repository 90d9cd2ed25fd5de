"""Serves a plugin to its host: one call after another, as fast as the pipe."""

from __future__ import annotations

import os
from typing import Any

from msgspec import json

from plugkeep.channel.io_thread import IoThread
from plugkeep.errors import CallError, ProtocolViolationError
from plugkeep.plugin import Plugin
from plugkeep.runner._channel import PluginChannel
from plugkeep.runner._failures import raised
from plugkeep.channel.exposed import methods_of
from plugkeep.runner._wire import Wire
from plugkeep.wire import messages as m
from plugkeep.wire.connection import Connection, Request, Sending
from plugkeep.wire.events import Log, Notification
from plugkeep.wire.frames import HEADER, Frames
from plugkeep.wire.messages import Code, Id
from plugkeep.wire.ndjson import Ndjson, Noise


class Runner:
    """The plugin's end: a `Peer` of the channel."""

    is_serving = True

    def __init__(self, plugin: Plugin, wire: Wire) -> None:
        self.plugin = plugin
        self.wire = wire
        self.methods = methods_of(plugin)
        self.connection = Connection(Frames() if wire.level == 2 else Ndjson())
        self.channel = PluginChannel(
            self.connection, wire.ends, self, lambda: CallError("the host is gone"), IoThread()
        )
        self.queue = self.channel.queue
        self.quick: dict[Any, Any] = {}
        self.unwanted: set[Id] = set()
        self.is_stopping = False
        self.is_over = False
        self.status = 0

    def announce(self) -> None:
        """Say that the plugin is ready to be spoken to."""
        said: dict[str, Any] = {"ready": True, "name": self.plugin.name}
        if self.wire.level:
            said["wire"] = self.wire.level
            said["methods"] = [method.announcement() for method in self.methods.values()]
        if self.wire.level == 2:
            said["codec"] = "msgpack"
        text = json.encode(said)
        frame = HEADER.pack(len(text), len(text), 0) + text
        self.channel.send((frame if self.wire.level == 2 else text + b"\n", ()))

    def run(self) -> int:
        """Serve until the plugin is to stop; return the exit status."""
        if not self.wire.level:
            self._start_unasked()
        else:
            self.announce()
        channel = self.channel
        while not self.is_over:
            self._serve_quickly()
        return self.status

    def _start_unasked(self) -> None:
        self.plugin.start()
        self.announce()

    def _serve_quickly(self) -> None:
        """Serve calls without anything special as they come, until there is something else."""
        channel, connection, queue, unwanted = (
            self.channel,
            self.connection,
            self.queue,
            self.unwanted,
        )
        take_plain, answer, codec = connection.take_plain, connection.answer, connection.codec
        quick, send, read, source = self.quick.get, channel.outbox.send, os.read, channel.ends.read
        acquire, release = channel._lead.acquire, channel._lead.release
        acquire()
        channel._active = True
        while not (queue or codec.wanted or channel.is_lost):
            data = read(source, _READ_SIZE)
            channel.uses += 1
            message = take_plain(data)
            if message is None:
                channel.take(data)
                continue
            function = quick(message.method)
            if function is None:
                channel.peer.requested(
                    Request(message.id, message.method, message.params, {}, (), None, None, None)
                )
                continue
            channel._active = False
            release()
            if channel._followers or channel.loops or channel.dozing:
                channel._hand_over()
            channel.current = message
            try:
                sending = answer(message.id, function(*message.params))
            except BaseException as error:
                sending = self._failed(message.id, error)
            if not send(sending):
                channel.send_slowly(None)
            if unwanted:
                unwanted.discard(message.id)
            acquire()
            channel._active = True
        channel.go()
        self._work()

    def _work(self) -> None:
        for _ in range(len(self.queue)):
            self.queue.popleft()()

    def _failed(self, number: Id, error: BaseException) -> Sending:
        return self.connection.refuse(number, *raised(error))

    # --- what the channel tells -----------------------------------------------------------

    def requested(self, request: Request) -> None:
        if request.method == m.PING:
            self.channel.post(self.connection.answer(request.id, None))
        elif request.method == m.START:
            self.queue.append(lambda: self._start(request))
        elif request.method == m.STOP:
            self.queue.append(lambda: self._stop(request))
        elif request.method in self.quick:
            self.queue.append(lambda: self._serve(request))
        else:
            self.channel.post(
                self.connection.refuse(
                    request.id, Code.METHOD_NOT_FOUND, f"no method {request.method!r}"
                )
            )

    def _serve(self, request: Request) -> None:
        self.channel.current = request
        method = self.methods[request.method]
        try:
            args, kwargs = method.binding.bind(request.args, request.kwargs, request.buffers)
            sending = self.connection.answer(request.id, method.function(*args, **kwargs))
        except BaseException as error:
            sending = self._failed(request.id, error)
        self.channel.send(sending)

    def _start(self, request: Request) -> None:
        self.channel.current = request
        try:
            self.plugin.start()
            sending = self.connection.answer(request.id, None)
            self.quick.update(
                {name: method.function for name, method in self.methods.items() if method.is_quick}
            )
        except BaseException as error:
            sending = self._failed(request.id, error)
        self.channel.send(sending)

    def _stop(self, request: Request | None = None) -> None:
        self.channel.current = request
        self.is_over = True
        try:
            self.plugin.stop()
            if request:
                self.channel.send(self.connection.answer(request.id, None))
        except BaseException as error:
            if request:
                self.channel.send(self._failed(request.id, error))
            else:
                self.status = 1

    def cancelled(self, number: Id) -> None: ...
    def credited(self, number: Id) -> None: ...
    def logged(self, log: Log) -> None: ...
    def noticed(self, notification: Notification) -> None: ...
    def printed(self, noise: Noise) -> None: ...
    def dropped(self, reason: str) -> None: ...

    def stop(self) -> None:
        self.queue.append(self._stop)

    def lost(self, error: ProtocolViolationError | None) -> None:
        self.queue.append(self._stop)


_READ_SIZE = 4096
