"""The native plugin: built from C on the spot, or else replaced by one that says why not."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from plugkeep import ConfigError, Host, PluginSpec, get_include

SOURCE = Path(__file__).parent / "plugins" / "words.c"
FLAGS = ("-shared", "-fPIC", "-O2", "-std=c11", "-D_POSIX_C_SOURCE=200809L")
#: Seconds that a compiler has.
PATIENCE = 60


class BuildError(Exception):
    """Raised when the library cannot be built; the message says why and what to do."""


class Missing:
    """Stands in for a plugin that cannot be had, so everybody sees which, and why."""

    def __init__(self, name: str, reason: str) -> None:
        self.name = name
        self.reason = reason

    def start(self) -> None:
        raise BuildError(self.reason)

    def stop(self) -> None: ...


def add_words(host: Host, folder: Path) -> None:
    """Build the plugin "words" into `folder` and add it to `host`."""
    try:
        library = build(SOURCE, folder / "words.so")
        host.add(PluginSpec(name="words", source=f"so:{library}", origin=str(SOURCE)))
    except (BuildError, ConfigError) as error:  # ConfigError: built, but not to be loaded
        host.registry.register(Missing("words", str(error)))


def build(source: Path, library: Path) -> Path:
    """Compile `source` with the machine's C compiler; BuildError if there is none, or it fails."""
    compiler = os.environ.get("CC") or next(filter(shutil.which, ("cc", "gcc", "clang")), None)
    if compiler is None:
        raise BuildError(
            "there is no C compiler (cc, gcc or clang) to build it with; install one and start "
            "Folio again to see word statistics"
        )
    command = [*compiler.split(), *FLAGS, f"-I{get_include()}", "-o", str(library), str(source)]
    try:
        done = subprocess.run(
            command, capture_output=True, errors="replace", timeout=PATIENCE, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(f"the C compiler {compiler!r} does not work: {error}") from error
    if done.returncode:
        raise BuildError(f"{compiler} could not compile {source.name}:\n{done.stderr.strip()}")
    return library
