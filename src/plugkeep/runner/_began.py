"""When this process came to work of its own: the interpreter is up, and nothing is imported yet."""

from __future__ import annotations

import time

#: In seconds since the epoch.
BEGAN = time.time()
