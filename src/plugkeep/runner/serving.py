"""Serving a plugin from a process: from the command line, and from an author's own script."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NoReturn

from plugkeep.creation import create
from plugkeep.errors import PluginError
from plugkeep.plugin import Plugin
from plugkeep.runner._wire import open_wire


def serve(plugin: Plugin | Callable[[], Plugin]) -> NoReturn:
    """Serve `plugin`, or what it makes, to the host that started this process."""
    serve_made_by(lambda: create(plugin, source="script") if isinstance(plugin, type) else plugin)


def serve_made_by(make: Callable[[], Plugin]) -> NoReturn:
    wire = open_wire()
    from plugkeep.runner.runner import Runner

    try:
        runner = Runner(make(), wire)
    except PluginError as error:
        sys.exit(f"plugkeep: {error}")
    sys.exit(runner.run())
