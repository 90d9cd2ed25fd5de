"""A host made of pipes and a `wire.Connection`, for what the runner serves in a child process."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from plugkeep.wire.connection import Connection
from plugkeep.wire.events import Answer, Chunk, Log, Progress, Request
from plugkeep.wire.frames import Frames
from plugkeep.wire.ndjson import Ndjson

PATIENCE = 15.0
SOURCES = Path(__file__).parents[3] / "src"


class Child:
    """A child process that serves a plugin, and the host's side of the wire to it."""

    def __init__(self, command: list[str], level: int, cwd: Path, **how: Any) -> None:
        self.level = level
        self.logs: list[Log] = []
        self.events: list[Any] = []
        self.ready: Any = None
        self._raw = b""
        env = {
            **os.environ,
            "PYTHONPATH": str(SOURCES),
            "PYTHONFAULTHANDLER": "1",
            **how.pop("env", {}),
        }
        env.pop("PLUGKEEP_WIRE", None)  # the tests' own, if they run so themselves
        self._theirs: tuple[int, ...] = ()
        self.socket: socket.socket | None = None
        if level:
            env["PLUGKEEP_WIRE"] = how.pop("offer", str(level))
        if level == 2:
            read, self.to = os.pipe()
            self.from_, write = os.pipe()
            self.socket, theirs = socket.socketpair()
            self._theirs = (read, write, theirs.detach())
            env["PLUGKEEP_WIRE_FDS"] = ",".join(map(str, self._theirs))
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=env,
            cwd=cwd,
            pass_fds=self._theirs,
            bufsize=0,
            start_new_session=True,
            **how,
        )
        assert self.process.stdin
        assert self.process.stdout
        for descriptor in self._theirs:
            os.close(descriptor)
        if level != 2:
            self.to, self.from_ = self.process.stdin.fileno(), self.process.stdout.fileno()
        self.connection = Connection(Frames("json") if level == 2 else Ndjson())

    # --- speaking -------------------------------------------------------------------------

    def start(self, config: Any = None, host: tuple[str, ...] = ()) -> Answer:
        """Wait for ready, and start the plugin."""
        self.await_ready()
        return self.answer(self.request("$/start", config=config, host=list(host)))

    def await_ready(self) -> Any:
        import json

        while not self._is_ready_whole():
            assert self._read(), f"it ended before it was ready: {self.stderr()}"
        if self.level == 2:
            size = 12 + int.from_bytes(self._raw[:4], "little")
            self.ready = json.loads(self._raw[12:size])
            self.connection = Connection(Frames(self.ready["codec"]))
        else:
            size = self._raw.index(b"\n") + 1
            self.ready = json.loads(self._raw[:size])
        self._raw = self._raw[size:]
        return self.ready

    def _is_ready_whole(self) -> bool:
        if self.level != 2:
            return b"\n" in self._raw
        return len(self._raw) >= 12 + int.from_bytes(self._raw[:4], "little") > 12

    def request(
        self, method: str, *args: Any, _: dict[str, Any] | None = None, **kwargs: Any
    ) -> int:
        """Send a request; `_` has deadline_ms, credit and within. Return its number."""
        number, (frame, apart) = self.connection.request(method, args, kwargs, None, **(_ or {}))
        assert not apart
        os.write(self.to, frame)
        return number

    def notify(self, method: str, **params: Any) -> None:
        os.write(self.to, self.connection.notify(method, **params)[0])

    def grant(self, number: int, amount: int) -> None:
        """Take more of a stream."""
        sending = self.connection.grant(number, amount)
        assert sending
        os.write(self.to, sending[0])

    def reply(self, request: Request, result: Any) -> None:
        os.write(self.to, self.connection.answer(request.id, result)[0])

    def refuse(self, request: Request, code: int, text: str) -> None:
        os.write(self.to, self.connection.refuse(request.id, code, text)[0])

    def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call and return the result, which there has to be."""
        answer = self.answer(self.request(method, *args, **kwargs))
        assert answer.error is None, answer.error
        return answer.result

    def error(self, method: str, *args: Any, _: dict[str, Any] | None = None, **kwargs: Any) -> Any:
        """Call and return the error, which there has to be."""
        answer = self.answer(self.request(method, *args, _=_, **kwargs))
        assert answer.error is not None, answer.result
        return answer.error

    # --- hearing --------------------------------------------------------------------------

    def answer(self, number: int) -> Answer:
        """Return the answer to a request; what else comes is kept."""
        found: Answer = self.wait(lambda event: isinstance(event, Answer) and event.id == number)
        return found

    def chunk(self) -> Any:
        return self.wait(lambda event: isinstance(event, Chunk)).value

    def progress(self) -> Any:
        return self.wait(lambda event: isinstance(event, Progress)).value

    def asked(self) -> Request:
        """Return what the plugin asks of the host."""
        found: Request = self.wait(lambda event: isinstance(event, Request))
        return found

    def log(self, message: str) -> Log:
        """Return the log record whose message holds `message`."""
        limit = time.monotonic() + PATIENCE
        while True:
            for record in self.logs:
                if message in record.message:
                    return record
            assert time.monotonic() < limit, f"no record {message!r} in {self.logs[-20:]}"
            assert self._receive(), f"it ended; there were {self.logs[-20:]}"

    def wait(self, wanted: Callable[[Any], bool]) -> Any:
        """Return the first event that is wanted."""
        while True:
            for event in self.events:
                if wanted(event):
                    self.events.remove(event)
                    return event
            if not self._receive():
                told = f"{self.events}, {self.logs[-20:]}, {self.stderr()}"
                raise AssertionError(f"it ended with {self.status()}; {told}")

    def _receive(self) -> bool:
        data, self._raw = self._raw, b""
        if not data:
            if not self._read():
                return False
            data, self._raw = self._raw, b""
        for event in self.connection.receive(data):
            (self.logs if isinstance(event, Log) else self.events).append(event)
        return True

    def _read(self) -> bool:
        ready, _, _ = select.select([self.from_], [], [], PATIENCE)
        if not ready:
            self.process.send_signal(signal.SIGABRT)  # it says where its threads are
            pytest.fail(f"nothing came; {self.events} {self.logs[-20:]}\n{self.stderr()}")
        data = os.read(self.from_, 65536)
        self._raw += data
        return bool(data)

    # --- the end --------------------------------------------------------------------------

    def stop(self) -> Answer:
        """Stop the plugin; it has to exit with 0."""
        answer = self.answer(self.request("$/stop"))
        assert self.status() == 0
        return answer

    def hang_up(self) -> None:
        """Be gone, as far as the child can tell."""
        if self.level == 2:
            os.close(self.to)
            self.to = -1
        else:
            assert self.process.stdin
            self.process.stdin.close()

    def status(self) -> int:
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)
            pytest.fail(f"it did not exit: {self.stderr()}", pytrace=False)

    def stderr(self, *, wait: bool = True) -> str:
        """Return what it has written to stderr until it ended, or so far."""
        return self._rest(self.process.stderr, wait)

    def await_stderr(self, text: str) -> None:
        """Wait until `text` stands on stderr."""
        assert self.process.stderr
        found = b""
        while text.encode() not in found:
            ready, _, _ = select.select([self.process.stderr], [], [], PATIENCE)
            assert ready, f"{text!r} did not come; there was {found!r}"
            data = os.read(self.process.stderr.fileno(), 65536)
            assert data, f"{text!r} did not come; there was {found!r}"
            found += data

    def stdout(self) -> str:
        """Return what it has written to stdout until it ended, behind what was read."""
        return self._rest(self.process.stdout, True)

    def _rest(self, file: Any, wait: bool) -> str:
        text = b""
        while select.select([file], [], [], PATIENCE if wait else 0)[0]:
            if not (data := os.read(file.fileno(), 65536)):
                break
            text += data
        return text.decode()

    def end(self) -> None:
        """Leave nothing of it behind."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for file in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert file
            file.close()
        if self.level == 2:
            for descriptor in {self.to, self.from_} - {-1}:
                os.close(descriptor)
            assert self.socket
            self.socket.close()


@pytest.fixture(params=[1, 2])
def level(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture
def serve(tmp_path: Path, level: int) -> Iterator[Callable[..., Child]]:
    """Serve the plugin in a text; `level` is that of the wire unless another is given."""
    children: list[Child] = []

    def serve(
        text: str, *arguments: str, script: bool = False, at: int | None = None, **how: Any
    ) -> Child:
        path = tmp_path / "plugin.py"
        path.write_text(textwrap.dedent(text))
        words = [str(path)] if script else ["-m", "plugkeep.runner", *arguments, f"file:{path}"]
        child = Child([sys.executable, *words], level if at is None else at, tmp_path, **how)
        children.append(child)
        return child

    yield serve
    for child in children:
        child.end()
