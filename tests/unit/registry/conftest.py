"""Plugins that write down what happens to them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

import pytest


class Recorder:
    """A log that plugins share, safe from any thread."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.threads: dict[str, threading.Thread] = {}

    def note(self, line: str) -> None:
        self.lines.append(line)
        self.threads[line] = threading.current_thread()

    def plugin(
        self,
        name: str,
        requires: Iterable[str] = (),
        *,
        on_start: Callable[[], object] = lambda: None,
        on_stop: Callable[[], object] = lambda: None,
        **attributes: Any,
    ) -> Any:
        """A plugin that notes ``+name`` and ``-name``; `on_start` and `on_stop` run after that."""
        recorder = self

        class Recorded:
            def start(self) -> None:
                recorder.note(f"+{name}")
                on_start()

            def stop(self) -> None:
                recorder.note(f"-{name}")
                on_stop()

        return self._made(Recorded(), name, requires, attributes)

    def async_plugin(
        self,
        name: str,
        requires: Iterable[str] = (),
        *,
        on_start: Callable[[], Any] | None = None,
        on_stop: Callable[[], Any] | None = None,
        **attributes: Any,
    ) -> Any:
        """The same with ``async def`` methods; `on_start` and `on_stop` return awaitables."""
        recorder = self

        class AsyncRecorded:
            async def start(self) -> None:
                recorder.note(f"+{name}")
                if on_start is not None:
                    await on_start()

            async def stop(self) -> None:
                recorder.note(f"-{name}")
                if on_stop is not None:
                    await on_stop()

        return self._made(AsyncRecorded(), name, requires, attributes)

    def _made(self, plugin: Any, name: str, requires: Iterable[str], more: dict[str, Any]) -> Any:
        plugin.name = name
        plugin.requires = tuple(requires)
        for attribute, value in more.items():
            setattr(plugin, attribute, value)
        return plugin


@pytest.fixture
def record() -> Recorder:
    return Recorder()


def failing(error: BaseException) -> Callable[[], None]:
    """Something that raises `error` when called."""

    def fail() -> None:
        raise error

    return fail
