"""Whether an answer is there at once.

Where both ends share a core it mostly is: to write a call wakes the other end, which has answered
by the time that the writer goes on. Elsewhere to look for it is in vain, and costs a little; so
after each miss it is not tried again for some time.
"""

from __future__ import annotations

from typing import Final

#: So many calls are passed over at most before it is tried again.
_MOST: Final = 255


class Luck:
    """What has come of looking lately."""

    __slots__ = ("_misses", "_to_pass")

    def __init__(self) -> None:
        self._misses = self._to_pass = 0

    def passes(self) -> bool:
        """Say whether to pass over this call."""
        if self._to_pass:
            self._to_pass -= 1
            return True
        return False

    def note(self, *, hit: bool) -> None:
        """Note what came of looking."""
        self._misses = 0 if hit else min(2 * self._misses + 1, _MOST)
        self._to_pass = self._misses
