"""A plugin's process as a host without plugkeep sees it: messages to it and from it, on the wire.

Only the standard library, but for the codec msgpack, which needs msgspec.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import json
import mmap
import os
import selectors
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import IO, Any, cast

#: Seconds that a plugin has for whatever is awaited of it.
PATIENCE = 10.0

Message = dict[str, Any]


class WireError(Exception):
    """Raised when a plugin does not do what is awaited of it, or breaks a rule of the wire."""


class Plugin:
    """A running plugin at level 0 or 1: lines on stdin and stdout.

    `printed` is what came on stdout and was no message.
    """

    def __init__(self, command: Sequence[str], *, offer: int) -> None:
        self.printed: list[str] = []
        self.codec = "json"
        self.offered = offer
        self._stdout = b""
        self._was_ready = False
        self._stderr = b""
        self._passed_over: list[tuple[Message, list[bytes]]] = []  # for `receive` to return
        offered, passed = self._offer(offer)
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PLUGKEEP_WIRE")}
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**environment, **offered},
            pass_fds=passed,
            start_new_session=True,
            bufsize=0,
        )
        self._input = self._file("stdin").fileno()
        os.set_blocking(self._input, False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._file("stdout"), selectors.EVENT_READ, self._take_stdout)
        self._messages = self._file("stdout").fileno()
        self._selector.register(self._file("stderr"), selectors.EVENT_READ, self._take_stderr)

    def _offer(self, level: int) -> tuple[dict[str, str], tuple[int, ...]]:
        """Return what the environment says, and the descriptors to be inherited."""
        return ({"PLUGKEEP_WIRE": str(level)} if level else {}), ()

    # --- to the plugin --------------------------------------------------------------------

    def send(self, message: Message, _: Sequence[bytes] = ()) -> None:
        self.write(json.dumps(message).encode() + b"\n")

    def send_batch(self, messages: Sequence[Message]) -> None:
        """Send several messages at once, which level 1 does line by line."""
        for message in messages:
            self.send(message)

    def send_series(self, messages: Sequence[Message]) -> None:
        """Send requests of one method, numbered one after the other, at once."""
        self.send_batch(messages)

    def write(self, data: bytes) -> None:
        """Write all of `data` to the control channel, as it is."""
        _write(self._input, data)

    def close(self) -> None:
        """End the control channel, as a host that is gone."""
        self._file("stdin").close()

    # --- from the plugin ------------------------------------------------------------------

    def receive(self) -> tuple[Message, list[bytes]] | None:
        """Return the next message and its buffers; None where no more will come."""
        if self._passed_over:
            return self._passed_over.pop(0)
        found: tuple[Message, list[bytes]] | None = self._await(
            self._next, "a message", {self._messages}
        )
        return found

    def await_print(self, text: str) -> None:
        """Wait until the line `text` has come: beside the messages, on stderr, or to the log."""

        def look() -> bool | None:
            while came := self._next():
                self._passed_over.append(came)
                if came[0].get("method") == "$/log" and came[0]["params"]["message"] == text:
                    return True
            complaints = self._stderr.decode(errors="replace").splitlines()
            return True if text in [*self.printed, *complaints] else None

        sources = {key.fd for key in self._selector.get_map().values()}
        if not self._await(look, f"{text!r}", sources):
            raise WireError(f"{text!r} was not printed; there was {self.printed}")

    def _await(self, look: Callable[[], Any], what: str, sources: set[int]) -> Any:
        """Return what `look` finds, as soon as it does; None when all `sources` have ended."""
        limit = time.monotonic() + PATIENCE
        while (found := look()) is None:
            if sources.isdisjoint(self._selector.get_map()):
                return None
            if not self._take(limit - time.monotonic()):
                raise WireError(f"{what} did not come within {PATIENCE:g} s")
        return found

    def _take(self, seconds: float) -> bool:
        """Take in what comes next; return False where nothing does."""
        ready = self._selector.select(seconds)
        for key, _ in ready:
            data = os.read(key.fd, 65536)
            if data:
                key.data(data)
            else:
                self._selector.unregister(key.fileobj)
        return bool(ready)

    def _take_stdout(self, data: bytes) -> None:
        self._stdout += data

    def _take_stderr(self, data: bytes) -> None:
        self._stderr += data

    def _look_ahead(self) -> None:
        """Take printed lines out of what has come, up to the next message."""
        while self._was_ready and (end := self._stdout.find(b"\n") + 1):
            if _as_object(self._stdout[:end]) is not None:
                break
            self.printed.append(self._stdout[:end].decode(errors="replace").rstrip("\r\n"))
            self._stdout = self._stdout[end:]

    def _next(self) -> tuple[Message, list[bytes]] | None:
        if not self._was_ready:
            return self._ready_object()
        self._look_ahead()
        end = self._stdout.find(b"\n") + 1
        if not end:
            return None
        line, self._stdout = self._stdout[:end], self._stdout[end:]
        return json.loads(line), []

    def _ready_object(self) -> tuple[Message, list[bytes]] | None:
        """Return the first object; at level 0 it may be spread over lines, or lack a newline."""
        try:
            message, end = json.JSONDecoder().raw_decode(self._stdout.decode())
        except ValueError:  # incomplete so far, perhaps in the middle of a character
            return None
        if not isinstance(message, dict):
            raise WireError(f"the ready message is no object: {message!r}")
        rest = self._stdout[end:]
        if message.get("wire") and not rest.startswith(b"\n"):
            return None
        self._was_ready = True
        self._stdout = rest.removeprefix(b"\n")
        return message, []

    # --- its end --------------------------------------------------------------------------

    def exit_status(self) -> int:
        """Wait for it to exit; return its status, negative for a signal."""
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise WireError(f"it did not exit within {PATIENCE:g} s") from None

    def stderr(self) -> str:
        """Return what it has written to stderr."""
        while self._selector.get_map() and self._take(0):
            pass
        return self._stderr.decode(errors="replace")

    def end(self) -> None:
        """Leave nothing of it behind."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._selector.close()
        for name in ("stdin", "stdout", "stderr"):
            self._file(name).close()

    def _file(self, name: str) -> IO[bytes]:
        return cast("IO[bytes]", getattr(self.process, name))


class FramedPlugin(Plugin):
    """A running plugin at level 2: frames on pipes of their own, and buffers."""

    def __init__(self, command: Sequence[str], *, offer: int) -> None:
        self._frames = bytearray()
        self._batch: list[Message] = []  # what is left of it
        super().__init__(command, offer=offer)
        self._was_ready = True  # nothing on stdout is a message
        for descriptor in self._theirs:
            os.close(descriptor)
        self._input, self._messages = self._to, self._from
        os.set_blocking(self._to, False)
        self._selector.register(self._from, selectors.EVENT_READ, self._frames.extend)

    def _offer(self, level: int) -> tuple[dict[str, str], tuple[int, ...]]:
        read, self._to = os.pipe()
        self._from, write = os.pipe()
        self._socket, theirs = socket.socketpair()
        self._socket.settimeout(PATIENCE)
        self._theirs = (read, write, theirs.detach())
        descriptors = ",".join(map(str, self._theirs))
        return {"PLUGKEEP_WIRE": str(level), "PLUGKEEP_WIRE_FDS": descriptors}, self._theirs

    def send(self, message: Message, buffers: Sequence[bytes] = ()) -> None:
        how = message.get("buffers", [])
        body = _encode(message, self.codec)
        inline = b"".join(b for b, way in zip(buffers, how, strict=False) if type(way) is int)
        self.write(struct.pack("<III", len(body) + len(inline), len(body), 0) + body + inline)
        for buffer, way in zip(buffers, how, strict=False):
            if type(way) is dict and way["via"] == "memory":
                self._send_memory(buffer)
            elif type(way) is dict:
                self._socket.sendall(buffer)

    def send_batch(self, messages: Sequence[Message]) -> None:
        """Send several messages in one frame."""
        body = _encode(list(messages), self.codec)
        self.write(struct.pack("<III", len(body), len(body), 0) + body)

    def send_series(self, messages: Sequence[Message]) -> None:
        """Send several requests as one."""
        series = {**messages[0], "params": [message["params"] for message in messages]}
        body = _encode(series, self.codec)
        self.write(struct.pack("<III", len(body), len(body), _SERIES) + body)

    def _send_memory(self, data: bytes) -> None:
        descriptor = os.memfd_create("buffer", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.write(descriptor, data)
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
            socket.send_fds(self._socket, [b"\0"], [descriptor])
        finally:
            os.close(descriptor)

    def close(self) -> None:
        if self._to >= 0:
            os.close(self._to)
            self._to = -1

    def _look_ahead(self) -> None:
        while end := self._stdout.find(b"\n") + 1:
            self.printed.append(self._stdout[: end - 1].decode(errors="replace"))
            self._stdout = self._stdout[end:]

    def _next(self) -> tuple[Message, list[bytes]] | None:
        self._look_ahead()
        if self._batch:
            return self._batch.pop(0), []
        if len(self._frames) < 12:
            return None
        length, message_length, flags = struct.unpack_from("<III", self._frames)
        if (flags, message_length) != (_SERIES, length) and (flags or message_length > length):
            raise WireError(f"a frame has the header {bytes(self._frames[:12]).hex(' ', 4)}")
        if len(self._frames) < 12 + length:
            return None
        body = bytes(self._frames[12 : 12 + message_length])
        inline = bytes(self._frames[12 + message_length : 12 + length])
        del self._frames[: 12 + length]
        message, *self._batch = _decode(body, self.codec, is_series=flags == _SERIES)
        return message, self._buffers(message.get("buffers", []), inline)

    def _buffers(self, announced: list[Any], inline: bytes) -> list[bytes]:
        buffers = []
        for way in announced:
            if type(way) is int:
                buffers.append(inline[:way])
                inline = inline[way:]
            elif way["via"] == "memory":
                buffers.append(self._receive_memory(way["size"]))
            else:
                buffers.append(self._receive_raw(way["size"]))
        if inline:
            raise WireError(f"{len(inline)} bytes of a frame belong to no buffer")
        return buffers

    def _receive_raw(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            piece = self._socket.recv(min(size - len(data), 65536))
            if not piece:
                raise WireError(f"the socket ended after {len(data)} of {size} bytes")
            data += piece
        return bytes(data)

    def _receive_memory(self, size: int) -> bytes:
        byte, ancillary, *_ = self._socket.recvmsg(1, socket.CMSG_SPACE(4), socket.MSG_CMSG_CLOEXEC)
        descriptors = array.array("i")
        for _, _, data in ancillary:
            descriptors.frombytes(data)
        try:
            if byte != b"\0" or len(descriptors) != 1:
                raise WireError(f"a memory file came as {byte!r} with {len(descriptors)} files")
            seals, length = (
                fcntl.fcntl(descriptors[0], fcntl.F_GET_SEALS),
                os.fstat(descriptors[0]).st_size,
            )
            if length != size or seals & _SEALS != _SEALS:
                raise WireError(f"a memory file of {size} has {length} bytes, seals {seals:#x}")
            with mmap.mmap(descriptors[0], size, prot=mmap.PROT_READ) as mapped:
                return mapped[:]
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def end(self) -> None:
        super().end()
        self.close()
        os.close(self._from)
        self._socket.close()


#: The flag of a frame that holds a series.
_SERIES = 1
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def _write(descriptor: int, data: bytes) -> None:
    limit = time.monotonic() + PATIENCE
    with selectors.DefaultSelector() as writable:
        writable.register(descriptor, selectors.EVENT_WRITE)
        while data:
            if not writable.select(limit - time.monotonic()):
                raise WireError(f"it did not read for {PATIENCE:g} s; {len(data)} bytes are left")
            try:
                data = data[os.write(descriptor, data) :]
            except BrokenPipeError:
                raise WireError("it reads no more") from None


def _as_object(line: bytes) -> Message | None:
    with contextlib.suppress(ValueError):
        found = json.loads(line)
        return found if isinstance(found, dict) else None
    return None


def _encode(message: Message | list[Message], codec: str) -> bytes:
    if codec == "json":
        return json.dumps(message).encode()
    import msgspec

    return msgspec.msgpack.encode(message)


def _decode(body: bytes, codec: str, *, is_series: bool) -> list[Message]:
    """Return the message in a frame, or those of a batch or a series."""
    try:
        if codec == "json":
            found = json.loads(body)
        else:
            import msgspec

            found = msgspec.msgpack.decode(body)
    except ValueError as error:
        raise WireError(f"a frame holds no message: {error}; {body[:100]!r}") from error
    if is_series:
        return _spelt_out(found)
    batch = found if isinstance(found, list) else [found]
    if not batch or not all(isinstance(message, dict) for message in batch):
        raise WireError(f"a frame holds no object, and no batch of objects: {found!r}")
    return batch


def _spelt_out(series: Any) -> list[Message]:
    """Return the messages that a series stands for."""
    member = "params" if isinstance(series, dict) and "method" in series else "result"
    try:
        first, items = series["id"], series[member]
        messages = [
            {**series, "id": first + index, member: item} for index, item in enumerate(items)
        ]
    except (TypeError, KeyError) as error:
        raise WireError(f"a frame holds no series: {series!r}") from error
    if not messages:
        raise WireError(f"a series is empty: {series!r}")
    return messages
