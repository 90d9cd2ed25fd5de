"""What the type checkers take for a plugin; checked by `make check`, never run.

An ignored error is an expected one: both checkers are told to complain where there is none.
"""

from __future__ import annotations

from typing import assert_type

from plugkeep import Factory, FactoryRegistry, Plugin, PluginError, Registry, State


class Plain:
    name = "plain"
    requires = ("other",)

    def start(self) -> None: ...
    def stop(self) -> None: ...


class Asynchronous:
    name = "asynchronous"

    async def start(self) -> None: ...
    async def stop(self) -> None: ...


class Mixed:
    name: str = "mixed"

    async def start(self) -> None: ...
    def stop(self) -> None: ...


class Named:
    def __init__(self, number: int) -> None:
        self.number = number

    @property
    def name(self) -> str:
        return f"named-{self.number}"

    def start(self) -> None: ...
    def stop(self) -> None: ...


class Stored:
    def __init__(self, name: str) -> None:
        self.name = name

    def start(self) -> None: ...
    def stop(self) -> None: ...


class Endless:
    name = "endless"

    def start(self) -> None: ...


class Greedy:
    name = "greedy"

    def start(self, port: int) -> None: ...
    def stop(self) -> None: ...


registry = Registry(start_timeout=5.0)
registry.register(Plain())
registry.register(Asynchronous(), name="other", requires=["plain"])
registry.register(Mixed())
registry.register(Named(1))
registry.register(Stored("stored"))
registry.register(Plain)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
registry.register(Endless())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
registry.register(Greedy())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

assert_type(registry.get("plain"), Plugin | None)
assert_type(registry["plain"], Plugin)
assert_type(registry.names(), list[str])
assert_type(registry.state("plain"), State)
assert_type(registry.start_all(workers=4), list[PluginError])
assert_type(registry.discover_from_values(Plain(), None, 3), int)

with registry as entered:
    assert_type(entered, Registry)


async def asynchronously() -> None:
    async with registry as entered:
        assert_type(entered, Registry)
    assert_type(await registry.astop_all(), list[PluginError])


# A factory is a class, a function, or a variable that holds one.
by_class: Factory = Plain
by_function: Factory = lambda: Named(2)  # noqa: E731
by_needy_class: Factory = Named  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]

factories = FactoryRegistry()
factories.register("plain", Plain)
assert_type(factories.create("plain"), Plugin)
