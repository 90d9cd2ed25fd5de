"""Whole web applications of plugins: what a client gets is the same from a sandbox, to the byte.

Two real servers, one with the applications in its own process and one with each in a sandbox, on
Unix sockets. Clients are plain sockets, curl and the package websockets.
"""

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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, unix_connect

FOLDER = Path(__file__).with_name("web_applications")
KINDS = ("in-process", "sandboxed")
#: Seconds after which a test gives up waiting. Nothing takes as long where nothing is wrong.
PATIENCE = 30.0


class Served:
    """A server, and how to speak with it."""

    def __init__(self, listener: socket.socket, output: int) -> None:
        self.family, self.address = listener.family, listener.getsockname()
        self._output = output
        self._log = b""

    def logged(self, text: str) -> str:
        """Wait until the server has logged `text`, and return all that it has."""
        poller = select.poll()
        poller.register(self._output, select.POLLIN)
        while text.encode() not in self._log:
            assert poller.poll(PATIENCE * 1000), f"{text!r} is not in the log: {self._log!r}"
            more = os.read(self._output, 65536)
            assert more, f"the server has ended: {self._log!r}"
            self._log += more
        return self._log.decode()

    @contextmanager
    def connected(self) -> Iterator[socket.socket]:
        with socket.socket(self.family) as connection:
            connection.settimeout(PATIENCE)
            connection.connect(self.address)
            yield connection

    def raw(self, request: bytes) -> bytes:
        """Send these bytes and return all that comes back, but for the date and this server."""
        with self.connected() as connection:
            with suppress(BrokenPipeError):  # it may answer before it has read all
                connection.sendall(request)
            return everything(connection).replace(str(self.address).encode(), b"here")

    def json(self, path: str) -> Any:
        """Return what GET says, which is JSON."""
        answer = self.raw(asking(f"GET {path}"))
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), answer
        return json.loads(body)

    def websocket(self, path: str, **options: Any) -> ClientConnection:
        return unix_connect(
            self.address, f"ws://plug{path}", open_timeout=PATIENCE,
            close_timeout=PATIENCE, proxy=None, **options,
        )  # fmt: skip


def everything(connection: socket.socket) -> bytes:
    """Return all that comes, but for the date."""
    answer = b"".join(iter(lambda: connection.recv(65536), b""))
    return re.sub(rb"\r\ndate: [^\r]*", b"", answer, count=1, flags=re.IGNORECASE)


def asking(line: str, *headers: str, body: bytes = b"") -> bytes:
    """Return a request, after whose answer the connection is closed."""
    lines = f"{line} HTTP/1.1", "Host: plug", "Connection: close", *headers, "", ""
    return "\r\n".join(lines).encode() + body


def listening(kind: str, folder: Path) -> socket.socket:
    """Return a socket that listens before the server runs: whoever connects waits."""
    if kind == "by-wsgi":  # where a port is part of the environment
        return socket.create_server(("127.0.0.1", 0))
    listener = socket.socket(socket.AF_UNIX)
    # Applications see where they are served: under names of the same length.
    listener.bind(os.fspath(folder / f"{kind:.2}.sock"))
    listener.listen()
    return listener


@contextmanager
def serving(kind: str, folder: Path) -> Iterator[Served]:
    output, theirs = os.pipe()
    fcntl.fcntl(output, fcntl.F_SETPIPE_SZ, 1 << 20)  # nobody reads it while nobody asks for it
    with listening(kind, folder) as listener:
        served = Served(listener, output)
        descriptor = listener.fileno()
        process = subprocess.Popen(
            [sys.executable, FOLDER / "serve.py", kind, str(descriptor)],
            pass_fds=[descriptor],
            env={**os.environ, "PYTHONHASHSEED": "0"},  # headers are made of sets, too
            stdin=subprocess.DEVNULL,
            stderr=theirs,
        )
    os.close(theirs)
    try:
        yield served
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(PATIENCE)
        finally:
            process.kill()
            process.wait()
            os.close(output)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Served]]:
    folder = tmp_path_factory.mktemp("web")
    first, second = KINDS
    with serving(first, folder) as in_process, serving(second, folder) as sandboxed:
        yield {first: in_process, second: sandboxed}


@pytest.fixture(params=KINDS)
def served(request: pytest.FixtureRequest, both: dict[str, Served]) -> Served:
    return both[request.param]


# --- the same bytes -------------------------------------------------------------------------------


class Case(NamedTuple):
    status: int
    request: bytes


def case(status: int, line: str, *headers: str, body: bytes = b"", name: str = "") -> Any:
    """Return a request as a parameter of tests, with the status that answers it."""
    if body and not any(header.lower().startswith("transfer-encoding") for header in headers):
        headers = (*headers, f"Content-Length: {len(body)}")
    return pytest.param(Case(status, asking(line, *headers, body=body)), id=name or line)


def chunked(*pieces: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (*pieces, b""))


URLENCODED = "Content-Type: application/x-www-form-urlencoded"
MULTIPART = 'Content-Type: multipart/form-data; boundary="edge"'
CHUNKED = "Transfer-Encoding: chunked"
JSON = "Content-Type: application/json"


def multipart(files: str, content: bytes) -> bytes:
    return (
        b'--edge\r\nContent-Disposition: form-data; name="note"\r\n\r\nhello\r\n'
        b'--edge\r\nContent-Disposition: form-data; name="%b"; filename="a b.txt"\r\n'
        b"Content-Type: text/plain\r\n\r\n%b\r\n"
        b'--edge\r\nContent-Disposition: form-data; name="%b"; filename="\xc3\xbc.bin"\r\n\r\n'
        b"second\r\n--edge--\r\n"
    ) % (files.encode(), content, files.encode())


def everywhere(app: str) -> Iterator[Any]:
    """Yield what each of the applications that echo can be asked."""
    yield case(200, f"GET {app}/")
    yield case(200, f"HEAD {app}/")
    yield case(200, f"GET {app}/?")
    yield case(200, f"GET {app}/?a=1&a=2&b=%20+%26&c")
    yield case(200, f"GET {app}/?q=%FF%00%E2%82%AC")
    yield case(200, f"GET {app}/echo/a%2Fb")
    yield case(200, f"GET {app}/echo/a%00b")
    yield case(200, f"GET {app}/echo/gr%C3%BC%C3%9Fe/%E6%97%A5%E6%9C%AC")
    yield case(200, f"GET {app}/echo/a//b/../c/./d")
    yield case(200, f"GET {app}/echo/%25252F;x=1,2")
    yield case(200, f"GET {app}/echo/" + "a" * 5000, name=f"GET {app}/echo/aaa...")
    yield case(404, f"GET {app}/nowhere")
    yield case(404, f"HEAD {app}/nowhere")
    yield case(
        200, f"GET {app}/", *(f"X-Number-{n}: {'n' * 50}" for n in range(90)),
        name=f"GET {app}/ with 90 headers",
    )  # fmt: skip
    yield case(
        200, f"GET {app}/", "X-Twice: 1", "x-twice: 2", "X-TWICE: 1, 2",
        name=f"GET {app}/ with a header thrice",
    )  # fmt: skip
    yield case(
        200, f"GET {app}/", 'Cookie: a=1; b="2"; c', "X-Latin: grüße", "X-Empty:",
        name=f"GET {app}/ with cookies",
    )  # fmt: skip
    yield case(200, f"POST {app}/", body=b"\0\xff\r\n\r\n", name=f"POST {app}/ of octets")
    yield case(200, f"POST {app}/", "Content-Length: 0", name=f"POST {app}/ of nothing")
    yield case(200, f"POST {app}/", body=b"x" * 100_000, name=f"POST {app}/ of 100 kB")
    yield case(
        200, f"POST {app}/", CHUNKED, body=chunked(b"one", b"two", b"3" * 70_000),
        name=f"POST {app}/ in chunks",
    )  # fmt: skip
    yield case(200, f"POST {app}/form", URLENCODED, body=b"a=1&b=%C3%BC&a=2&c=")
    yield case(
        200, f"POST {app}/form", MULTIPART, body=multipart("file", b"first\r\n"),
        name=f"POST {app}/form multipart",
    )  # fmt: skip
    yield case(
        200, f"POST {app}/form", MULTIPART, body=multipart("file", b"a" * 300_000),
        name=f"POST {app}/form multipart, large",
    )  # fmt: skip
    yield case(302 if app != "/starlette" else 307, f"GET {app}/redirect")
    yield case(200, f"GET {app}/cookies")
    yield case(200, f"GET {app}/stream")
    yield case(200, f"HEAD {app}/stream")
    yield case(200, f"GET {app}/file")
    yield case(200, f"HEAD {app}/file")
    yield case(500, f"GET {app}/broken")


def ranges(app: str) -> Iterator[Any]:
    yield case(206, f"GET {app}/file", "Range: bytes=0-10", name=f"GET {app}/file, its beginning")
    yield case(206, f"GET {app}/file", "Range: bytes=-10", name=f"GET {app}/file, its end")
    yield case(206, f"HEAD {app}/file", "Range: bytes=5-", name=f"HEAD {app}/file, a range")
    yield case(416, f"GET {app}/file", "Range: bytes=99999-", name=f"GET {app}/file, beyond it")


CASES: Sequence[Any] = (
    *everywhere("/starlette"),
    *ranges("/starlette"),
    case(405, "DELETE /starlette/form"),
    case(200, "GET /starlette/item/7"),
    case(404, "GET /starlette/item/seven"),
    case(307, "GET /starlette/item/7/"),
    case(200, "OPTIONS /starlette/"),
    case(200, "GET /starlette/many"),
    case(200, "GET /starlette/large"),
    case(200, "HEAD /starlette/large"),
    case(200, "GET /starlette/sse"),
    case(204, "GET /starlette/empty"),
    case(304, "GET /starlette/unmodified"),
    case(418, "GET /starlette/teapot"),
    case(200, "GET /starlette/breaks"),
    case(200, "POST /starlette/count", body=b"x" * 1_000_000),
    *(
        case(200, "POST /starlette/", body=b"x" * size, name=f"POST {size} bytes")
        for size in (16_383, 16_384, 65_535, 65_536, 65_537, 262_144, 262_145)
    ),
    *(case(200, f"GET /starlette/bytes/{size}") for size in (16_383, 16_384, 262_144, 262_145)),
    case(200, "POST /starlette/count", CHUNKED, body=chunked(*[b"y" * 1000] * 100)),
    case(200, "POST /starlette/indifferent", body=b"x" * 1000),
    case(200, "POST /starlette/indifferent", body=b"x" * 100_000, name="POST unread"),
    case(400, "POST /starlette/form", MULTIPART, body=b"no boundary at all"),
    case(200, "GET /fastapi/state"),
    case(200, "GET /fastapi/items/3?q=1", "X-Token: right"),
    case(401, "GET /fastapi/items/3", "X-Token: wrong", name="GET /fastapi/items/3, refused"),
    case(422, "GET /fastapi/items/three"),
    case(201, "POST /fastapi/items", JSON, body=b'{"name": "tea", "price": 2.5}'),
    case(422, "POST /fastapi/items", JSON, body=b'{"name": "tea"', name="POST broken JSON"),
    case(
        200, "POST /fastapi/upload", MULTIPART, body=multipart("files", b"hello"),
        name="POST /fastapi/upload",
    ),
    case(303, "GET /fastapi/redirect"),
    case(200, "GET /fastapi/openapi.json"),
    case(200, "GET /fastapi/docs"),
    case(500, "GET /fastapi/broken"),
    *everywhere("/flask"),
    *ranges("/flask"),
    case(405, "DELETE /flask/form"),
    case(200, "GET /flask/large"),
    case(418, "GET /flask/teapot"),
    case(200, "GET /flask/breaks"),
    *everywhere("/django"),
    case(404, "GET /django/missing"),
    *everywhere("/django-wsgi"),
    case(404, "GET /django-wsgi/missing"),
    case(404, "GET /nobody"),
    case(404, "GET /starlettes/"),
    case(404, "GET /"),
)  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_answers_are_the_same_to_the_byte(case: Case, both: dict[str, Served]) -> None:
    in_process, sandboxed = (both[kind].raw(case.request) for kind in KINDS)
    assert sandboxed == in_process
    assert status(sandboxed) == case.status, sandboxed[:2000]


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_that_breaks_in_the_middle_is_seen_to_be_broken(
    kind: str, both: dict[str, Served]
) -> None:
    answer = both[kind].raw(asking("GET /starlette/breaks"))
    assert b"5\r\nfirst\r\n" in answer
    assert not answer.endswith(b"0\r\n\r\n")
    both[kind].logged("RuntimeError: in the middle")


def test_an_error_is_logged_with_its_plugin(served: Served) -> None:
    assert status(served.raw(asking("GET /fastapi/broken"))) == 500
    log = served.logged("RuntimeError: in a plain function")
    assert re.search(r"fastapi.*failed", log), log


def test_a_connection_is_used_again(served: Served) -> None:
    ask = b"GET /starlette/item/%d HTTP/1.1\r\nHost: plug\r\n\r\n"
    with served.connected() as connection, connection.makefile("rb") as stream:
        for number in (1, 2, 3):
            connection.sendall(ask % number)
            assert stream.readline() == b"HTTP/1.1 200 OK\r\n"
            headers = dict(line.split(b": ") for line in iter(stream.readline, b"\r\n"))
            body = json.loads(stream.read(int(headers[b"content-length"])))
            assert body["parameters"] == {"number": number}


def test_pipelined_requests_are_answered_in_turn(served: Served) -> None:
    numbers = range(20)
    asked = b"".join(
        b"POST /starlette/count HTTP/1.1\r\nHost: plug\r\nContent-Length: %d\r\n\r\n%b"
        % (number, b"x" * number)
        for number in numbers
    )
    answer = served.raw(asked + asking("GET /starlette/empty"))
    bodies = re.findall(rb"application/json\r\n\r\n(\d+)", answer)
    assert [*map(int, bodies)] == [*numbers]


@pytest.mark.parametrize("app", ["/starlette", "/flask", "/django", "/django-wsgi"])
def test_the_body_is_asked_for_when_it_is_wanted(app: str, served: Served) -> None:
    with served.connected() as connection:
        head = asking(f"POST {app}/", "Content-Length: 5", "Expect: 100-continue")
        connection.sendall(head)
        with connection.makefile("rb") as stream:
            assert stream.readline().startswith(b"HTTP/1.1 100 ")
            assert stream.readline() == b"\r\n"
            connection.sendall(b"hello")
            answer = stream.read()
    assert b'"hello"' in answer, answer


def test_the_body_is_not_asked_for_when_it_is_not_wanted(served: Served) -> None:
    head = asking("POST /starlette/indifferent", "Content-Length: 5", "Expect: 100-continue")
    answer = served.raw(head)
    assert status(answer) == 200
    assert b" 100 " not in answer.partition(b"\r\n")[0]


def test_links_are_to_where_the_application_is_mounted(served: Served) -> None:
    def location(app: str) -> bytes:
        answer = served.raw(asking(f"GET {app}/redirect"))
        found = re.search(rb"\r\nlocation: ([^\r]*)\r\n", answer, re.IGNORECASE)
        assert found, answer
        return found[1]

    assert location("/starlette") == b"http://plug/starlette/"
    assert location("/django") == b"/django/"
    assert location("/flask") == b"/flask/"


def test_what_runs_in_the_background_runs_after_the_answer(served: Served) -> None:
    assert served.raw(asking("GET /starlette/background")).endswith(b"\r\n\r\nsoon")
    assert served.json("/starlette/happenings") == ["background"]


def test_what_the_lifespan_has_made_is_there_for_requests(served: Served) -> None:
    assert served.json("/fastapi/state") == {"answer": 42, "greeting": "hello"}


def test_the_application_learns_that_its_client_has_gone(served: Served) -> None:
    with served.connected() as connection:
        connection.sendall(asking("GET /starlette/forever"))
        received = b""
        while b"it begins" not in received:
            received += connection.recv(65536)
    assert served.json("/starlette/happenings") == ["gone"]


def test_curl(served: Served, tmp_path: Path) -> None:
    """Downloads, uploads and ranges by a client that everybody has."""

    def curl(*arguments: str | Path) -> bytes:
        command = ["curl", "-sSf", "--unix-socket", served.address, *arguments]
        return subprocess.run(command, capture_output=True, check=True, timeout=PATIENCE).stdout

    blob = (FOLDER / "blob.txt").read_bytes()
    large = tmp_path / "large"
    large.write_bytes(b"x" * 3_000_000)
    base = "http://plug/starlette"
    assert curl(f"{base}/file") == blob
    assert curl("-r", "100-199", f"{base}/file") == blob[100:200]
    assert curl("-L", f"{base}/item/7/").startswith(b'{"method":"GET","path":"/starlette/item/7"')
    assert curl("--data-binary", f"@{large}", f"{base}/count") == b"3000000"
    assert curl("-T", large, "-X", "POST", "-H", CHUNKED, f"{base}/count") == b"3000000"
    assert b"3000000" in curl("-F", "file=@-;filename=a", "-F", "n=3000000", f"{base}/form")


# --- WebSockets -----------------------------------------------------------------------------------


def test_messages_come_back(served: Served) -> None:
    messages = ["text", "grüße\0", "", b"\0\xff", b"", "x" * 500_000, b"y" * 500_000]
    with served.websocket("/starlette/socket/echo") as socket:
        for message in messages:
            socket.send(message)
            assert socket.recv(PATIENCE) == message
    assert served.json("/starlette/happenings") == ["closed 1000"]


def test_many_messages_stay_in_order(served: Served) -> None:
    with served.websocket("/starlette/socket/echo") as socket:
        for n in range(200):
            socket.send(str(n))
        assert [socket.recv(PATIENCE) for _ in range(200)] == [str(n) for n in range(200)]
    assert served.json("/starlette/happenings") == ["closed 1000"]


def test_a_message_in_fragments_is_one(served: Served) -> None:
    with served.websocket("/starlette/socket/echo") as socket:
        socket.send(iter(["one, ", "two, ", "three"]))
        assert socket.recv(PATIENCE) == "one, two, three"
    assert served.json("/starlette/happenings") == ["closed 1000"]


def test_a_subprotocol_is_chosen(served: Served) -> None:
    offered: Any = ["first", "second"]
    with served.websocket("/starlette/socket/echo", subprotocols=offered) as socket:
        assert socket.subprotocol == "second"
    assert served.json("/starlette/happenings") == ["closed 1000"]


def test_what_a_websocket_is_for(served: Served) -> None:
    with served.websocket("/starlette/socket/7?a=%20") as socket:
        assert json.loads(socket.recv(PATIENCE)) == {
            "path": "/starlette/socket/7",
            "root_path": "/starlette",
            "scheme": "ws",
            "subprotocols": [],
            "query": "a=%20",
            "parameters": {"number": 7},
        }


def test_the_client_closes(served: Served) -> None:
    with served.websocket("/starlette/socket/echo") as socket:
        socket.close(4000, "enough")
    assert served.json("/starlette/happenings") == ["closed 4000 enough"]


def test_the_client_is_lost(served: Served) -> None:
    with served.websocket("/starlette/socket/echo") as websocket:
        websocket.socket.shutdown(socket.SHUT_RDWR)
    # Servers do not agree on the code.
    assert served.json("/starlette/happenings") in (["closed 1005"], ["closed 1006"])


def test_the_application_closes(served: Served) -> None:
    with served.websocket("/starlette/socket/closing") as socket:
        assert socket.response is not None
        assert socket.response.headers["x-kind"] == "closing"
        assert socket.recv(PATIENCE) == "bye"
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(PATIENCE)
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4321, "enough")


def test_the_application_fails(served: Served) -> None:
    with (
        served.websocket("/starlette/socket/failing") as socket,
        pytest.raises(ConnectionClosed),
    ):
        socket.recv(PATIENCE)
    served.logged("RuntimeError: in a WebSocket")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/starlette/socket/refusing", 403),
        ("/starlette/socket/denying", 401),
        ("/starlette/socket/nowhere", 403),
        ("/nobody", 403),
    ],
)
def test_a_handshake_is_refused(path: str, expected: int, served: Served) -> None:
    with pytest.raises(InvalidStatus) as refused, served.websocket(path):
        pass
    response = refused.value.response
    assert response.status_code == expected
    if expected == 401:
        assert response.headers["x-kind"] == "denial"
        assert response.body == b"not you"


# --- other ways to serve --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def by_wsgi(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving("by-wsgi", tmp_path_factory.mktemp("wsgi")) as served:
        yield served


@pytest.mark.parametrize(
    "request_",
    [
        asking("GET /starlette/file"),
        asking("GET /starlette/large"),
        asking("GET /starlette/stream"),
        asking("GET /starlette/nowhere"),
        asking("GET /starlette/teapot"),
        asking("GET /fastapi/state"),
        asking("GET /flask/file"),
        asking("GET /flask/stream"),
        asking("GET /django/stream"),
        asking("GET /django/missing"),
        asking("GET /nobody"),
        asking("POST /starlette/count", "Content-Length: 300000", body=b"x" * 300_000),
        asking("POST /flask/form", URLENCODED, "Content-Length: 3", body=b"a=1"),
        asking("POST /django-wsgi/form", URLENCODED, "Content-Length: 3", body=b"a=1"),
    ],
    ids=lambda request: request.partition(b" HTTP/")[0].decode(),
)
def test_a_wsgi_server_answers_the_same(
    request_: bytes, by_wsgi: Served, both: dict[str, Served]
) -> None:
    """But for what is between the server and its client."""
    expected, found = both["sandboxed"].raw(request_), by_wsgi.raw(request_)
    assert status(found) == status(expected), found[:2000]
    assert body(found) == body(expected)


def body(answer: bytes) -> bytes:
    head, _, rest = answer.partition(b"\r\n\r\n")
    if b"transfer-encoding: chunked" not in head.lower():
        return rest
    pieces = []
    while size := int(rest.partition(b"\r\n")[0], 16):
        rest = rest.partition(b"\r\n")[2]
        pieces.append(rest[:size])
        rest = rest[size + 2 :]
    return b"".join(pieces)


def test_the_command_line_serves_them(tmp_path: Path) -> None:
    config = tmp_path / "host.toml"
    application = FOLDER / "starlette_application.py"
    config.write_text(
        f'[plugins.shop]\nsource = "file:{application}"\nisolation = "process"\n\n'
        f'[plugins.here]\nsource = "file:{application}"\n'
    )
    command = [sys.executable, "-m", "plugkeep", "run", config, "--serve", "127.0.0.1:0", "--json"]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            url = next(found for line in process.stdout if (found := json.loads(line).get("url")))
            for name in ("shop", "here"):
                answer = httpx.get(f"{url}/{name}/item/7?a=1", timeout=PATIENCE).json()
                assert answer["parameters"] == {"number": 7}
                assert answer["root_path"] == f"/{name}"
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(PATIENCE)
    assert process.returncode == 0
