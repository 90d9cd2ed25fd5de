"""The way of a call into a plugin: when it is its turn, and when the plugin is there."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from plugkeep.channel.behalf import on_behalf
from plugkeep.channel.prospects import Prospects
from plugkeep.channel.turnstile import Ticket, Turnstile
from plugkeep.errors import CallTimeoutError, PluginBusyError

if TYPE_CHECKING:
    from plugkeep.channel.bells import Bell, LoopBell, ThreadBell


class Manner(NamedTuple):
    """How a call deals with a plugin that is not there.

    `wait`: it waits until the plugin is there, as long as that is to be expected. `retry`: it may
    be made twice.
    """

    wait: bool = False
    retry: bool = False


PLAINLY: Final = Manner()


class Entrance:
    """What stands before a plugin, over all its lives.

    `max_calls` may be under way at once (None: any number), while `max_waiting` others wait.
    """

    def __init__(self, plugin: str, max_calls: int | None, max_waiting: int | None) -> None:
        self.plugin = plugin
        self.turnstile = None if max_calls is None else Turnstile(max_calls, max_waiting or 0)
        self.prospects = Prospects(plugin)
        #: Whom calls reach now: a `Caller`, or what refuses them.
        self.caller: Any = None

    def admit(self, caller: Any) -> Any:
        """Have calls reach `caller` from now on; return what they are to be made by."""
        if getattr(caller, "entrance", None) is self:  # it is the one that there is
            return caller
        if caller is not self.caller:
            self.caller = caller
            self.prospects.is_starting = False
            self.prospects.changed()
        if self.turnstile is None or not hasattr(caller, "channel"):
            return caller
        from plugkeep.channel.careful import Careful

        return Careful(self, PLAINLY)

    @property
    def is_up(self) -> bool:
        """Whether a call would be sent, or refused for a reason that waiting does not change."""
        channel = getattr(self.caller, "channel", None)
        if channel is None:
            return bool(self.caller.is_silent)
        return not (channel.is_lost or channel.is_retired)

    def busy(self) -> PluginBusyError:
        """Return what is raised where there is no room."""
        turnstile = self.turnstile
        assert turnstile is not None  # noqa: S101  # or there would be room
        max_calls, max_waiting = turnstile.at_once, turnstile.waiting
        waiting = f", and {max_waiting} wait (max_waiting)" if max_waiting else ""
        return PluginBusyError(
            f"plugin {self.plugin!r} is busy: {max_calls} of its calls are under way (max_calls)"
            f"{waiting}; call it again later, make fewer calls at once, or give it other limits",
            plugin=self.plugin,
            max_calls=max_calls,
            max_waiting=max_waiting,
        )


class Visit:
    """One call on its way in, through what it does there, and on its way out: `leave`."""

    def __init__(
        self, entrance: Entrance, manner: Manner, method: str, timeout: float | None
    ) -> None:
        self._entrance = entrance
        self._manner = manner
        self._method = method
        self._timeout = timeout
        self._deadline = None if timeout is None else monotonic() + timeout
        self.ticket: Ticket | None = None
        #: Whether some of the time has been spent on the way.
        self.has_waited = False

    def at_once(self) -> Any:
        """Return whom to call if there is nothing to wait for, else None."""
        entrance = self._entrance
        caller = entrance.caller
        if self._manner.wait and not entrance.is_up:
            return None
        turnstile = entrance.turnstile
        if turnstile is None or self.ticket is not None or self._is_nested(caller):
            return caller
        self.ticket = Ticket(turnstile)
        return caller if self.ticket.enter() else None

    def enter(self) -> Any:
        """Wait for what there is to be waited for, and return whom to call.

        Raises PluginBusyError, CallTimeoutError, NotStartedError.
        """
        from plugkeep.channel.bells import ThreadBell

        with closing(self._steps(bell := ThreadBell())) as steps:
            try:
                next(steps)
                while True:
                    steps.send(bell.wait(self._deadline))
            except StopIteration as end:
                return end.value

    async def aenter(self) -> Any:
        """Do what `enter` does, on an event loop."""
        from plugkeep.channel._sides import loop_here
        from plugkeep.channel.bells import LoopBell

        with closing(self._steps(bell := LoopBell(loop_here()))) as steps:
            try:
                next(steps)
                while True:
                    steps.send(await bell.wait(self._deadline))
            except StopIteration as end:
                return end.value

    def left(self) -> float | None:
        """Return the seconds that are left. Raises CallTimeoutError."""
        if self._deadline is None:
            return None
        left = self._deadline - monotonic()
        if left <= 0:
            raise self.late("it had to wait for so long")
        return left

    def late(self, why: str) -> CallTimeoutError:
        """Return the error of a call that has taken too long."""
        timeout, plugin = self._timeout or 0.0, self._entrance.plugin
        return CallTimeoutError(
            f"plugin {plugin!r}: {self._method!r} was not answered within {timeout:g} s: {why}",
            timeout=timeout,
            plugin=plugin,
        )

    def leave(self) -> None:
        """Make room for others."""
        ticket, self.ticket = self.ticket, None
        if ticket is not None:
            ticket.leave()

    def _is_nested(self, caller: Any) -> bool:
        """Whether the plugin itself waits for this call: then it must not wait for the plugin."""
        behind = on_behalf.get()
        return bool(behind) and getattr(caller, "channel", None) in behind

    def _steps(self, bell: ThreadBell | LoopBell) -> Generator[None, bool, Any]:
        """Yield to wait for the bell, and be sent whether it is in time; return whom to call."""
        self.has_waited = True
        entrance, manner = self._entrance, self._manner
        with entrance.prospects.heard_by(bell):
            if entrance.turnstile is not None and not self._is_nested(entrance.caller):
                yield from self._until_in(entrance.turnstile, bell)
            if manner.wait:
                yield from self._until_up()
        return entrance.caller

    def _until_in(self, turnstile: Turnstile, bell: Bell) -> Generator[None, bool, None]:
        entrance = self._entrance
        if self.ticket is None:
            self.ticket = Ticket(turnstile)
            if self.ticket.enter():
                return
        if self.ticket.is_in:
            return
        if not self.ticket.line_up(bell):
            raise entrance.busy()
        while not self.ticket.is_in:
            if not entrance.is_up and not (self._manner.wait and entrance.prospects.hope):
                return  # it is refused, and need not wait for that
            if not (yield) and not self.ticket.is_in:
                raise self.late(f"{turnstile.at_once} other calls of it were under way")

    def _until_up(self) -> Generator[None, bool, None]:
        entrance = self._entrance
        while not entrance.is_up:
            if not entrance.prospects.hope:
                raise entrance.prospects.refusal()
            if not (yield) and not entrance.is_up:
                raise self.late("the plugin has not come up")
