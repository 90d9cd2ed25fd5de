"""Reloading a plugin while it goes on: another one takes its place, or nothing changes."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from plugkeep import Host, Route
from plugkeep.errors import ConfigError, PluginError, RouteConflictError, StartError
from plugkeep.events import Reloaded, ReloadFailed
from plugkeep.lifecycle import State

PROCESS = 'isolation = "process"\n'

SHOP = """
from pathlib import Path
from plugkeep import Route, expose

class PluginFactory:
    name = "shop"
    config: dict
    version = {version}
    {more}

    def start(self):
        self.note("start")
        {start}

    def stop(self):
        self.note("stop")

    def note(self, what):
        with Path(__file__).with_name("notes").open("a") as notes:
            notes.write(f"{{what}} shop {{self.version}}\\n")

    def get_version(self, _request):
        return [self.version]

    @expose
    def which(self) -> int:
        return self.version

    @expose
    def count(self, upto: int):
        for number in range(upto):
            yield number

    @expose
    def double(self, number: int) -> int:
        return 2 * number

    @expose(threaded=True)
    def wait_for(self, path: str) -> int:
        Path(path).open().read()
        return self.version
"""


def write_shop(folder: Any, version: int, *, start: str = "...", more: str = "") -> None:
    folder.write("shop.py", SHOP.format(version=version, start=start, more=more))


@pytest.fixture(params=["", PROCESS], ids=["here", "in a process"])
def isolation(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def host(folder: Any, isolation: str) -> Host:
    write_shop(folder, 1)
    folder.table("shop", f'source = "file:shop.py"\n{isolation}config = {{ size = 3 }}')
    folder.plugin("user", 'requires = ["shop"]')
    folder.plugin("follower", 'requires = ["shop"]\non_reload = "restart"')
    folder.plugin("last", 'requires = ["follower"]')
    return Host.from_file(folder.config)


def version_of(host: Host) -> int:
    shop: Any = host.registry["shop"]
    return int(shop.call("which") if hasattr(shop, "call") else shop.which())


def events_of(host: Host) -> list[str]:
    told: list[str] = []
    host.registry.subscribe(lambda event: told.append(f"{type(event).__name__} {event.plugin}"))
    return told


def test_the_new_one_is_up_before_the_old_one_stops(folder, host):
    with host:
        folder.notes()
        told = events_of(host)
        write_shop(folder, 2)
        host.reload("shop")
        assert version_of(host) == 2
        notes = folder.notes()
        assert notes[:2] == ["start shop 2", "stop shop 1"]
        assert notes[2:] == ["stop last", "stop follower", "start follower", "start last"]
        assert told[0] == "Reloaded shop"
        assert not any("shop" in each or "user" in each for each in told[1:])
        assert {str(host.registry.state(name)) for name in host.registry} == {"running"}
    assert folder.notes()[-1] == "stop shop 2"


def test_whoever_holds_on_to_a_sandbox_has_the_new_one(folder):
    write_shop(folder, 1)
    folder.table("shop", f'source = "file:shop.py"\n{PROCESS}')
    with Host.from_file(folder.config) as host:
        shop: Any = host.registry["shop"]
        call, view, old = shop.call, shop.using(timeout=30), shop.pid
        write_shop(folder, 2)
        host.reload("shop")
        assert host.registry["shop"] is shop
        assert (call("which"), view.call("which"), list(shop.map("double", [1, 2]))) == (
            2,
            2,
            [2, 4],
        )
        assert shop.pid not in (old, None)


@pytest.mark.parametrize(
    ("start", "more", "error", "words"),
    [
        ("1 / 0", "", PluginError, "ZeroDivisionError"),
        ("", "def health(self): return 'no stock'", StartError, "is not well: no stock"),
    ],
)
def test_one_that_does_not_come_up_well_leaves_the_old_one(
    folder, host, monkeypatch, start, more, error, words
):
    monkeypatch.setattr("plugkeep.host.host.HEALTHY_WITHIN", 0.1)
    with host:
        shop: Any = host.registry["shop"]
        told = events_of(host)
        folder.notes()
        write_shop(folder, 2, start=start or "...", more=more)
        with pytest.raises(error, match=words) as caught:
            host.reload("shop")
        assert str(caught.value).endswith("; the old 'shop' is there as before, and running")
        assert told == ["ReloadFailed shop"]
        assert host.registry["shop"] is shop
        assert version_of(host) == 1
        assert "stop shop 1" not in folder.notes()


def test_one_that_cannot_be_loaded_leaves_the_old_one(folder, host):
    with host:
        folder.write("shop.py", "what is it?")
        with pytest.raises(ConfigError, match="SyntaxError"):
            host.reload("shop")
        assert version_of(host) == 1


def test_one_whose_requirements_have_changed_is_stopped_first(folder):
    write_shop(folder, 1)
    folder.table("shop", 'source = "file:shop.py"\n')
    folder.plugin("store")
    with Host.from_file(folder.config) as host:
        folder.notes()
        write_shop(folder, 2, more='requires = ["store"]')
        host.reload("shop")
        assert folder.notes() == ["stop shop 1", "start shop 2"]
        assert host.registry.requirements()["shop"] == ("store",)


def test_routes_go_to_the_new_one_at_once(folder):
    from starlette.testclient import TestClient

    routes = "def routes(self): return [Route('GET', '/{}', self.get_version)]"
    for name in ("here", "apart"):
        folder.write(f"{name}.py", SHOP.format(version=1, start="...", more=routes.format(name)))
    folder.table("here", 'source = "file:here.py"\n')
    folder.table("apart", f'source = "file:apart.py"\n{PROCESS}')
    host = Host.from_file(folder.config)
    with TestClient(host.asgi()) as client:
        for name in ("here", "apart"):
            assert client.get(f"/{name}").json() == [1]
            # Another one comes first, so numbers of routes are others now.
            more = (
                "def routes(self): return [Route('GET', '/first', lambda _request: 'first'), "
                f"Route('GET', '/{name}', self.get_version)]"
            )
            folder.write(f"{name}.py", SHOP.format(version=2, start="...", more=more))
            client.portal.call(host.areload, name)
            assert (client.get(f"/{name}").json(), client.get("/first").text) == ([2], "first")
            folder.write(
                f"{name}.py", SHOP.format(version=3, start="...", more=routes.format(name))
            )
            client.portal.call(host.areload, name)
            assert (client.get(f"/{name}").json(), client.get("/first").status_code) == ([3], 404)


def test_one_whose_routes_are_anothers_leaves_the_old_one(folder, isolation):
    from starlette.testclient import TestClient

    mine = "def routes(self): return [Route('GET', '/mine', self.get_version)]"
    write_shop(folder, 1, more=mine)
    folder.table("shop", f'source = "file:shop.py"\n{isolation}')
    host = Host.from_file(folder.config)
    host.routes.add(Route("GET", "/taken", lambda _request: "the host's"))
    with TestClient(host.asgi()) as client:
        write_shop(folder, 2, more=mine.replace("/mine", "/taken"))
        with pytest.raises(StartError) as caught:
            client.portal.call(host.areload, "shop")
        assert isinstance(caught.value.__cause__, RouteConflictError)
        assert client.get("/mine").json() == [1]
        assert client.get("/taken").text == "the host's"


def test_an_application_with_a_lifespan_is_exchanged_within_its_loop(folder):
    from starlette.testclient import TestClient

    application = """
        from starlette.applications import Starlette
        from starlette.responses import PlainTextResponse
        from starlette.routing import Route
        from contextlib import asynccontextmanager
        from pathlib import Path

        def note(what):
            with Path(__file__).with_name("notes").open("a") as notes:
                notes.write(what + " {version}\\n")

        @asynccontextmanager
        async def lifespan(app):
            note("up")
            yield
            note("down")

        class PluginFactory:
            name = "page"
            def start(self): ...
            def stop(self): ...
            application = Starlette(
                routes=[Route("/", lambda request: PlainTextResponse("{version}"))],
                lifespan=lifespan,
            )
    """
    folder.write("page.py", application.replace("{version}", "1"))
    folder.table("page", 'source = "file:page.py"\n')
    host = Host.from_file(folder.config)
    with TestClient(host.asgi()) as client:
        assert client.get("/page/").text == "1"
        folder.write("page.py", application.replace("{version}", "2"))
        host.reload("page")  # from this thread, which finds the loop by itself
        assert client.get("/page/").text == "2"
        assert folder.notes() == ["up 1", "up 2", "down 1"]
    assert folder.notes() == ["down 2"]


def test_what_is_under_way_is_answered_by_the_old_one(folder, tmp_path):
    import os

    write_shop(folder, 1)
    folder.table("shop", f'source = "file:shop.py"\n{PROCESS}drain_timeout = "60s"')
    fifo = tmp_path / "gate"
    os.mkfifo(fifo)
    answers: list[int] = []
    with Host.from_file(folder.config) as host:
        shop: Any = host.registry["shop"]
        stream = shop.stream("count", 200)
        assert next(stream) == 0
        mapped = shop.using(window=2).map("double", range(500))
        assert next(mapped) == 0
        waiting = threading.Thread(target=lambda: answers.append(shop.call("wait_for", str(fifo))))
        waiting.start()
        write_shop(folder, 2)
        with fifo.open("w") as gate:  # it is being read, so the call is under way
            reloading = threading.Thread(target=host.reload, args=("shop",))
            seen = threading.Event()
            host.registry.subscribe(lambda event: isinstance(event, Reloaded) and seen.set())
            reloading.start()
            assert seen.wait(60)
            assert shop.call("which") == 2
            gate.write("go")
        assert list(stream) == list(range(1, 200))
        assert list(mapped) == [2 * number for number in range(1, 500)]
        waiting.join(60)
        reloading.join(60)
    assert answers == [1]


def test_in_an_event_loop(folder, host):
    async def main() -> None:
        async with host:
            write_shop(folder, 2)
            await host.areload("shop")
            shop: Any = host.registry["shop"]
            found = await shop.acall("which") if hasattr(shop, "acall") else shop.which()
            assert found == 2
            write_shop(folder, 3, start="1 / 0")
            with pytest.raises(PluginError, match="ZeroDivisionError"):
                await host.areload("shop")
            assert host.registry.state("shop") is State.RUNNING

    asyncio.run(main())


def test_a_ctrl_c_in_between_leaves_one_of_them(folder, host):
    with host:
        write_shop(folder, 2, start="raise KeyboardInterrupt")
        shop: Any = host.registry["shop"]
        if hasattr(shop, "call"):
            return  # it is an error of a process of its own, there
        with pytest.raises(KeyboardInterrupt):
            host.reload("shop")
        assert version_of(host) == 1
        write_shop(folder, 3)
        host.reload("shop")
        assert version_of(host) == 3


def test_failures_are_told_by_an_event(folder, host):
    found: list[ReloadFailed] = []
    with host:
        host.registry.subscribe(
            lambda event: found.append(event) if isinstance(event, ReloadFailed) else None
        )
        write_shop(folder, 2, start="1 / 0")
        with pytest.raises(PluginError):
            host.reload("shop")
    (event,) = found
    assert "ZeroDivisionError" in str(event.error)
