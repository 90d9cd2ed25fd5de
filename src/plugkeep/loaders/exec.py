"""``exec:PROGRAM [ARGUMENTS]``: a program, run as a plugin by an `ExecSandbox`."""

from __future__ import annotations

import os
import shlex
from functools import partial
from typing import TYPE_CHECKING, Any

from plugkeep.errors import InvalidSourceError
from plugkeep.loaders._factory import LoadedFactory
from plugkeep.loaders._files import check_file
from plugkeep.sandbox import ExecSandbox

if TYPE_CHECKING:
    from plugkeep.loaders._source import Source


def load(source: Source) -> LoadedFactory:
    """Return a factory of sandboxes for the program that `source` names.

    A bare name is looked for on ``PATH`` when a sandbox starts, for its ``PATH`` may be another.
    """
    program, *arguments = check(source)
    return LoadedFactory(source, partial(ExecSandbox, program, *arguments, **_options(source)))


def check(source: Source) -> list[str]:
    """Return the program and its arguments; raise unless it is there, where a path says where."""
    program, *arguments = _words(source)
    if "/" in program:
        path = source.path(program)
        check_file(path, source.text, os.X_OK)
        program = str(path)
    return [program, *arguments]


def _words(source: Source) -> list[str]:
    try:
        words = shlex.split(source.rest)
    except ValueError as error:
        raise InvalidSourceError(
            f"source {source.text!r} cannot be split into words as a shell does: {error}",
            source=source.text,
        ) from error
    if not words or not words[0]:
        raise InvalidSourceError(f"source {source.text!r} names no program", source=source.text)
    return words


def _options(source: Source) -> dict[str, Any]:
    """Return what the spec says about the sandbox; what it leaves open the sandbox decides."""
    options = {
        field: getattr(source.spec, field, None)
        for field in ("name", "start_timeout", "stop_timeout")
    }
    return {field: value for field, value in options.items() if value is not None}
