"""Memory that is used again: fresh memory costs more than what is then written to it."""

from __future__ import annotations

from collections import deque
from typing import Final

#: Bytes that are kept at most, and how many buffers.
KEPT: Final = 32 * 1024 * 1024
MOST: Final = 32


class Pool:
    """Buffers that are lent again as soon as nobody has a view of them.

    Nobody gives them back: a bytearray refuses to change its length while there is a view of it,
    or of a part of it, anywhere, be it a memoryview, a NumPy array or any other. So that is tried.

    Any thread may take, without a lock: what one looks at it has taken out meanwhile.
    """

    def __init__(self) -> None:
        self._buffers: deque[bytearray] = deque()

    def take(self, size: int) -> memoryview:
        """Return a writable view of `size` bytes of memory, with anything in it."""
        buffer = self._unused(size)
        if buffer is None:
            buffer = bytearray(size)
        view = memoryview(buffer)[:size]
        if size <= KEPT // 2:
            self._buffers.append(buffer)
            self._let_go()
        return view

    def _unused(self, size: int) -> bytearray | None:
        """Take out a buffer that nobody uses, not much larger than needed."""
        for _ in range(len(self._buffers)):
            try:
                buffer = self._buffers.popleft()
            except IndexError:  # others look at them all
                break
            if size <= len(buffer) <= size + size // 4 and _is_unused(buffer):
                return buffer
            self._buffers.append(buffer)
        return None

    def _let_go(self) -> None:
        while len(self._buffers) > MOST or sum(map(len, tuple(self._buffers))) > KEPT:
            try:
                self._buffers.popleft()
            except IndexError:
                break


def _is_unused(buffer: bytearray) -> bool:
    try:
        buffer.pop()
    except BufferError:
        return False
    buffer.append(0)
    return True


#: One for all, so that what is kept does not grow with the number of sandboxes.
shared: Final = Pool()
