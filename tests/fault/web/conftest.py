"""A host with misbehaving web applications under a real server, and clients that misbehave."""

from __future__ import annotations

import fcntl
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, unix_connect

#: Seconds after which a test gives up waiting. Nothing takes as long where nothing is wrong.
PATIENCE = 30.0
FOLDER = Path(__file__).parent


class Log:
    """What the server logs, to be waited for."""

    def __init__(self, output: int) -> None:
        self._output = output
        self._text = b""
        os.set_blocking(output, False)

    def forget(self) -> None:
        """Have only what comes from now on count."""
        with suppress(BlockingIOError):
            while os.read(self._output, 1 << 20):
                pass
        self._text = b""

    def wait_for(self, *patterns: str) -> str:
        """Wait until all of `patterns` are found in the log, and return it."""
        poller = select.poll()
        poller.register(self._output, select.POLLIN)
        while not all(re.search(pattern.encode(), self._text) for pattern in patterns):
            assert poller.poll(PATIENCE * 1000), f"{patterns} are not in the log: {self._text!r}"
            more = os.read(self._output, 1 << 20)
            assert more, f"the server has ended: {self._text!r}"
            self._text += more
        return self._text.decode()


class Served:
    """A host in a process of its own, on a Unix socket, and how to speak with its applications."""

    def __init__(self, process: subprocess.Popen[bytes], path: Path, log: Log) -> None:
        self.process = process.pid
        self.path = path
        self.log = log
        self._process = process

    def end(self) -> None:
        """Have the server end."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(PATIENCE)
        finally:
            self._process.kill()
            self._process.wait()

    def pid(self, plugin: str) -> int:
        return int(self.body(f"/{plugin}/process"))

    @contextmanager
    def connected(self, request: bytes = b"") -> Iterator[socket.socket]:
        """Yield a connection over which `request` has been sent."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PATIENCE)
            connection.connect(os.fspath(self.path))
            connection.sendall(request)
            yield connection

    def get(self, target: str, *headers: str) -> bytes:
        """Return all that comes back for a GET."""
        with self.connected(asking(f"GET {target}", *headers)) as connection:
            return everything(connection)

    def body(self, target: str) -> bytes:
        """Return the body of the answer to a GET, which is 200 and complete."""
        answer = self.get(target)
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), answer
        return body

    def websocket(self, target: str, **options: Any) -> ClientConnection:
        return unix_connect(
            os.fspath(self.path), f"ws://plug{target}", open_timeout=PATIENCE,
            close_timeout=PATIENCE, proxy=None, compression=None, **options,
        )  # fmt: skip


def asking(line: str, *headers: str, body: bytes = b"") -> bytes:
    """Return a request, after whose answer the connection is closed."""
    lines = f"{line} HTTP/1.1", "Host: plug", "Connection: close", *headers, "", ""
    return "\r\n".join(lines).encode("latin-1") + body


def everything(connection: socket.socket) -> bytes:
    """Return all that comes until the end, however that comes about."""
    received = b""
    try:
        while data := connection.recv(65536):
            received += data
    except ConnectionResetError:
        pass
    return received


@contextmanager
def serving(
    folder: Path,
    *names: str,
    asgi: dict[str, Any] | None = None,
    isolate: dict[str, Any] | None = None,
    in_process: bool = False,
) -> Iterator[Served]:
    """Serve the application of naughty.py in as many sandboxes, of these names.

    `asgi` and `isolate` are options for `Host.asgi` and for the sandboxes.
    """
    options = {"asgi": asgi or {}, "isolate": None if in_process else isolate or {}}
    path = folder / "web"
    output, theirs = os.pipe()
    fcntl.fcntl(output, fcntl.F_SETPIPE_SZ, 1 << 20)  # nobody reads it while nobody asks for it
    with socket.socket(socket.AF_UNIX) as listener:
        # It listens before the server runs: whoever connects waits.
        listener.bind(os.fspath(path))
        listener.listen(200)
        process = subprocess.Popen(
            [
                sys.executable,
                FOLDER / "serve.py",
                str(listener.fileno()),
                json.dumps(options),
                *names,
            ],
            pass_fds=[listener.fileno()],
            stdin=subprocess.DEVNULL,
            stderr=theirs,
        )
    os.close(theirs)
    served = Served(process, path, Log(output))
    try:
        yield served
    finally:
        try:
            served.end()
        finally:
            os.close(output)


Serve = Callable[..., AbstractContextManager[Served]]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Serve the plugins "naughty" and "steady", the same to all tests of a module."""
    folder = tmp_path_factory.mktemp("web")
    with serving(folder, "naughty", "steady") as served:
        yield served


@pytest.fixture
def serve(tmp_path: Path) -> Serve:
    """Return a function that serves plugins of these names for as long as its block."""
    return partial(serving, tmp_path)


@pytest.fixture(name="asking")
def asking_() -> Callable[..., bytes]:
    return asking


@pytest.fixture(name="everything")
def everything_() -> Callable[[socket.socket], bytes]:
    return everything


@pytest.fixture
def unharmed(served: Served) -> Iterator[None]:
    """Fail a test after which the plugins do not answer, or are others."""
    before = [served.pid(name) for name in ("naughty", "steady")]
    served.log.forget()
    yield
    assert served.body("/naughty/hello") == served.body("/steady/hello") == b"hello"
    assert [served.pid(name) for name in ("naughty", "steady")] == before, "a plugin has ended"


@pytest.fixture(scope="session", name="serving")
def serving_() -> Callable[..., AbstractContextManager[Served]]:
    return serving
