"""What a registry costs: looking up, registering, starting and stopping, few plugins and many."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from timeit import Timer

import pluggy
from _measure import Row, at_most, at_most_times, least, medians, on_one_core, seconds

from plugkeep import Registry

FEW, MANY = 10, 10_000
#: How much a figure at many plugins may exceed that at few and still be called flat: a dict's own
#: lookup varies by as much with what is in the processor's caches.
FLAT = 1.5


class Idle:
    """A plugin that does nothing."""

    def __init__(self, number: int) -> None:
        self.name = f"plugin-{number}"

    def start(self) -> None: ...
    def stop(self) -> None: ...


class Bare:
    """The least that a lookup by name through a method can be."""

    def __init__(self, plugins: Sequence[Idle]) -> None:
        self._plugins = {plugin.name: plugin for plugin in plugins}

    def get(self, name: str) -> Idle | None:
        return self._plugins.get(name)


def run(quick: bool = False) -> list[Row]:
    on_one_core()
    rounds = 5 if quick else 25
    return [*get(rounds), *register_and_unregister(rounds, quick), *start_and_stop(rounds)]


def get(rounds: int) -> list[Row]:
    took = medians(
        {
            f"{kind} {size}": lookup(make(idle(size)).get, size)
            for size in (FEW, MANY)
            for kind, make in (("ours", registry_of), ("peer", Bare))
        },
        rounds,
    )
    few, many = took[f"ours {FEW}"], took[f"ours {MANY}"]
    return [
        at_most_times(2.5, "ns", f"get, {FEW} plugins, beside a dict", few, took[f"peer {FEW}"]),
        at_most_times(
            2.5, "ns", f"get, {MANY:,} plugins, beside a dict", many, took[f"peer {MANY}"]
        ),
        at_most_times(FLAT, "ns", f"get, {MANY:,} plugins, beside {FEW}: flat", many, few),
    ]


def register_and_unregister(rounds: int, quick: bool) -> list[Row]:
    many = 1_000 if quick else MANY  # filling a plugin manager with more takes seconds
    samples = {
        f"{kind} {size}": pair(*make(size))
        for size in (FEW, many)
        for kind, make in (("ours", ours_to_fill), ("peer", pluggy_to_fill))
    }
    took = least(samples, rounds)
    rows = [
        at_most(
            3.0,
            "µs",
            f"register + unregister, {size:,} plugins, beside pluggy",
            took[f"ours {size}"],
            took[f"peer {size}"],
        )
        for size in (FEW, many)
    ]
    claim = f"register + unregister, {many:,} plugins, beside {FEW}: flat"
    return [*rows, at_most_times(FLAT, "µs", claim, took[f"ours {many}"], took[f"ours {FEW}"])]


def start_and_stop(rounds: int) -> list[Row]:
    took = least(
        {
            f"{kind} {size}": sample(size)
            for size in (1_000, MANY)
            for kind, sample in (("ours", all_of_a_registry), ("peer", all_by_hand))
        },
        max(3, rounds // 3),
    )
    few, many = took["ours 1000"], took[f"ours {MANY}"]
    what = "start_all + stop_all, a plugin of"
    return [
        at_most(10.0, "µs", f"{what} 1,000, beside bare calls", few, took["peer 1000"]),
        at_most(10.0, "µs", f"{what} {MANY:,}, beside bare calls", many, took[f"peer {MANY}"]),
        at_most_times(FLAT, "µs", f"{what} {MANY:,}, beside 1,000: flat", many, few),
    ]


# --- Samples ----------------------------------------------------------------------------------


def idle(count: int) -> list[Idle]:
    return [Idle(number) for number in range(count)]


def registry_of(plugins: Sequence[Idle]) -> Registry:
    registry = Registry()
    for plugin in plugins:
        registry.register(plugin)
    return registry


def lookup(get: Callable[[str], object], size: int) -> Callable[[], float]:
    """Return a sample of ten lookups written out, so that no loop is measured with them, in ns."""
    names = [f"plugin-{number}" for number in range(0, size, size // 10)]
    scope = {"get": get, **{f"n{index}": name for index, name in enumerate(names)}}
    timer = Timer("; ".join(f"get(n{index})" for index in range(len(names))), globals=scope)
    repeats = 2_000
    return lambda: timer.timeit(repeats) / repeats / len(names) * 1e9


Change = Callable[[Idle], object]


def pair(register: Change, unregister: Change) -> Callable[[], float]:
    """Return a sample of one registration and its undoing, in µs."""
    newcomers = [Idle(MANY + number) for number in range(50)]

    def both() -> None:
        for newcomer in newcomers:
            register(newcomer)
        for newcomer in newcomers:
            unregister(newcomer)

    return lambda: seconds(both) / len(newcomers) * 1e6


def ours_to_fill(size: int) -> tuple[Change, Change]:
    registry = registry_of(idle(size))
    return registry.register, lambda plugin: registry.unregister(plugin.name)


def pluggy_to_fill(size: int) -> tuple[Change, Change]:
    manager = pluggy.PluginManager("bench")
    for plugin in idle(size):
        manager.register(plugin, plugin.name)
    return (
        lambda plugin: manager.register(plugin, plugin.name),
        lambda plugin: manager.unregister(name=plugin.name),
    )


def all_of_a_registry(size: int) -> Callable[[], float]:
    registry = registry_of(idle(size))

    def both() -> None:
        if registry.start_all() or registry.stop_all():
            raise RuntimeError("a plugin that does nothing failed")

    return lambda: seconds(both) / size * 1e6


def all_by_hand(size: int) -> Callable[[], float]:
    plugins = idle(size)

    def both() -> None:
        for plugin in plugins:
            plugin.start()
        for plugin in reversed(plugins):
            plugin.stop()

    return lambda: seconds(both) / size * 1e6
