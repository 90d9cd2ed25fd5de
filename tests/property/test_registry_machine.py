"""The registry against a model of it, over random lives of random plugins."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from plugkeep import PluginError, Registry, RequiredError, RequirementError, State
from plugkeep.lifecycle import TRANSITIONS, UP

NAMES = [f"p{i}" for i in range(6)]


class Lives(RuleBasedStateMachine):
    """Random registering, starting, stopping and failing."""

    plugins = Bundle("plugins")

    def __init__(self) -> None:
        super().__init__()
        self.registry = Registry()
        self.fails: dict[str, set[str]] = {}
        self.running: list[str] = []  # in the order of their starts, by what the plugins say
        self.states: dict[str, State] = {}
        self.registry.subscribe(self.check_transition)

    def check_transition(self, event: Any) -> None:
        if event.plugin in self.registry:
            old = self.states.get(event.plugin, State.REGISTERED)
            new = self.registry.state(event.plugin)
            assert new == old or new in TRANSITIONS[old]
            self.states[event.plugin] = new
        else:
            self.states.pop(event.plugin, None)

    def make(self, name: str, required: tuple[str, ...]) -> Any:
        machine = self

        class Model:
            requires = required

            def __init__(self) -> None:
                self.name = name

            def start(self) -> None:
                assert name not in machine.running
                assert set(required) <= set(machine.running), "before what it requires"
                if "start" in machine.fails[name]:
                    raise OSError(name)
                machine.running.append(name)

            def stop(self) -> None:
                assert name in machine.running, "stopped though it did not start"
                users = [u for u in machine.running if name in machine.registry.requirements()[u]]
                assert not users, "before what requires it"
                machine.running.remove(name)
                if "stop" in machine.fails[name]:
                    raise OSError(name)

        return Model()

    @rule(
        name=st.sampled_from(NAMES),
        required=st.sets(st.sampled_from(NAMES), max_size=2),
        fails=st.sets(st.sampled_from(["start", "stop"]), max_size=1),
    )
    def register(self, name: str, required: set[str], fails: set[str]) -> None:
        if name not in self.registry:
            self.fails[name] = fails
            self.registry.register(self.make(name, tuple(sorted(required))))

    @rule(name=st.sampled_from(NAMES))
    def unregister(self, name: str) -> None:
        before = list(self.running)
        try:
            self.registry.unregister(name)
        except RequiredError:
            assert self.running == before
            assert any(name in self.registry.requirements()[user] for user in before)
        except PluginError:
            assert "stop" in self.fails[name]
            assert name not in self.registry
        else:
            assert name not in self.registry

    @rule(name=st.sampled_from(NAMES), heals=st.booleans())
    def change_fortune(self, name: str, heals: bool) -> None:
        if name in self.fails:
            self.fails[name] = set() if heals else {"start"}

    @rule(workers=st.sampled_from([None, 1]))
    def start_all(self, workers: int | None) -> None:
        before = list(self.running)
        try:
            errors = self.registry.start_all(workers=workers)
        except RequirementError:
            assert self.running == before
            return
        reported = {error.plugin for error in errors}
        assert reported == set(self.registry) - set(self.running)

    @rule()
    def stop_all(self) -> None:
        expected = [n for n in self.running if "stop" in self.fails[n]][::-1]
        assert [error.plugin for error in self.registry.stop_all()] == expected
        assert self.running == []

    @rule(name=st.sampled_from(NAMES))
    def start(self, name: str) -> None:
        try:
            self.registry.start(name)
        except (KeyError, PluginError):
            return
        assert name in self.running

    @rule(name=st.sampled_from(NAMES))
    def stop(self, name: str) -> None:
        with suppress(KeyError, PluginError):
            self.registry.stop(name)
        assert name not in self.running

    @invariant()
    def states_agree(self) -> None:
        up = {name for name in self.registry if self.registry.state(name) in UP}
        assert up == set(self.running)


TestLives = Lives.TestCase
TestLives.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
