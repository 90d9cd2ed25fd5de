from __future__ import annotations

import asyncio
import logging
import os

import pytest

from plugkeep.errors import (
    ConfigError,
    FactoryFailedError,
    ImportFailedError,
    LoadError,
    PluginNotFoundError,
    ReadyTimeoutError,
    RequirementError,
    StartError,
    StopError,
    SymbolNotFoundError,
)
from plugkeep.host import Host
from plugkeep.lifecycle import State
from plugkeep.registry import Registry
from plugkeep.spec import PluginSpec


def states(host):
    return {name: str(host.registry.state(name)) for name in host.registry}


# --- assembling -------------------------------------------------------------------------------


def test_plugins_of_a_file_start_in_order_and_stop_in_reverse(folder):
    folder.plugin("api", 'requires = ["database"]')
    folder.plugin("database")
    host = Host.from_file(folder.config)
    assert folder.notes() == []
    assert host.registry.names() == ["api", "database"]
    assert list(host.specs) == ["api", "database"]
    assert host.specs["api"].requires == ("database",)
    assert host.start() == []
    assert host.stop() == []
    assert folder.notes() == ["start database", "start api", "stop api", "stop database"]


def test_the_key_is_the_name_whatever_the_plugin_calls_itself(folder):
    folder.plugin("clock")
    folder.table("clock2", 'source = "file:clock.py"')
    host = Host.from_file(folder.config)
    assert host.registry.names() == ["clock", "clock2"]
    assert host.registry["clock"] is not host.registry["clock2"]


def test_a_relative_source_is_relative_to_the_file(folder, monkeypatch, tmp_path_factory):
    folder.plugin("clock")
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert Host.from_file(folder.config).start() == []
    monkeypatch.chdir(folder.path)
    assert Host.from_file("plugkeep.toml").start() == []
    assert folder.notes() == ["start clock"] * 2


def test_config_is_there_before_start_in_the_type_that_the_plugin_asks_for(folder):
    folder.write(
        "database.py",
        """
        from __future__ import annotations
        from dataclasses import dataclass
        from pathlib import Path

        @dataclass
        class Settings:
            file: Path
            pool: int = 3

        class PluginFactory:
            name = "database"
            config: Settings
            def start(self): self.seen = self.config
            def stop(self): ...
        """,
    )
    folder.table("database", 'source = "file:database.py"\nconfig = { file = "shop.db" }')
    host = Host.from_file(folder.config)
    with host:
        seen = host.registry["database"].seen
    assert (seen.file, seen.pool) == (folder.path / "shop.db", 3)
    assert type(seen).__name__ == "Settings"


def test_limits_reach_the_plugins(folder):
    folder.write("plugkeep.toml", '[host]\nstart_timeout = "2s"\n')
    folder.plugin("quick")
    folder.plugin("slow", 'start_timeout = "1m"\nstop_timeout = 3')
    host = Host.from_file(folder.config)
    slow = host.registry["slow"]
    assert (slow.start_timeout, slow.stop_timeout) == (60.0, 3.0)
    assert not hasattr(host.registry["quick"], "start_timeout")


def test_a_plugin_that_exceeds_the_limit_of_the_host_fails(folder):
    folder.write("plugkeep.toml", '[host]\nstart_timeout = "50ms"\n')
    release = folder.path / "release"
    os.mkfifo(release)
    folder.plugin("hung", start=f"open({str(release)!r}).close()")
    folder.plugin("fine")
    host = Host.from_file(folder.config)
    (error,) = host.start()
    assert isinstance(error, TimeoutError)
    assert error.plugin == "hung"
    assert states(host) == {"hung": "failed", "fine": "running"}
    with release.open("w"):
        assert host.stop() == []


def test_programs_have_the_hosts_limit_unless_they_have_their_own(folder):
    program = folder.write("mute", "#!/bin/sh\nread line\n")
    program.chmod(0o755)
    folder.write("plugkeep.toml", '[host]\nstart_timeout = "500ms"\n')
    folder.table("mute", 'source = "exec:./mute"\nisolation = "process"')
    folder.table("own", 'source = "exec:./mute"\nstart_timeout = "400ms"')
    mute, own = Host.from_file(folder.config).start()
    # Their own errors: the registry must not give up while a sandbox ends its process.
    assert isinstance(mute.__cause__, ReadyTimeoutError)
    assert isinstance(own.__cause__, ReadyTimeoutError)
    assert (mute.__cause__.timeout, own.__cause__.timeout) == (0.5, 0.4)


def test_workers_of_the_file_start_plugins_side_by_side(folder):
    folder.write("plugkeep.toml", "[host]\nworkers = 2\n")
    # Each waits for the other: one after the other they would wait for ever.
    os.mkfifo(folder.path / "pipe")
    folder.plugin("a", start="open(NOTES.with_name('pipe'), 'w').close()")
    folder.plugin("b", start="open(NOTES.with_name('pipe')).close()")
    host = Host.from_file(folder.config)
    assert host.registry.workers == 2
    assert host.start() == []
    assert host.stop() == []


def test_every_plugin_that_cannot_be_made_is_listed_and_nothing_starts(folder):
    folder.plugin("fine")
    folder.write("broken.py", "import nonsense_that_is_not_there\n")
    folder.write("empty.py", "")
    folder.write("raising.py", "def PluginFactory(): raise RuntimeError('no')\n")
    for name in ("broken", "empty", "raising", "missing"):
        folder.table(name, f'source = "file:{name}.py"')
    folder.plugin("unasked", "config = { a = 1 }")
    with pytest.raises(ConfigError) as caught:
        Host.from_file(folder.config)
    error = caught.value
    assert error.path == str(folder.config)
    places = [
        problem.removeprefix(str(folder.config)).split(": ")[:2] for problem in error.problems
    ]
    assert places == [
        [":4", "plugins.broken.source"],
        [":6", "plugins.empty.source"],
        [":8", "plugins.raising.source"],
        [":10", "plugins.missing.source"],
        [":13", "plugins.unasked.config"],
    ]
    kinds = [type(cause) for cause in error.__cause__.exceptions]
    assert kinds[:3] == [ImportFailedError, SymbolNotFoundError, FactoryFailedError]
    assert issubclass(kinds[3], FileNotFoundError)
    assert folder.notes() == []


def test_a_config_that_does_not_fit_the_plugin_is_named_with_its_line(folder):
    folder.write(
        "typed.py",
        """
        class PluginFactory:
            name = "typed"
            config: dict[str, int]
            def start(self): ...
            def stop(self): ...
        """,
    )
    folder.table("typed", 'source = "file:typed.py"\n\nconfig = { port = "80" }')
    with pytest.raises(ConfigError) as caught:
        Host.from_file(folder.config)
    (problem,) = caught.value.problems
    found = "expected a whole number, found a text (at $[...])"
    assert problem == f"{folder.config}:4: plugins.typed.config: {found}"


def test_a_program_takes_no_configuration(folder):
    program = folder.write("mute", "#!/bin/sh\nprintf '{\"ready\":true}'; read line\n")
    program.chmod(0o755)
    folder.table("mute", 'source = "exec:./mute"\nconfig = { a = 1 }')
    (error,) = Host.from_file(folder.config).start()
    assert "'mute' has a configuration, which level 0 of the wire has no way to tell" in str(error)


def test_what_a_plugin_itself_requires_in_vain_is_found_before_anything_starts(folder):
    folder.plugin("a")
    folder.write("b.py", (folder.path / "a.py").read_text() + '    requires = ("nobody",)\n')
    folder.table("b", 'source = "file:b.py"')
    host = Host.from_file(folder.config)
    with pytest.raises(RequirementError, match="'b' requires 'nobody'"):
        host.start()
    assert folder.notes() == []


def test_a_plugin_with_requires_that_are_none_is_a_problem_and_registers_nothing(folder):
    folder.plugin("a")
    folder.write("b.py", (folder.path / "a.py").read_text() + '    requires = "a"\n')
    folder.table("b", 'source = "file:b.py"')
    with pytest.raises(ConfigError, match=r"plugkeep.toml:3: plugins.b: requires of plugin 'b'"):
        Host.from_file(folder.config)


def test_plugins_of_the_host_itself_may_be_required(folder):
    folder.plugin("a", 'requires = ["app"]')
    host = Host.from_file(folder.config, known=["app"])

    class App:
        name = "app"

        def start(self): ...
        def stop(self): ...

    host.registry.register(App())
    assert host.registry.start_order() == ["app", "a"]


def test_warnings_of_the_file_are_logged(folder, caplog):
    folder.plugin("a", "restart = { intensity = 3 }")
    with caplog.at_level(logging.WARNING, "plugkeep.host"):
        Host.from_file(folder.config)
    assert 'without a when it is "temporary"' in caplog.text


def test_specs_can_be_added_one_by_one_and_all_or_none(folder):
    folder.plugin("a")
    registry = Registry()
    host = Host(registry)
    assert host.registry is registry
    spec = PluginSpec(name="a", source="file:a.py", base=str(folder.path))
    host.add(spec)
    assert host.registry.names() == ["a"]
    with pytest.raises(ConfigError, match="named 'a' is registered already"):
        host.add(PluginSpec(name="b", source="file:a.py", base=str(folder.path)), spec)
    assert host.registry.names() == ["a"]
    with pytest.raises(ConfigError, match=r"somewhere: c\.source: "):
        host.add(PluginSpec(name="c", source="file:/nowhere.py", origin="somewhere"))
    assert list(host.specs) == ["a"]


# --- all plugins ------------------------------------------------------------------------------


def test_start_attempts_all_and_returns_the_errors(folder):
    folder.plugin("bad", start="raise RuntimeError('no')")
    folder.plugin("good")
    host = Host.from_file(folder.config)
    (error,) = host.start()
    assert (type(error), error.plugin) == (StartError, "bad")
    assert states(host) == {"bad": "failed", "good": "running"}
    assert host.stop() == []


@pytest.mark.parametrize("workers", [None, 2])
def test_with_is_strict(folder, workers):
    folder.plugin("good")
    folder.plugin("bad", 'requires = ["good"]', start="raise RuntimeError('no')")
    host = Host.from_file(folder.config)
    host.registry.workers = workers
    with pytest.raises(ExceptionGroup) as caught, host:
        pytest.fail("must not be entered")
    assert [error.plugin for error in caught.value.exceptions] == ["bad"]
    assert folder.notes() == ["start good", "start bad", "stop good"]


def test_an_exception_in_the_body_stops_all_and_propagates_with_notes(folder):
    folder.plugin("a", stop="raise RuntimeError('stuck')")
    with pytest.raises(ZeroDivisionError) as caught, Host.from_file(folder.config):
        1 / 0  # noqa: B018
    assert folder.notes() == ["start a", "stop a"]
    assert "stuck" in "".join(caught.value.__notes__)


def test_stop_errors_after_a_body_that_went_well_are_raised(folder):
    folder.plugin("a", stop="raise RuntimeError('stuck')")
    with (
        pytest.raises(ExceptionGroup, match="1 plugin failed to stop"),
        Host.from_file(folder.config),
    ):
        pass


def test_an_interrupt_during_a_strict_start_stops_what_had_started(folder):
    folder.plugin("a")
    folder.plugin("b", start="raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt), Host.from_file(folder.config):
        pytest.fail("must not be entered")
    assert folder.notes() == ["start a", "start b", "stop a"]


ASYNC = """
class PluginFactory:
    name = "beat"
    async def start(self):
        import asyncio
        self.task = asyncio.create_task(asyncio.sleep(3600))
    async def stop(self):
        self.task.cancel()
"""


def test_the_asynchronous_forms_do_the_same(folder):
    folder.plugin("a")
    folder.write("beat.py", ASYNC)
    folder.table("beat", 'source = "file:beat.py"\nrequires = ["a"]')
    folder.plugin("bad", start="raise RuntimeError('no')")

    async def main():
        host = Host.from_file(folder.config)
        (error,) = await host.astart()
        assert error.plugin == "bad"
        assert states(host) == {"a": "running", "beat": "running", "bad": "failed"}
        await host.arestart("a")
        assert states(host)["beat"] == "running"
        assert await host.astop() == []
        with pytest.raises(ExceptionGroup, match="1 plugin did not start"):
            async with host:
                pytest.fail("must not be entered")
        host.registry.unregister("bad")
        async with host:
            assert states(host) == {"a": "running", "beat": "running"}

    asyncio.run(main())
    assert [note for note in folder.notes() if note.endswith(" a")] == ["start a", "stop a"] * 4


# --- one plugin -------------------------------------------------------------------------------


@pytest.fixture
def chain(folder):
    """A running host: c requires b requires a; d is alone, idle never started."""
    folder.plugin("c", 'requires = ["b"]')
    folder.plugin("b", 'requires = ["a"]')
    folder.plugin("a")
    folder.plugin("d")
    folder.plugin("idle", 'requires = ["a"]')
    host = Host.from_file(folder.config)
    for name in ("c", "d"):
        host.registry.start(name)
    folder.notes()
    yield host
    assert host.stop() == []


def test_restart_takes_along_what_requires_the_plugin_and_nothing_else(folder, chain):
    chain.restart("b")
    assert folder.notes() == ["stop c", "stop b", "start b", "start c"]
    chain.restart("a")
    assert folder.notes() == ["stop c", "stop b", "stop a", "start a", "start b", "start c"]
    assert chain.registry.state("idle") is State.REGISTERED


def test_restart_starts_what_does_not_run(folder, chain):
    chain.restart("idle")
    assert folder.notes() == ["start idle"]


def test_restart_of_an_unknown_plugin_names_near_ones(chain):
    with pytest.raises(PluginNotFoundError, match="did you mean 'idle'"):
        chain.restart("idl")
    with pytest.raises(PluginNotFoundError, match="did you mean 'idle'"):
        chain.reload("idl")


def test_a_stop_that_fails_does_not_keep_a_restart_from_starting(folder):
    folder.plugin("a", stop="raise RuntimeError('stuck')")
    folder.plugin("b", 'requires = ["a"]')
    host = Host.from_file(folder.config)
    host.start()
    with pytest.raises(StopError, match="stuck"):
        host.restart("a")
    assert folder.notes() == ["start a", "start b", "stop b", "stop a", "start a", "start b"]
    assert [str(error) for error in host.stop()] == [
        "plugin 'a' failed to stop: RuntimeError: stuck"
    ]


def test_reload_executes_the_file_again_and_keeps_name_place_and_config(folder):
    folder.write("b.py", "from c import x\n")
    text = """
    class PluginFactory:
        name = "{name}"
        config: dict
        version = {version}
        def start(self): self.started_with = self.config
        def stop(self): ...
    """
    folder.write("a.py", text.format(name="a", version=1))
    folder.table("a", 'source = "file:a.py"\nconfig = { x = 1 }')
    folder.plugin("user", 'requires = ["a"]')
    host = Host.from_file(folder.config)
    host.start()
    old = host.registry["a"]
    folder.write("a.py", text.format(name="other", version=2))
    host.reload("a", overlap=False)
    new = host.registry["a"]
    assert (old.version, new.version, new.started_with) == (1, 2, {"x": 1})
    assert host.registry.names() == ["a", "user"]
    assert folder.notes() == ["start user", "stop user", "start user"]
    assert host.stop() == []


def test_a_reload_that_cannot_load_changes_nothing(folder, chain):
    old = chain.registry["b"]
    folder.write("b.py", "class PluginFactory:\n  broken(\n")
    with pytest.raises(ConfigError, match=r"plugkeep.toml:5: plugins.b.source: .*SyntaxError"):
        chain.reload("b")
    assert folder.notes() == []
    assert chain.registry["b"] is old
    assert chain.registry.state("b") is State.RUNNING


def test_reload_leaves_a_plugin_that_is_not_wanted_stopped_and_starts_a_failed_one(folder, chain):
    chain.reload("idle")
    chain.registry.stop("d")
    chain.reload("d")
    assert folder.notes() == ["stop d"]
    folder.plugin("late", start="raise RuntimeError('no')")
    chain.add(PluginSpec(name="late", source="file:late.py", base=str(folder.path)))
    with pytest.raises(StartError):
        chain.registry.start("late")
    folder.plugin("late")
    chain.reload("late")
    assert chain.registry.state("late") is State.RUNNING


def test_a_plugin_whose_stop_hangs_cannot_be_reloaded_and_all_that_went_wrong_is_told(folder):
    os.mkfifo(folder.path / "pipe")
    folder.plugin("a", 'stop_timeout = "50ms"', stop="open(NOTES.with_name('pipe')).close()")
    folder.plugin("b", 'requires = ["a"]')
    host = Host.from_file(folder.config)
    host.start()
    with pytest.raises(TimeoutError) as caught:
        host.reload("a", overlap=False)
    assert caught.value.plugin == "a"
    assert "cannot be replaced" in "".join(caught.value.__notes__)
    with (folder.path / "pipe").open("w"):
        assert states(host) == {"a": "failed", "b": "stopped"}


def test_a_plugin_registered_by_code_cannot_be_loaded_again(chain):
    class App:
        name = "app"

        def start(self): ...
        def stop(self): ...

    chain.registry.register(App())
    with pytest.raises(LoadError, match="'app' was registered by code"):
        chain.reload("app")
