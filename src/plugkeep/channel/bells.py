"""What somebody who waits is woken by, from any thread: a thread, or a task of an event loop."""

from __future__ import annotations

import _thread
import math
from time import monotonic
from typing import TYPE_CHECKING, Final, Protocol

from plugkeep.channel._async_waiters import Bell as LoopsBell
from plugkeep.channel._async_waiters import ring

if TYPE_CHECKING:
    from plugkeep.channel._sides import Loop

#: Seconds that the system's locks can wait at once; nobody notices when that is over.
_LONGEST: Final = 1e9


class Bell(Protocol):
    """Wakes one who waits. Ringing it while nobody does has the next wait be over at once."""

    def ring(self) -> bool:
        """Wake whoever waits; False: it can never be woken again. From anywhere, at any point."""
        ...


class ThreadBell:
    """Wakes a thread."""

    def __init__(self) -> None:
        self._lock = _thread.allocate_lock()
        self._lock.acquire()

    def ring(self) -> bool:
        """See `Bell`."""
        try:  # noqa: SIM105  # that takes longer
            self._lock.release()
        except RuntimeError:
            pass  # it has been rung already
        return True

    def wait(self, deadline: float | None) -> bool:
        """Wait for `ring`; False: it is later than `deadline`, on the monotonic clock."""
        left = math.inf if deadline is None else deadline - monotonic()
        return left > 0 and self._lock.acquire(True, min(left, _LONGEST))


class LoopBell:
    """Wakes a task of an event loop; to be made and awaited by that task."""

    def __init__(self, loop: Loop) -> None:
        self.bell: LoopsBell = loop.new_bell()
        self._loop = loop

    def ring(self) -> bool:
        """See `Bell`."""
        try:
            self._loop.soon_from_afar(self._ring)
        except RuntimeError:  # the loop has been closed
            return False
        return True

    async def wait(self, deadline: float | None) -> bool:
        """Do as that of `ThreadBell`."""
        if deadline is None:
            await self.bell
        elif (left := deadline - monotonic()) > 0:
            await self._loop.wait(self, left)
        if not self.bell.done():
            return False
        self.bell = self._loop.new_bell()
        return deadline is None or monotonic() < deadline

    def _ring(self) -> None:
        ring(self.bell)
