"""Whether a plugin that does not run will: who calls it may wait for that."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from plugkeep.errors import NotStartedError, PluginError, QuarantinedError
from plugkeep.lifecycle import State

if TYPE_CHECKING:
    from plugkeep.channel.bells import Bell

#: How it is told that a plugin will be back, by its state; of other states, that it has failed.
_COMING: Final = {State.STARTING: "is being started", State.RESTARTING: "is being restarted"}
_FAILED: Final = "has failed and is about to be started again"


class Prospects:
    """What is to be expected of one plugin, and who waits for a change of that."""

    def __init__(self, plugin: str) -> None:
        self._plugin = plugin
        #: Whether it is being started, whoever does so.
        self.is_starting = False
        self._hope = False
        self._state: State | None = None
        self._cause: PluginError | None = None
        self._by: weakref.ref[object] | None = None
        self._waiting: dict[Bell, None] = {}

    @property
    def hope(self) -> bool:
        """Whether it will run, as far as anybody can tell."""
        return self.is_starting or self._hope

    def expect(
        self, hope: bool, state: State | None, cause: PluginError | None, by: object
    ) -> None:
        """Take note of what its host knows; it counts as long as `by` exists, who sees to that."""
        if self._by is None or self._by() is not by:
            self._by = weakref.ref(by, self._lose)
        self._hope, self._state, self._cause = hope, state, cause
        self.changed()

    def changed(self) -> None:
        """Have everybody look again who waits."""
        for bell in list(self._waiting):
            bell.ring()

    @contextmanager
    def heard_by(self, bell: Bell) -> Iterator[None]:
        """Ring a bell with each change. It is to be looked first, in the block, before waiting."""
        self._waiting[bell] = None
        try:
            yield
        finally:
            self._waiting.pop(bell, None)

    def refusal(self) -> NotStartedError:
        """Return what is to be raised where it is called and does not run."""
        name, cause = self._plugin, self._cause
        if self.hope:
            state = State.STARTING if self.is_starting else self._state
            coming = _COMING.get(state, _FAILED) if state is not None else _FAILED
            text = f"plugin {name!r} is not running: it {coming}; calls can wait for that, with "
            return NotStartedError(f"{text}using(wait=True)", plugin=name)
        if self._state is State.QUARANTINED:
            text = f"plugin {name!r} has failed too often and is quarantined; restart it by hand"
            error: NotStartedError = QuarantinedError(_because(text, cause), plugin=name)
        else:
            failed = cause if self._state is State.FAILED else None
            text = f"plugin {name!r} is not running"
            error, cause = NotStartedError(_because(text, failed), plugin=name), failed
        error.__cause__ = cause
        return error

    def _lose(self, _by: object) -> None:
        self._hope, self._by = False, None
        self.changed()


def _because(text: str, cause: PluginError | None) -> str:
    return text if cause is None else f"{text}: {cause}"
