"""Any source in a child of its own: how it is found, named, configured, and how it fails."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import plugkeep
from plugkeep.errors import (
    ConfigError,
    ExitedBeforeReadyError,
    InvalidNameError,
    InvalidSourceError,
    LaunchError,
    MethodNotFoundError,
    PluginError,
    ProcessExitedError,
    ProgramNotFoundError,
    RemoteError,
    SourceNotFoundError,
    SymbolNotFoundError,
)
from plugkeep.loaders import get_include
from plugkeep.loaders.isolation import isolate
from plugkeep.sandbox import ExecSandbox, Sandbox

WHERE = """
@expose
def where(self): return [os.getpid(), os.getcwd(), sys.path, sys.executable, dict(os.environ)]
"""


@pytest.mark.parametrize(
    ("methods", "called", "hint"),
    [
        ("def add(self): ...", "add", "the plugin has one, but does not mark it with @expose"),
        ("def add(self): ...", "sum", "the plugin marks none with @expose"),
        ("@expose(name='plus')\ndef add(self): ...", "add", "callers call it 'plus'"),
        ("@expose\ndef add(self): ...", "ad", "did you mean 'add'?"),
    ],
)
def test_who_calls_what_is_not_exposed_is_told_so(
    isolated: Any, methods: str, called: str, hint: str
) -> None:
    with isolated(methods) as sandbox, pytest.raises(MethodNotFoundError) as caught:
        sandbox.call(called)
    assert str(caught.value) == f"plugin 'shop' has no method {called!r}; {hint}"


PLACES = """
from dataclasses import dataclass, field
from plugkeep import expose

@dataclass
class Place:
    name: str
    height: float = 1.5
    tags: list[str] = field(default_factory=list)

class PluginFactory:
    name = "places"
    def start(self): ...
    def stop(self): ...
    @expose
    def back(self, places: list[Place]) -> list[Place]: return places
"""


def test_the_defaults_of_a_dataclass_travel(tmp_path: Path) -> None:
    source = tmp_path / "places.py"
    source.write_text(PLACES)
    with isolate(f"file:{source}") as sandbox:
        full = {"name": "Bern", "height": 1.5, "tags": []}
        assert sandbox.call("back", [{"name": "Bern"}]) == [full]


def test_a_start_is_told_by_its_phases(isolated: Any) -> None:
    sandbox = isolated("")
    assert sandbox.start_phases == ()
    before = time.time()
    with sandbox:
        after = time.time()
        phases = sandbox.start_phases
    assert [phase.name for phase in phases] == ["launch", "import", "start"]
    assert [phase.end for phase in phases[:-1]] == [phase.begin for phase in phases[1:]]
    moments = [before, *(phase.begin for phase in phases), phases[-1].end, after]
    assert moments == sorted(moments)


@pytest.mark.parametrize(
    ("began", "expected"), [("", ["launch"]), ("-1", ["launch", "import", "start"])]
)
def test_a_program_is_believed_within_reason_when_it_began(
    tmp_path: Path, began: str, expected: list[str]
) -> None:
    said = f', "wire": 1, "began": {began}' if began else ""
    script = tmp_path / "plain.py"
    script.write_text(
        f"""print('{{"ready": true{said}}}', flush=True)
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if "id" in message:
        print(json.dumps({{"jsonrpc": "2.0", "id": message["id"], "result": None}}), flush=True)
    if "stop" in line: break
"""
    )
    before = time.time()
    with ExecSandbox(sys.executable, script) as sandbox:
        phases = sandbox.start_phases
    assert [phase.name for phase in phases] == expected
    assert all(before <= phase.begin <= phase.end for phase in phases)


def test_a_file_runs_in_a_child(isolated: Any) -> None:
    sandbox = isolated(WHERE)
    assert plugkeep.isolate is isolate
    assert (type(sandbox), sandbox.name, sandbox.wire) == (Sandbox, "shop", 2)
    with sandbox:
        pid, cwd, path, executable, environment = sandbox.call("where")
        assert pid == sandbox.pid
        assert (cwd, executable) == (str(Path.cwd()), sys.executable)
        # It finds what we find, in the same order.
        here = [str(Path(each).absolute()) for each in sys.path]
        assert path[: len(here)] == here
        assert not {"PLUGKEEP_WIRE", "PLUGKEEP_WIRE_FDS"} & environment.keys()


def test_the_lower_levels_do_too(isolated: Any) -> None:
    with isolated(WHERE, wire=1) as sandbox:
        assert sandbox.call("where")[0] == sandbox.pid
    with isolated(WHERE, wire=0) as sandbox, pytest.raises(PluginError, match="level 0"):
        sandbox.call("where")


def test_with_that_is_asynchronous_is_told_what_to_use_instead(isolated: Any) -> None:
    async def main() -> None:
        async with isolated(WHERE):
            raise AssertionError("never reached")

    with pytest.raises(TypeError, match=r"use `with`; or, .* `async with registry`"):
        asyncio.run(main())


def test_in_an_event_loop_a_registry_starts_it(isolated: Any) -> None:
    async def main() -> None:
        registry = plugkeep.Registry()
        registry.register(isolated(WHERE))
        async with registry:
            sandbox: Any = registry["shop"]
            assert (await sandbox.acall("where"))[0] == sandbox.pid

    asyncio.run(main())


def test_environment_folder_and_interpreter(isolated: Any, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    (tmp_path / "work").mkdir()
    env = {"ONLY": "this"}
    with isolated(WHERE, env=env, cwd=tmp_path / "work", python=python, name="other") as sandbox:
        _, cwd, path, _, environment = sandbox.call("where")
    assert sandbox.name == "other"
    assert cwd == str(tmp_path / "work")
    assert environment["ONLY"] == "this"
    assert "PATH" not in environment
    assert str(tmp_path / "work") not in path
    gone = isolated(python=tmp_path / "gone")
    with pytest.raises(ProgramNotFoundError, match="gone' does not exist"):
        gone.start()


def test_a_module_that_only_we_can_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, isolated: Any
) -> None:
    isolated(WHERE)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "json.py").write_text("raise ImportError('the wrong one')")
    monkeypatch.chdir(tmp_path / "..")
    (tmp_path / "json.py").unlink()
    for source in ("python:shop", "python:shop:PluginFactory"):
        with isolate(source) as sandbox:
            assert sandbox.name == "shop"
            assert sandbox.call("where")[0] == sandbox.pid


def test_a_plugin_beside_modules_with_unlucky_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, isolated: Any
) -> None:
    sandbox = isolated(WHERE)
    (tmp_path / "json.py").write_text("raise ImportError('the wrong one')")
    monkeypatch.chdir(tmp_path)
    with sandbox:
        assert sandbox.call("where")[0] == sandbox.pid


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("python:shop.reco", "reco"),
        ("python:shop.reco:PluginFactory", "reco"),
        ("python:shop.reco:Reco", "Reco"),
        ("python:reco", "reco"),
        ("entry-point:shop.plugins/clock", "clock"),
        ("entry-point:shop.plugins/clock.v2", "clock.v2"),
    ],
)
def test_names(source: str, name: str) -> None:
    assert isolate(source).name == name


def test_names_of_files(tmp_path: Path) -> None:
    (tmp_path / "tea.py").touch()
    assert isolate("file:tea.py", base=tmp_path).name == "tea"
    assert isolate("file:tea.py:Green", base=tmp_path).name == "Green"
    assert isolate(tmp_path / "tea.py").name == "tea"
    (tmp_path / "-.py").touch()
    with pytest.raises(InvalidNameError, match="pass name="):
        isolate("file:-.py", base=tmp_path)


def test_programs_are_sandboxes_as_ever(tmp_path: Path) -> None:
    (tmp_path / "tea").write_text("#!/bin/sh\nprintf '{\"ready\":true}'; read line\n")
    (tmp_path / "tea").chmod(0o755)
    sandbox = isolate("exec:./tea --green", base=tmp_path, start_timeout=20)
    assert (type(sandbox), sandbox.name, sandbox.wire) == (ExecSandbox, "tea", 2)
    with sandbox:
        assert sandbox.pid


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("file:gone.py", SourceNotFoundError),
        ("so:gone.so", SourceNotFoundError),
        ("exec:./gone", SourceNotFoundError),
        ("python:not a name", InvalidSourceError),
        ("entry-point:nothing", InvalidSourceError),
        ("wasm:x.wasm", InvalidSourceError),
        ("what:x", InvalidSourceError),
    ],
)
def test_what_is_wrong_with_a_source_is_told_at_once(
    source: str, error: type[Exception], tmp_path: Path
) -> None:
    with pytest.raises(error):
        isolate(source, base=tmp_path)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"isolation": "confined"}, "isolation is 'confined'"),
        ({"wire": 3}, "wire of plugin 'shop' is 3"),
        ({"start_timeout": 0}, "start_timeout of plugin 'shop' is 0"),
        ({"env": {"A": 1}}, "env of plugin 'shop' has 'A': 1"),
        ({"name": "a b"}, "'a b'"),
        ({"python": 5}, "python of plugin 'shop' is 5"),
        ({"grants": {"a b": print}}, "'a b'"),
        ({"grants": {"it": 5}}, "granted as 'it' is int 5, which cannot be called"),
        ({"isolation": "thread"}, r"isolation is 'thread'.* loaded by load\(\)"),
        ({"wire": "2"}, "wire of plugin 'shop' is '2'"),
        ({"base": 5}, "base is 5; it takes a string or a path"),
        ({"base": "a\0b"}, "base is 'a.*NUL"),
        ({"cwd": 5}, "cwd of plugin 'shop' is 5"),
        ({"env": ["A=1"]}, r"env of plugin 'shop' is \['A=1'\]; it takes a mapping"),
        ({"python": ""}, "python of plugin 'shop' is empty"),
        ({"grants": ["it"]}, r"grants of plugin 'shop' is \['it'\]; it takes a mapping"),
        ({"grants": []}, r"grants of plugin 'shop' is \[\]"),
        ({"grants": {"it": print}, "wire": 0}, "grants of plugin 'shop' .* wire is 0"),
        ({"config": [1]}, r"config of plugin 'shop' is \[1\]; it takes a mapping"),
        ({"config": 0}, "config of plugin 'shop' is 0"),
        ({"config": dict}, "config of plugin 'shop' is <class 'dict'>"),
    ],
)
def test_what_cannot_be_is_refused(isolated: Any, options: dict[str, Any], told: str) -> None:
    with pytest.raises((TypeError, ValueError), match=told):
        isolated(**options)


def test_what_would_never_be_used_is_refused() -> None:
    with pytest.raises(ValueError, match=r"python is 'pypy', but the source .* is a program"):
        isolate("exec:/bin/true", python="pypy")
    with pytest.raises(TypeError, match=r"source is PluginSpec\(.*Host.add"):
        isolate(plugkeep.PluginSpec(name="a", source="exec:/bin/true"))  # type: ignore[arg-type]


def test_a_folder_that_is_gone_is_told_by_start(isolated: Any, tmp_path: Path) -> None:
    sandbox = isolated(cwd=tmp_path / "gone")
    with pytest.raises(LaunchError, match=r"working directory '.*gone' does not exist"):
        sandbox.start()
    (tmp_path / "gone").mkdir()
    with sandbox:
        assert sandbox.pid


def test_an_interpreter_is_found_from_here_and_not_from_the_childs_folder(
    isolated: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "python").symlink_to(sys.executable)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path)
    env = {"PYTHONPATH": os.pathsep.join(sys.path)}
    with isolated(python="./python", cwd="work", env=env) as sandbox:
        assert sandbox.pid


def test_what_python_passes_over_in_its_path_does_not_matter(
    isolated: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, None, b"/tmp", 5])
    with isolated(WHERE) as sandbox:
        assert sandbox.call("where")[0] == sandbox.pid


def test_configuration_may_be_an_object_and_the_plugin_take_any(isolated: Any) -> None:
    @dataclass
    class Config:
        size: int

    taking = "config: object\n@expose\ndef shown(self): return self.config"
    for config in ({"size": 3}, Config(3)):
        with isolated(taking, config=config) as sandbox:
            assert sandbox.call("shown") == {"size": 3}


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("raise ValueError('on import')", "importing .* raised ValueError: on import"),
        ("x = 1", "has no PluginFactory"),
        ("def PluginFactory(): raise ValueError('in the factory')", "in the factory"),
        ("def PluginFactory(): return 5", "int 5, which is no plugin"),
        ("import os; os._exit(3)", "status 3"),
    ],
)
def test_what_only_the_child_finds_out(tmp_path: Path, code: str, told: str) -> None:
    (tmp_path / "bad.py").write_text(code)
    sandbox = isolate(tmp_path / "bad.py")
    for _ in range(2):
        with pytest.raises(ExitedBeforeReadyError, match=told) as caught:
            sandbox.start()
        assert sandbox.pid is None
    assert caught.value.plugin == "bad"


def test_what_is_no_library_is_found_by_the_child(tmp_path: Path) -> None:
    (tmp_path / "a.so").write_text("no")
    with pytest.raises(ExitedBeforeReadyError, match="cannot be loaded as a library"):
        isolate("so:a.so", base=tmp_path).start()


def test_configuration_has_the_type_that_the_plugin_asks_for(tmp_path: Path) -> None:
    (tmp_path / "tea.py").write_text(
        "from dataclasses import dataclass\n"
        "from datetime import date\n"
        "from pathlib import Path\n"
        "from plugkeep import expose\n"
        "@dataclass\n"
        "class Config:\n"
        "    size: int\n"
        "    day: date\n"
        "    where: Path\n"
        "class PluginFactory:\n"
        "    name = 'tea'\n"
        "    config: Config\n"
        "    def start(self): pass\n"
        "    def stop(self): pass\n"
        "    @expose\n"
        "    def shown(self): return repr(self.config)\n"
    )
    config = {"size": 3, "day": "2026-11-22", "where": "x"}
    with isolate("file:tea.py", base=tmp_path, config=config) as sandbox:
        shown = sandbox.call("shown")
    assert shown == (f"Config(size=3, day=datetime.date(2026, 11, 22), where={tmp_path / 'x'!r})")
    for wrong, told in (({"size": "big"}, "size"), ({"sice": 3}, "sice"), ([1], "config")):
        with pytest.raises(PluginError, match=told):
            isolate("file:tea.py", base=tmp_path, config=wrong).start()


# --- native code ------------------------------------------------------------------------------

_CRASHING = r"""
#include <plugkeep.h>
#include <string.h>
static int in_stop;
static int start(const plugkeep_plugin *self) { return 0; }
static int stop(const plugkeep_plugin *self) {
    if (in_stop == 2)
        *(volatile int *)8 = 1;
    return in_stop;
}
static int call(const plugkeep_plugin *self, const char *method, const char *request,
                size_t request_size, plugkeep_response *response) {
    static const char answer[] = "{\"fine\": true}";
    if (strcmp(method, "crash") == 0)
        *(volatile int *)8 = 1;
    if (strcmp(method, "fail_stop") == 0)
        in_stop = 1;
    else if (strcmp(method, "crash_stop") == 0)
        in_stop = 2;
    else if (strcmp(method, "fine") != 0)
        return PLUGKEEP_NO_SUCH_METHOD;
    response->data = (char *)answer;
    response->size = sizeof answer - 1;
    return PLUGKEEP_OK;
}
static const plugkeep_plugin plugin = {PLUGKEEP_HEAD, "crashing", start, stop, call};
PLUGKEEP_EXPORT const plugkeep_plugin *PluginFactory(void) { return &plugin; }
"""


@pytest.fixture
def crashing(tmp_path: Path) -> Path:
    """Return a library one method of which writes where it must not."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    (tmp_path / "crashing.c").write_text(_CRASHING)
    library = tmp_path / "libcrashing.so"
    command = [compiler, "-shared", "-fPIC", "-I", get_include(), "-o", library]
    subprocess.run([*command, tmp_path / "crashing.c"], check=True, timeout=100)
    return library


def test_native_code_that_crashes_takes_only_the_child_along(crashing: Path) -> None:
    sandbox = isolate(crashing)
    assert sandbox.name == "libcrashing"
    sandbox.start()
    assert sandbox.call("fine") == {"fine": True}
    with pytest.raises(MethodNotFoundError, match="fnie"):
        sandbox.call("fnie")
    with pytest.raises(ProcessExitedError, match="SIGSEGV"):
        sandbox.call("crash")
    with pytest.raises(ProcessExitedError, match="SIGSEGV"):
        sandbox.stop()
    with sandbox:
        assert sandbox.call("fine") == {"fine": True}


def test_native_code_that_fails_to_stop_in_a_child(crashing: Path) -> None:
    sandbox = isolate(crashing)
    sandbox.start()
    sandbox.call("fail_stop")
    with pytest.raises(RemoteError, match="stop") as caught:
        sandbox.stop()
    assert caught.value.type == "plugkeep.errors.NativeError"
    sandbox.start()
    sandbox.call("crash_stop")
    with pytest.raises(ProcessExitedError, match="SIGSEGV"):
        sandbox.stop()
    assert sandbox.pid is None
    with sandbox:
        assert sandbox.call("fine") == {"fine": True}


def test_native_code_takes_no_configuration(crashing: Path) -> None:
    with pytest.raises(ConfigError, match=r"plugin 'libcrashing': config: .*no configuration"):
        isolate(crashing, config={"size": 3}).start()
    with isolate(crashing, config={}) as sandbox:
        assert sandbox.call("fine") == {"fine": True}


def test_a_library_without_the_symbol_is_refused_before_anything_runs(
    crashing: Path, tmp_path: Path
) -> None:
    (tmp_path / "no.c").write_text("int nothing;")
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-o", tmp_path / "no.so", tmp_path / "no.c"],
        check=True,
        timeout=100,
    )
    with pytest.raises(SymbolNotFoundError):
        isolate(tmp_path / "no.so")
