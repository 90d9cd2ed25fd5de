"""The child's side: a plugin in a process of its own, served to the host that started it."""

from __future__ import annotations

from plugkeep.runner._began import BEGAN as BEGAN
from plugkeep.runner.serving import serve as serve
