"""What is printed, and where. Plain text unless stdout is a terminal."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from typing import TYPE_CHECKING, Any, TextIO

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from plugkeep.errors import SandboxError

if TYPE_CHECKING:
    import logging
    from collections.abc import Iterable, Iterator, Sequence

#: Characters that steer a terminal, other than tabs and line ends, or that turn text around.
_steering = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


class _Ours:
    """The stream that our own output goes to."""

    claimed: TextIO | None = None
    #: Whether the command goes on until a signal comes.
    endless = False
    #: Whether the command is for something else, and goes on where it cannot print.
    incidental = False
    #: Whether what is logged is shown.
    logs = False

    @property
    def stream(self) -> TextIO:
        return self.claimed or sys.stdout


_ours = _Ours()


def claim_stdout() -> None:
    """Keep stdout for our own output: what else is printed, by plugins, goes to stderr.

    By the descriptor, for libraries in other languages print as well.
    """
    sys.stdout.flush()
    stream = os.fdopen(os.dup(1), "w", encoding=sys.stdout.encoding, errors="backslashreplace")
    _ours.claimed = stream
    os.dup2(2, 1)


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Not what rich does, which is to exit on the spot: plugins may have to be stopped."""
        nobody_reads()


def prepare() -> None:
    """Have nothing fail to print: not what an encoding lacks, nor where a stream is closed."""
    # In this order, so that each gets the number of the descriptor that is missing.
    sys.stdout = sys.stdout or _nowhere()
    sys.stderr = sys.stderr or _nowhere()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _nowhere() -> TextIO:
    return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123  (for good)


def finish() -> None:
    """Give out what has been printed; what cannot be is no reason for another exit status."""
    for stream in (_ours.stream, sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            _silence(stream)


def _silence(stream: TextIO) -> None:
    """Let a stream lead to nowhere from now on."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def nobody_reads() -> None:
    """Go on in silence, and end what would go on for ever."""
    _silence(_ours.stream)
    if _ours.endless:
        os.kill(os.getpid(), signal.SIGTERM)


def cannot_print(error: OSError) -> None:
    """Say so, and go on in silence."""
    _silence(_ours.stream)
    show_error(f"cannot print any more: {error.strerror}")


@contextmanager
def _printing() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        nobody_reads()
    except OSError as error:
        cannot_print(error)
        if not _ours.incidental:
            raise click.exceptions.Exit(1) from error


def endless(*, until_signal: bool) -> None:
    """Say whether this command goes on until a signal comes."""
    _ours.endless = until_signal


def incidental() -> None:
    """Say that this command is for something else than what it prints."""
    _ours.incidental = True


def log_to_stderr(level: str) -> None:
    """Show what is logged, above all what plugins print, as ``NAME: MESSAGE``."""
    import logging

    class Printable(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            return printable(super().format(record))

    handler = logging.StreamHandler()
    handler.addFilter(_name_plugins)
    handler.setFormatter(Printable("%(name)s: %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler])
    _ours.logs = True


def _name_plugins(record: logging.LogRecord) -> bool:
    record.name = record.name.removeprefix("plugkeep.plugin.")
    return True


def console(file: TextIO | None = None) -> Console:
    """Return what prints styled text to stdout; no colour under NO_COLOR or into a pipe."""
    return _Console(file=file or _ours.stream, highlight=False, markup=False, soft_wrap=True)


def printable(text: str) -> str:
    """Return `text` with what would steer a terminal written out; JSON remains what it was."""
    return _steering.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def write(text: str) -> None:
    """Print text."""
    with _printing():
        _ours.stream.write(printable(text))
        _ours.stream.flush()


def show(line: Text) -> None:
    """Print a line, styled where that can be seen."""
    out = console()
    if out.is_terminal:
        plain = printable(line.plain)
        with _printing():
            out.print(line if plain == line.plain else Text(plain))
    else:  # without rich, which would print a line again when a signal comes while it does
        write(f"{line.plain}\n")


def as_json(value: Any, *, indent: int | None = 2) -> str:
    """Return a value as JSON, with a line end after it."""
    return json.dumps(value, indent=indent, ensure_ascii=False, default=str) + "\n"


def show_json(value: Any, *, indent: int | None = 2) -> None:
    """Print a value as JSON."""
    write(as_json(value, indent=indent))


def in_brief(error: BaseException | str | None) -> str:
    """Return the text of an error, without what a process of it has printed.

    All of that is in the log already, but for the last line, which says the most. Where the log
    is not shown, the text is as it was.
    """
    process = _with_stderr(error)
    if process is None or not _shows_stderr_of(process.plugin):
        return str(error)
    from plugkeep.sandbox._output import with_tail

    last = f"; its stderr, see the log, ends with: {process.stderr[-1].strip()}"
    return str(error).replace(with_tail("", process.stderr), last)


def _with_stderr(error: object) -> SandboxError | None:
    """Return what an error comes from, if that is a process which has said something."""
    while isinstance(error, BaseException):
        if isinstance(error, SandboxError) and error.stderr:
            return error
        error = error.__cause__
    return None


def _shows_stderr_of(plugin: str | None) -> bool:
    import logging

    logger = logging.getLogger(f"plugkeep.plugin.{plugin}")
    return _ours.logs and logger.isEnabledFor(logging.WARNING)


def show_error(error: BaseException | str) -> None:
    """Print an error on stderr, and its notes."""
    lines = "\n".join((in_brief(error), *getattr(error, "__notes__", ())))
    with suppress(OSError):
        console(sys.stderr).print(Text("Error: ", style="bold red") + Text(printable(lines)))


def show_table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table: fitted to a terminal, else in columns that nothing is cut from."""
    rows = [tuple(map(printable, row)) for row in rows]
    out = console()
    if out.is_terminal:
        table = Table(*headers, box=None, header_style="bold", pad_edge=False)
        for row in rows:
            table.add_row(*map(Text, row))
        with _printing():
            out.print(table, soft_wrap=False)
        return
    widths = [max(map(len, column)) for column in zip(headers, *rows, strict=True)]
    for row in (headers, *rows):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        write("  ".join(cells).rstrip() + "\n")
