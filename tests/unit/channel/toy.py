"""A child process at the other end of a channel, that does what tests need, and the host's end.

python toy.py READ WRITE [SOCKET]
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from plugkeep.channel.calling import Caller
from plugkeep.channel.channel import Channel
from plugkeep.channel.ends import Ends
from plugkeep.channel.io_thread import borrow, give_back
from plugkeep.errors import PluginError, ProcessExitedError, ProtocolViolationError
from plugkeep.wire.connection import Connection
from plugkeep.wire.events import Cancel, Credit, Request
from plugkeep.wire.frames import Frames
from plugkeep.wire.ndjson import Ndjson
from plugkeep.wire.sending import Apart

# --- the child --------------------------------------------------------------------------------


class Toy:
    """Serves one request after the other, plainly; what is held is answered later or never."""

    def __init__(self, read: int, write: int, codec: Any) -> None:
        self.read, self.write = read, write
        self.connection = Connection(codec)
        self.held: list[Any] = []
        self.streams: dict[Any, Any] = {}
        self.cancelled = 0
        self.chunks = 0

    def run(self) -> None:
        while data := os.read(self.read, 65536):
            for event in self.connection.receive(data):
                if type(event) is Request:
                    self.serve(event)
                elif type(event) is Cancel:
                    self.cancel(event.id)
                elif type(event) is Credit:
                    self.pump(event.id)

    def send(self, sending: tuple[Any, list[Apart]]) -> None:
        data = memoryview(sending[0])
        while data:
            data = data[os.write(self.write, data) :]

    def answer(self, number: Any, value: Any) -> None:
        self.send(self.connection.answer(number, value))

    def serve(self, request: Request) -> None:
        getattr(self, "do_" + request.method, self.do_unknown)(request.id, *request.args)

    def cancel(self, number: Any) -> None:
        self.cancelled += 1
        if number in self.held:
            self.held.remove(number)
            self.send(self.connection.refuse(number, -32800, "cancelled"))
        elif self.streams.pop(number, None) is not None:
            self.send(self.connection.refuse(number, -32800, "cancelled"))

    def pump(self, number: Any) -> None:
        while self.connection.credit_left(number) and number in self.streams:
            try:
                value = next(self.streams[number])
            except StopIteration as end:
                del self.streams[number]
                self.answer(number, end.value)
            else:
                self.chunks += 1
                self.send(self.connection.chunk(number, value))

    # What can be called.

    def do_unknown(self, number: Any, *args: Any) -> None:
        self.send(self.connection.refuse(number, -32601, "no such method", {"known": ["echo"]}))

    def do_echo(self, number: Any, *values: Any) -> None:
        self.answer(number, values[0] if len(values) == 1 else list(values))

    def do_fail(self, number: Any, code: int = -32000) -> None:
        data = {"type": "ValueError", "traceback": "Traceback: here"}
        self.send(self.connection.refuse(number, code, "went wrong", data))

    def do_fail_at(self, number: Any, value: int, bad: int) -> None:
        self.do_fail(number) if value == bad else self.answer(number, value)

    def do_hold(self, number: Any, *_: Any) -> None:
        self.held.append(number)

    def do_release(self, number: Any) -> None:
        held, self.held = self.held, []
        for each in held:
            self.answer(each, "released")
        self.answer(number, len(held))

    def do_sleep(self, number: Any, seconds: float) -> None:
        time.sleep(seconds)
        self.answer(number, seconds)

    def do_large(self, number: Any, size: int) -> None:
        self.answer(number, "x" * size)

    def do_count(self, number: Any, stop: int, *more: Any) -> None:
        def values() -> Iterator[Any]:
            yield from range(stop)
            return "counted"

        self.streams[number] = values()
        self.pump(number)

    def do_progress(self, number: Any, steps: int) -> None:
        for step in range(steps):
            self.send(self.connection.notify("$/progress", id=number, value=step))
        self.answer(number, "done")

    def do_cancelled(self, number: Any) -> None:
        self.answer(number, self.cancelled)

    def do_chunks(self, number: Any) -> None:
        self.answer(number, self.chunks)

    def do_twice(self, number: Any) -> None:
        sending = self.connection.answer(number, "once")
        self.send(sending)
        self.send(sending)

    def do_stray(self, number: Any) -> None:
        self.connection.serving[999_999] = None
        self.answer(999_999, "to nobody")
        self.answer(number, "sent")

    def do_log(self, number: Any, count: int) -> None:
        for each in range(count):
            self.send(self.connection.notify("$/log", level="info", logger="", message=str(each)))
        self.answer(number, count)

    def do_garbage(self, number: Any) -> None:
        os.write(self.write, b"\xff" * 64)

    def do_greedy(self, number: Any, chunks: int) -> None:
        """Send more than there is credit for."""
        flow = self.connection.serving[number]
        flow.granted = 10**6  # type: ignore[union-attr]
        # In one piece, for a host that is quick enough would give credit in between.
        frames = [self.connection.chunk(number, each)[0] for each in range(chunks)]
        self.send((b"".join(frames), ()))

    def do_deaf(self, number: Any) -> None:
        self.answer(number, None)
        signal.pause()

    def do_close(self, number: Any) -> None:
        """Read no more, and live on."""
        os.close(self.read)
        self.answer(number, None)
        signal.pause()

    def do_die(self, number: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


# --- the host ---------------------------------------------------------------------------------


class HostEnd:
    """A `Peer` that notes what it is told, and kills whoever breaks a rule."""

    is_serving = False

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.told: list[tuple[str, Any]] = []
        self.error: ProtocolViolationError | None = None
        self.on_log: Any = lambda log: None

    def logged(self, log: Any) -> None:
        self.told.append(("logged", log.message))
        self.on_log(log)

    def dropped(self, reason: str) -> None:
        self.told.append(("dropped", reason))

    def lost(self, error: ProtocolViolationError | None) -> None:
        self.error = error
        self.process.kill()

    def __getattr__(self, name: str) -> Any:
        if name not in ("requested", "cancelled", "credited", "noticed", "printed", "stop"):
            raise AttributeError(name)
        return lambda *args: self.told.append((name, args))

    def explain(self) -> PluginError:
        if self.error is not None:
            return self.error
        return ProcessExitedError("plugin 'toy' has gone", plugin="toy")


class Host:
    """The host's end of one toy."""

    def __init__(self, channel: Channel, process: subprocess.Popen[bytes], end: HostEnd) -> None:
        self.channel, self.process, self.end = channel, process, end
        self.caller = Caller(channel, "toy", lambda: ["echo", "fail", "count"])
        self.stream, self.astream = self.caller.stream, self.caller.astream

    def call(self, method: str, *args: Any, **options: Any) -> Any:
        return self.caller.call(method, args, {}, self.options(**options))

    async def acall(self, method: str, *args: Any, **options: Any) -> Any:
        return await self.caller.acall(method, args, {}, self.options(**options))

    @staticmethod
    def options(**options: Any) -> Any:
        from plugkeep.channel.calling import Options

        return Options(**options)


@contextmanager
def running(level: int = 2, **options: Any) -> Iterator[Host]:
    """A toy, with the host's end of it; both gone afterwards."""
    (child_read, host_write), (host_read, child_write) = os.pipe(), os.pipe()
    os.set_blocking(host_write, False)
    os.set_blocking(host_read, False)
    command = [sys.executable, __file__, str(child_read), str(child_write), str(level)]
    process = subprocess.Popen(command, pass_fds=(child_read, child_write))
    os.close(child_read)
    os.close(child_write)
    exit_fd = os.pidfd_open(process.pid)
    end = HostEnd(process)
    pair = socket.socketpair()[0] if options.pop("socket", False) else None
    thread = borrow(end)
    codec = Frames() if level == 2 else Ndjson()
    channel = Channel(
        Connection(codec),
        Ends(host_read, host_write, pair),
        end,
        end.explain,
        thread=thread,
        exit_fd=exit_fd,
        **options,
    )
    try:
        yield Host(channel, process, end)
    finally:
        process.kill()
        process.wait()
        channel.close()
        give_back(thread, end)
        os.close(exit_fd)


if __name__ == "__main__":
    Toy(int(sys.argv[1]), int(sys.argv[2]), Frames() if sys.argv[3] == "2" else Ndjson()).run()
