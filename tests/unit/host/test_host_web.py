from __future__ import annotations

import asyncio
import io
import logging
import socket
import threading

import httpx
import uvicorn

from plugkeep.host import Host
from plugkeep.registry import Registry
from plugkeep.routing import Route

PATIENCE = 30


class Greeter:
    def __init__(self, name, fails=False):
        self.name, self.fails = name, fails
        self.stopped = threading.Event()

    def start(self):
        if self.fails:
            raise RuntimeError("no voice")

    def stop(self):
        self.stopped.set()

    def routes(self):
        return [Route("GET", f"/{self.name}", lambda _request: f"hello from {self.name}")]


class Clerk(Greeter):
    async def start(self):
        self.loop = asyncio.get_running_loop()

    async def stop(self):
        assert asyncio.get_running_loop() is self.loop
        self.stopped.set()


def host_with(*plugins):
    registry = Registry()
    for plugin in plugins:
        registry.register(plugin)
    return Host(registry)


class Server:
    """A real uvicorn on a free port, on a thread of its own."""

    def __init__(self, app):
        self.socket = socket.socket()
        self.socket.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.server = uvicorn.Server(
            uvicorn.Config(app, loop="asyncio", lifespan="on", log_config=None)
        )
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._run)

    def _run(self):
        try:
            self.server.run(sockets=[self.socket])
        except SystemExit:  # uvicorn's way to say that the lifespan failed
            pass
        finally:
            self.ended.set()

    def __enter__(self):
        # Listening already, so a request made before uvicorn accepts waits in the queue.
        self.socket.listen()
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.should_exit = True
        self.thread.join(PATIENCE)
        self.socket.close()
        assert not self.thread.is_alive(), "the server did not end"

    def get(self, path):
        response = httpx.get(self.url + path, timeout=PATIENCE)
        return response.status_code, response.text


def test_plugins_live_as_long_as_the_server_and_their_routes_are_served():
    greeter, clerk, bad = Greeter("greeter"), Clerk("clerk"), Greeter("bad", fails=True)
    host = host_with(greeter, clerk, bad)
    with Server(host.asgi()) as server:
        assert server.get("/greeter") == (200, "hello from greeter")
        assert server.get("/clerk") == (200, "hello from clerk")
        assert server.get("/bad")[0] == 404
        late = Greeter("late")
        host.registry.register(late)
        assert server.get("/late")[0] == 404
        host.registry.start("late")
        assert server.get("/late") == (200, "hello from late")
        host.registry.stop("late")
        status, text = server.get("/late")
        assert status == 503
        assert "late" in text
    assert greeter.stopped.is_set()
    assert clerk.stopped.is_set()
    assert not bad.stopped.is_set()


def test_a_failing_plugin_is_logged_and_the_others_are_served(caplog):
    with (
        caplog.at_level(logging.ERROR, "plugkeep.host"),
        Server(host_with(Greeter("bad", fails=True), Greeter("good")).asgi()) as server,
    ):
        assert server.get("/good")[0] == 200
    assert "plugin 'bad' failed to start: RuntimeError: no voice" in caplog.text


def test_a_strict_server_does_not_start_when_a_plugin_fails():
    good = Greeter("good")
    host = host_with(good, Greeter("bad", fails=True))
    with Server(host.asgi(strict=True)) as server:
        assert server.ended.wait(PATIENCE), "it serves although a plugin failed"
    assert good.stopped.is_set()


def test_routes_of_plugins_that_run_already_are_served_by_wsgi():
    host = host_with(Greeter("greeter"))
    said = []

    def get(app, path):
        environ = {
            "REQUEST_METHOD": "GET", "PATH_INFO": path, "SERVER_NAME": "x", "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1", "wsgi.url_scheme": "http", "wsgi.input": io.BytesIO(),
        }  # fmt: skip
        body = b"".join(app(environ, lambda status, *_: said.append(status)))
        return said.pop(), body.decode()

    with host, host.wsgi() as app:
        assert get(app, "/greeter") == ("200 OK", "hello from greeter")
        host.registry.stop("greeter")
        assert get(app, "/greeter")[0].startswith("503")


def test_the_host_can_have_routes_of_its_own():
    host = host_with(Greeter("greeter"))
    host.routes.add(Route("GET", "/", lambda _request: "home"))
    with Server(host.asgi()) as server:
        assert server.get("/") == (200, "home")


def test_options_reach_the_application():
    class Guarded(Greeter):
        def routes(self):
            return [Route("GET", "/x", lambda _request: "in", permissions=("enter",))]

    asked = []

    def authorize(_request, permissions):
        asked.append(permissions)
        return True

    with Server(host_with(Guarded("guarded")).asgi(authorize=authorize)) as server:
        assert server.get("/x") == (200, "in")
    assert asked == [("enter",)]
