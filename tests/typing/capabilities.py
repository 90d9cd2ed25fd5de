"""A protocol given as a value is what comes back; checked by `make check`, never run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar, assert_type, runtime_checkable

from plugkeep import Plugin, Registry, RouteProvider

Item = TypeVar("Item", covariant=True)


@runtime_checkable
class Greeter(Protocol):
    def greet(self, name: str) -> str: ...


@runtime_checkable
class Configured(Protocol):
    url: str

    def __init__(self, url: str, retries: int) -> None: ...


@runtime_checkable
class Source(Protocol[Item]):
    def item(self) -> Item: ...


class Abstract(ABC):
    @abstractmethod
    def run(self) -> int: ...


class Concrete(Generic[Item]):
    def __init__(self, item: Item) -> None:
        self.item = item


registry = Registry()

assert_type(registry.providing(Greeter), Iterator[Greeter])
assert_type(registry.providing(Configured), Iterator[Configured])
assert_type(registry.providing(Source[int]), Iterator[Source[int]])
assert_type(registry.providing(Abstract), Iterator[Abstract])
assert_type(registry.providing(Concrete[str]), Iterator[Concrete[str]])
assert_type(registry.providing(RouteProvider), Iterator[RouteProvider])
assert_type(registry.capability("greeter", Greeter), Greeter | None)
assert_type(registry.capability("any", Plugin), Plugin | None)

for greeter in registry.providing(Greeter):
    assert_type(greeter.greet("you"), str)
    greeter.greet(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    greeter.shout()  # type: ignore[attr-defined]  # pyright: ignore

registry.providing("Greeter")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
