"""What one end gives to be written: a line or a frame, and the buffers that travel beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from msgspec import Struct

from plugkeep.wire.frames import Via

#: Buffers up to this size travel in the frame, those from the next on as a memory file, all
#: between on the socket.
INLINE: Final = 32 * 1024
MEMORY: Final = 32 * 1024 * 1024


class Apart(Struct):
    """A buffer that is to be sent on the socket, right after the frame that announces it."""

    buffer: memoryview
    via: Via
    #: The memory file that it is to be written to, as `Connection.reserve` has given it.
    file: Any = None


#: What is to be sent: a line or frame, and the buffers that follow it on the socket.
Sending = tuple[bytes | bytearray, Sequence[Apart]]
