"""Plugins of a configuration in processes of their own, and what they may call of one another."""

from __future__ import annotations

import asyncio
import gc
import os
import weakref
from pathlib import Path
from typing import Any

import pytest

from plugkeep import Host, PluginSpec
from plugkeep.channel import workers
from plugkeep.errors import ConfigError, NotGrantedError, RemoteError, StartError

LIBRARY = """
from plugkeep import expose

class PluginFactory:
    name = "library"
    def start(self): self.open = True
    def stop(self): self.open = False
    @expose
    def read(self, title: str, times: int = 1) -> str: return title * times
    @expose
    def pages(self, count: int):
        yield from range(count)
        return "end"
    @expose
    async def later(self, title: str) -> str: return title
    def secret(self): return "secret"
"""
READER = """
import os
from pathlib import Path
from typing import Any
from plugkeep import expose

class PluginFactory:
    name = "reader"
    host: Any
    config: dict[str, int]
    def start(self): ...
    def stop(self): ...
    @expose
    def pid(self): return os.getpid()
    @expose
    def where(self): return [str(Path.cwd()), os.environ.get("OWN"), os.environ.get("HOSTS")]
    @expose
    def configured(self): return self.config
    @expose
    def granted(self): return sorted(self.host)
    @expose
    def read(self, *args, **kwargs): return self.host.library.read(*args, **kwargs)
    @expose
    def ask(self, what, *args): return self.host.call(what, *args)
    @expose
    async def aask(self, what, *args): return await self.host.acall(what, *args)
    @expose
    def pages(self, count):
        with self.host.library.stream("pages", count) as pages:
            return [list(pages), pages.result]
    @expose
    async def apages(self, count):
        return [page async for page in self.host.library.astream("pages", count)]
    @expose
    def all(self, titles): return list(self.host.library.map("read", titles))
    @expose
    async def aall(self, titles):
        return [text async for text in self.host.library.amap("read", titles)]
"""


@pytest.fixture(autouse=True)
def _impatient_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers._shared, "_idle_for", 0.02)


@pytest.fixture(params=["none", "process"])
def isolation(request: pytest.FixtureRequest) -> str:
    """Have a test run in both worlds."""
    return str(request.param)


@pytest.fixture
def shelves(folder: Any, isolation: str) -> Host:
    """A host with a library, and a reader that is granted it, in either world."""
    folder.write("library.py", LIBRARY)
    folder.write("reader.py", READER)
    folder.table("library", 'source = "file:library.py"')
    folder.table(
        "reader", f'source = "file:reader.py"\nisolation = "{isolation}"\ngrants = ["library"]'
    )
    return Host.from_file(folder.config)


def _call(host: Host, method: str, *args: Any, **kwargs: Any) -> Any:
    reader: Any = host.registry["reader"]
    if hasattr(reader, "call"):
        return reader.call(method, *args, **kwargs)
    result = getattr(reader, method)(*args, **kwargs)
    return asyncio.run(result) if asyncio.iscoroutine(result) else result


def test_it_runs_where_the_configuration_says(shelves: Host, isolation: str) -> None:
    with shelves:
        assert (_call(shelves, "pid") == os.getpid()) is (isolation == "none")


@pytest.mark.keeps("anyio keeps its threads as long as the loop")
def test_what_is_granted_is_called_in_the_same_way_in_both_worlds(shelves: Host) -> None:
    with shelves:
        assert _call(shelves, "granted") == ["library"]
        assert _call(shelves, "read", "tea") == "tea"
        assert _call(shelves, "read", "tea", times=2) == "teatea"
        assert _call(shelves, "ask", "library.read", "x") == "x"
        assert _call(shelves, "aask", "library.read", "x") == "x"
        assert _call(shelves, "pages", 3) == [[0, 1, 2], "end"]
        assert _call(shelves, "apages", 3) == [0, 1, 2]
        assert _call(shelves, "all", ["a", "b"]) == ["a", "b"]
        assert _call(shelves, "aall", ["a", "b"]) == ["a", "b"]


@pytest.mark.parametrize(
    ("what", "args", "kind"),
    [
        ("gone.read", [], "NotGrantedError"),
        ("reader.pid", [], "NotGrantedError"),
        ("library.secret", [], "MethodNotFoundError"),
        ("library.read", [], "InvalidArgumentsError"),
        ("library.read", [5], "InvalidArgumentsError"),
        ("library.pages", [5], "InvalidArgumentsError"),
    ],
)
def test_what_is_not_is_refused_in_both_worlds(
    shelves: Host, what: str, args: list[Any], kind: str
) -> None:
    with shelves, pytest.raises(Exception, match=what.split(".")[-1]) as caught:
        _call(shelves, "ask", what, *args)
    raised = caught.value
    found = (
        raised.type
        if isinstance(raised, RemoteError)
        else f"plugkeep.errors.{type(raised).__name__}"
    )
    assert found == f"plugkeep.errors.{kind}"
    assert issubclass(NotGrantedError, PermissionError)


def test_asynchronous_methods_run_on_the_hosts_loop(shelves: Host) -> None:
    async def main() -> Any:
        async with shelves:
            return await asyncio.to_thread(_call, shelves, "ask", "library.later", "x")

    assert asyncio.run(main()) == "x"


def test_requirements_are_granted_too(folder: Any) -> None:
    folder.write("library.py", LIBRARY)
    folder.write("reader.py", READER)
    folder.table(
        "reader",
        'source = "file:reader.py"\nisolation = "process"\nrequires = ["library"]',
    )
    folder.table("library", 'source = "file:library.py"\nisolation = "process"')
    with Host.from_file(folder.config) as host:
        assert _call(host, "read", "tea") == "tea"
        assert _call(host, "ask", "library.later", "tea") == "tea"
        host.restart("library")
        assert _call(host, "read", "tea") == "tea"
        (Path(folder.path) / "library.py").write_text(LIBRARY.replace("title * times", "'new'"))
        host.reload("library")
        assert _call(host, "read", "tea") == "new"


def test_what_is_granted_and_not_required_may_not_run_yet(folder: Any, isolation: str) -> None:
    folder.write("library.py", LIBRARY)
    reads = READER.replace("def start(self): ...", "def start(self): self.read('tea')")
    folder.write("reader.py", reads)
    folder.table(
        "reader", f'source = "file:reader.py"\nisolation = "{isolation}"\ngrants = ["library"]'
    )
    folder.table("library", 'source = "file:library.py"')
    host = Host.from_file(folder.config)
    (error,) = host.start()
    assert "plugin 'library' is not running; add it to what 'reader' requires" in str(error)
    host.restart("reader")  # now it does
    assert host.stop() == []


def test_folder_environment_and_configuration(folder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOSTS", "inherited")
    folder.write("reader.py", READER)
    (folder.path / "work").mkdir()
    folder.table(
        "reader",
        'source = "file:reader.py"\nisolation = "process"\ncwd = "work"\n'
        'env = { OWN = "own" }\nconfig = { size = 3 }\ncall_timeout = "20s"',
    )
    with Host.from_file(folder.config) as host:
        reader: Any = host.registry["reader"]
        assert reader.call_timeout == 20
        assert reader.call("where") == [str(folder.path / "work"), "own", "inherited"]
        assert reader.call("configured") == {"size": 3}


def test_a_configuration_that_does_not_fit_is_told_by_start(folder: Any) -> None:
    folder.write("reader.py", READER)
    folder.table(
        "reader", 'source = "file:reader.py"\nisolation = "process"\nconfig = { size = "big" }'
    )
    (error,) = Host.from_file(folder.config).start()
    assert isinstance(error, StartError)
    assert isinstance(error.__cause__, ConfigError)
    assert "plugin 'reader': config: expected a whole number" in str(error)


def test_what_can_be_known_early_is_a_problem_of_the_file(folder: Any) -> None:
    folder.table("a", 'source = "file:gone.py"\nisolation = "process"')
    with pytest.raises(ConfigError, match=r"plugkeep.toml:2: plugins.a.source: there is no file"):
        Host.from_file(folder.config)


def test_a_host_that_is_forgotten_takes_its_children_along(folder: Any) -> None:
    folder.write("library.py", LIBRARY)
    folder.table("library", 'source = "file:library.py"\nisolation = "process"')
    host = Host.from_file(folder.config)
    host.start()
    pid = host.registry["library"].pid  # type: ignore[attr-defined]
    registry = weakref.ref(host.registry)
    del host
    gc.collect()
    assert registry() is None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_specs_have_the_rules() -> None:
    spec = PluginSpec(name="a", source="file:a.py", grants=["b", "b"])  # type: ignore[arg-type]
    assert spec.grants == ("b",)
    with pytest.raises(TypeError, match="grants of plugin 'a'"):
        PluginSpec(name="a", source="file:a.py", grants="b")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="call_timeout of plugin 'a'"):
        PluginSpec(name="a", source="file:a.py", call_timeout=0)
