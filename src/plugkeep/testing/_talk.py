"""A plugin's process as any host sees it: what is said to it, and what comes.

Written from the protocol alone, apart from the host's own end of the wire: else a mistake that
both had in common would never be seen.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import selectors
import signal
import socket
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from plugkeep.wire.ready import MAX_BYTES, ReadyParser, Verdict

Message = dict[str, Any]

_HEADER: Final = struct.Struct("<III")
_LONGEST: Final = 64 << 20
#: How much of what came is told.
_SHOWN: Final = 300


class Broken(Exception):
    """Raised where a program does not do what it has to; the text is what was seen."""


class Malformed(Broken):
    """Raised where what came is no message at all, so that nothing after it can be trusted."""


def _text(message: Message) -> bytes:
    """Return a message as hosts write it: programs at level 0 may compare it byte by byte."""
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()


class Talk:
    """One life of a program, offered `level`. Use it as a context manager."""

    def __init__(
        self,
        command: Sequence[str],
        level: int,
        *,
        env: Mapping[str, str] | None,
        cwd: str | os.PathLike[str] | None,
        start_timeout: float,
        timeout: float,
    ) -> None:
        self.offered = level
        #: Seconds for whatever comes next.
        self.timeout = start_timeout
        self._timeout = timeout
        #: The level that it has chosen, and what it has said with that.
        self.level = 0
        self.ready: Message = {}
        self.ready_bytes = b""
        #: What is wrong with the form of messages that came.
        self.malformed: list[str] = []
        #: Responses that nobody waited for.
        self.strays: list[Message] = []
        self._said = "nothing"
        self._number = 0
        self._stdout, self._frames, self._stderr = bytearray(), bytearray(), bytearray()
        self._selector = selectors.DefaultSelector()
        self._own: list[int] = []
        offered, passed = self._offer(level)
        environment = dict(os.environ if env is None else env)
        for name in ("PLUGKEEP_WIRE", "PLUGKEEP_WIRE_FDS"):
            environment.pop(name, None)
        try:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**environment, **offered},
                cwd=cwd,
                pass_fds=passed,
                start_new_session=True,
                bufsize=0,
            )
        except BaseException:
            self._close_own()
            raise
        finally:
            for descriptor in passed:
                os.close(descriptor)
        assert self._process.stdin is not None  # noqa: S101
        self._input = os.dup(self._process.stdin.fileno())
        self._process.stdin.close()
        self._register(self._process.stdout, self._stdout)
        self._register(self._process.stderr, self._stderr)

    def _offer(self, level: int) -> tuple[dict[str, str], tuple[int, ...]]:
        """Return what the environment says, and the descriptors to be inherited."""
        if level < 2:
            return ({"PLUGKEEP_WIRE": str(level)} if level else {}), ()
        read, self._to = os.pipe()
        self._from, write = os.pipe()
        ours, theirs = socket.socketpair()
        self._own += [self._to, self._from, ours.detach()]
        self._selector.register(self._from, selectors.EVENT_READ, self._frames)
        passed = (read, write, theirs.detach())
        descriptors = ",".join(map(str, passed))
        return {"PLUGKEEP_WIRE": "2", "PLUGKEEP_WIRE_FDS": descriptors}, passed

    def _register(self, file: Any, buffer: bytearray) -> None:
        self._own.append(os.dup(file.fileno()))
        file.close()
        self._selector.register(self._own[-1], selectors.EVENT_READ, buffer)

    def __enter__(self) -> Talk:  # noqa: PYI034  # there is one class
        return self

    def __exit__(self, *_: object) -> None:
        """Leave nothing of it behind."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._close_own()

    def _close_own(self) -> None:
        self.close()
        self._selector.close()
        for descriptor in self._own:
            with suppress(OSError):
                os.close(descriptor)
        self._own.clear()

    def has_started(self) -> None:
        """From now on it has as long for each thing as it has when it runs."""
        self.timeout = self._timeout

    # --- what comes first -----------------------------------------------------------------

    def await_ready(self) -> None:
        """Wait for the ready object, on whichever channel it comes. Raises Broken."""
        parser = ReadyParser()
        seen = 0
        limit = time.monotonic() + self.timeout
        while True:
            if self.offered == 2 and (frame := self._next_frame()) is not None:
                self._take_ready(frame, 2)
                return
            data = bytes(self._stdout[seen:])
            seen += len(data)
            verdict = parser.feed(data)
            if verdict is Verdict.REFUSED:
                raise Broken(f"what it says first {parser.reason}: {_shown(self._stdout)}")
            if verdict is Verdict.READY:
                self._take_ready(parser.message, None)
                self._stdout[:] = parser.rest
                return
            self._take_more(limit, "it was not ready")

    def _take_ready(self, text: bytes, level: int | None) -> None:
        try:
            said = json.loads(text.decode("utf-8", "replace"))
        except ValueError:
            said = None
        if not isinstance(said, dict) or said.get("ready") is not True:
            raise Broken(f'its first message has no "ready": true: {_shown(text)}')
        if len(text) > MAX_BYTES:
            raise Broken(f"its ready object is {len(text)} bytes long, more than {MAX_BYTES}")
        self.ready, self.ready_bytes = said, text
        chosen = said.get("wire", 0)
        if level == 2 and chosen != 2:
            raise Broken(f"its ready object in a frame has wire {chosen!r}, not 2")
        self.level = chosen if type(chosen) is int else 0
        if self.level == 2:
            os.close(self._input)  # which carries nothing at this level
            self._input = os.dup(self._to)
            os.close(self._to)
            self._own.remove(self._to)

    def ready_line_ends(self) -> bool:
        """Say whether the ready object, at level 1, is one line with nothing else on it."""
        limit = time.monotonic() + self.timeout
        while b"\n" not in self._stdout:
            try:
                self._take_more(limit, "")
            except Broken:
                return False
        line, _, rest = bytes(self._stdout).partition(b"\n")
        self._stdout[:] = rest
        return b"\n" not in self.ready_bytes and not line.strip()

    # --- to it ----------------------------------------------------------------------------

    def tell(self, message: Message) -> None:
        """Say a message. Raises Broken where it does not read."""
        self.write(self.packed(message), _text(message))

    def write(self, data: bytes, about: bytes | None = None) -> None:
        """Write bytes as they are; `about` is what is told of them. Raises Broken as `tell`."""
        self._said = _shown(data if about is None else about)
        os.set_blocking(self._input, False)
        limit = time.monotonic() + self.timeout
        while data:
            _, writable, _ = select.select([], [self._input], [], limit - time.monotonic())
            if not writable:
                raise Broken(f"sent {self._said}; it did not read for {self.timeout:g} s")
            try:
                data = data[os.write(self._input, data) :]
            except BrokenPipeError:
                raise Broken(f"sent {self._said}; it reads no more, {self._ending()}") from None

    def until_read(self, seconds: float) -> None:
        """Wait until all that was written has been read, or so long."""
        limit = time.monotonic() + seconds
        while time.monotonic() < limit:
            (unread,) = struct.unpack("i", fcntl.ioctl(self._input, termios.FIONREAD, bytes(4)))
            if not unread:
                return
            time.sleep(0.0005)  # nothing tells of it

    def close(self) -> None:
        """End its input, as a host that is gone."""
        if self._input_is_open():
            os.close(self._input)
            self._input = -1

    def _input_is_open(self) -> bool:
        return getattr(self, "_input", -1) >= 0

    def packed(self, message: Message) -> bytes:
        """Return a message as it travels."""
        text = _text(message)
        if self.level != 2:
            return text + b"\n"
        if self.ready.get("codec") == "msgpack":
            import msgspec

            text = msgspec.msgpack.encode(message)
        return _HEADER.pack(len(text), len(text), 0) + text

    def ask(self, method: str, number: int | str | None = None, **members: Any) -> Message:
        """Make a request and return the response to it. Raises Broken where none comes."""
        if number is None:
            number = self.next_number()
        self.tell({"jsonrpc": "2.0", "id": number, "method": method, **members})
        return self.response(number)

    def next_number(self) -> int:
        """Return an id that no request has had."""
        self._number += 1
        return self._number

    def response(self, number: int | str) -> Message:
        """Return the response to a request. Raises Broken where none comes."""
        while True:
            message = self._receive()
            if "method" in message:
                self._refuse(message)
            elif message.get("id") == number and type(message.get("id")) is type(number):
                return message
            else:
                self.strays.append(message)

    def _refuse(self, message: Message) -> None:
        """Grant nothing of the host."""
        if "id" in message:
            said = self._said
            error = {"code": -32003, "message": "nothing is granted"}
            self.tell({"jsonrpc": "2.0", "id": message["id"], "error": error})
            self._said = said

    # --- from it --------------------------------------------------------------------------

    def _receive(self) -> Message:
        limit = time.monotonic() + self.timeout
        while True:
            message = self._next_message()
            if message is not None:
                self._look_at(message)
                return message
            self._take_more(limit, f"sent {self._said}; no answer came")

    def _next_message(self) -> Message | None:
        if self.level == 2:
            frame = self._next_frame()
            return None if frame is None else self._decoded(frame)
        while b"\n" in self._stdout:
            line, _, rest = bytes(self._stdout).partition(b"\n")
            self._stdout[:] = rest
            with suppress(ValueError):
                message = json.loads(line)
                if isinstance(message, dict) and message.keys() & {"id", "method", "jsonrpc"}:
                    return message
        return None

    def _next_frame(self) -> bytes | None:
        if len(self._frames) < _HEADER.size:
            return None
        length, message_length, flags = _HEADER.unpack_from(self._frames)
        if flags or message_length > length or message_length > _LONGEST:
            raise Malformed(f"a frame has the header {bytes(self._frames[:12]).hex(' ', 4)}")
        if len(self._frames) < 12 + length:
            return None
        text = bytes(self._frames[12 : 12 + message_length])
        del self._frames[: 12 + length]
        return text

    def _decoded(self, text: bytes) -> Message:
        try:
            if self.ready.get("codec") == "msgpack":
                import msgspec

                message = msgspec.msgpack.decode(text)
            else:
                message = json.loads(text)
        except ValueError:
            raise Malformed(f"a frame has what is no message: {_shown(text)}") from None
        if not isinstance(message, dict):
            raise Malformed(f"a frame has what is no message: {_shown(text)}")
        return message

    def _look_at(self, message: Message) -> None:
        """Note what is wrong with the form of a message."""
        if reason := _misshapen(message):
            self.malformed.append(f"{reason}: {_shown(repr(message).encode())}")

    def _take_more(self, limit: float, awaited: str) -> None:
        """Take in what comes next. Raises Broken where nothing does."""
        sources = [key for key in self._selector.get_map().values() if key.data is not self._stderr]
        if not sources:
            raise Broken(f"{awaited}: {self._ending()}")
        ready = self._selector.select(max(0.0, limit - time.monotonic()))
        if not ready:
            raise Broken(f"{awaited} within {self.timeout:g} s{self._last_words()}")
        for key, _ in ready:
            data = os.read(key.fd, 65536)
            if data:
                key.data.extend(data)
            else:
                self._selector.unregister(key.fd)

    # --- its end --------------------------------------------------------------------------

    def exit_status(self) -> int:
        """Wait for it to exit; return its status, negative for a signal. Raises Broken."""
        if (status := self._process.poll()) is not None:
            return status
        limit = time.monotonic() + self.timeout
        descriptor = os.pidfd_open(self._process.pid)
        try:
            while not select.select([descriptor], [], [], 0)[0]:  # draining, or it might block
                if time.monotonic() > limit:
                    raise Broken(f"sent {self._said}; it still ran {self.timeout:g} s later")
                channels = list(self._selector.get_map())
                ready, _, _ = select.select(
                    [descriptor, *channels], [], [], limit - time.monotonic()
                )
                if set(ready) - {descriptor}:
                    with suppress(Broken):
                        self._take_more(time.monotonic(), "")
        finally:
            os.close(descriptor)
        return self._process.wait()

    def ends_within(self, seconds: float) -> bool:
        """Say whether it ends by itself so soon."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
            return True
        return False

    def left(self) -> list[int]:
        """Return the processes of its group that are left, when they had a moment to go."""
        limit = time.monotonic() + 1.0
        while (pids := _group(self._process.pid)) and time.monotonic() < limit:
            time.sleep(0.01)
        return pids

    def stderr(self) -> str:
        """Return what it has written to stderr."""
        while ready := self._selector.select(0):
            for key, _ in ready:
                data = os.read(key.fd, 65536)
                key.data.extend(data)
                if not data:
                    self._selector.unregister(key.fd)
        return self._stderr.decode(errors="replace")

    def how_it_ended(self, status: int) -> str:
        """Return what was said last, and how it ended."""
        return f"sent {self._said}; {_told(status)}{self._last_words()}"

    def _ending(self) -> str:
        """Say how it has ended, or that it has not."""
        with suppress(subprocess.TimeoutExpired):
            return f"{_told(self._process.wait(1.0))}{self._last_words()}"
        return "it has closed its output, and goes on running"

    def _last_words(self) -> str:
        lines = self.stderr().splitlines()[-5:]
        return "; the last of its stderr: " + " | ".join(lines) if lines else ""


def _misshapen(message: Message) -> str:
    """Say what keeps a message from being one; "" if nothing."""
    if message.get("jsonrpc") != "2.0":
        return 'it has no "jsonrpc": "2.0"'
    if "method" in message:
        return "" if isinstance(message["method"], str) else "its method is no text"
    if "id" not in message:
        return "it has neither method nor id"
    if ("result" in message) == ("error" in message):
        return "it has not exactly one of result and error"
    error = message.get("error", {"code": 0, "message": ""})
    if not isinstance(error, dict) or type(error.get("code")) is not int:
        return "its error has no whole number as code"
    return "" if isinstance(error.get("message"), str) else "its error has no text as message"


def _told(status: int) -> str:
    if status >= 0:
        return f"it exited with status {status}"
    with suppress(ValueError):
        return f"it was ended by {signal.Signals(-status).name}"
    return f"it was ended by signal {-status}"


def _shown(data: bytes | bytearray) -> str:
    text = bytes(data[:_SHOWN]).decode(errors="backslashreplace").rstrip("\n")
    text = text.replace("\n", "\\n")
    return f"{text}..." if len(data) > _SHOWN else text or "nothing"


def _group(number: int) -> list[int]:
    """Return the processes of a group that are not dead."""
    found = []
    for folder in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            pid = int(folder.name)
            state, _, group = (folder / "stat").read_text().rpartition(") ")[2].split()[:3]
            if int(group) == number and state not in "ZX":
                found.append(pid)
    return found
