"""What the commands have in common: the group they are in, their parameters, their errors."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from plugkeep._version import __version__
from plugkeep.cli._output import cannot_print, finish, prepare, show_error, show_json
from plugkeep.errors import ConfigError, PluginError, RequirementError

if TYPE_CHECKING:
    from plugkeep.config import HostConfig
    from plugkeep.host import Host

_COMMANDS = ("run", "check", "list", "call", "graph")

#: Exit statuses; 0 is good.
FAILED = 1
MISFIT = 2
INTERRUPTED = 130

Command = TypeVar("Command", bound=Callable[..., Any])


class _Group(click.Group):
    """Imports a command when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = import_module(f"plugkeep.cli.{cmd_name}").command
        return command


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="plugkeep")
def app() -> None:
    """Run, check and look at a host and its plugins.

    A host is described by a file, ./plugkeep.toml unless another is given.

    Exit status: 0 all is well; 1 a plugin failed; 2 the command line or the configuration does
    not fit; 130 interrupted (which for "run" is the ordinary end, and 0).
    """


def invoke(args: Sequence[str]) -> int:
    """Run the command that `args` name, show what is wrong with them, return the exit status."""
    prepare()
    options = args[: args.index("--")] if "--" in args else args
    try:
        return _invoke(args, as_json="--json" in options)
    finally:
        finish()


def _invoke(args: Sequence[str], *, as_json: bool) -> int:
    try:
        return app.main(args, prog_name="plugkeep", standalone_mode=False) or 0
    except click.ClickException as error:
        if as_json:
            _show_json_error(type(error).__name__, error.format_message())
        else:
            error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        if as_json:
            _show_json_error(*_INTERRUPTION)
        return INTERRUPTED
    except OSError as error:  # from click, which prints help by itself
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
            raise
        cannot_print(error)
        return FAILED


_INTERRUPTION = ("KeyboardInterrupt", "interrupted")


def _show_json_error(kind: str, message: str) -> None:
    show_json({"error": {"type": kind, "message": message, "plugin": None}}, indent=None)


def examples(*lines: str) -> str:
    """Return the end of a command's help: lines that can be typed as they are."""
    return "\n".join(("\b", "Examples:", *(f"  {line}" for line in lines)))  # \b: as it is


def file_argument(function: Command) -> Command:
    """Give a command its parameter FILE."""
    return click.argument("file", default="plugkeep.toml", type=click.Path(), metavar="[FILE]")(
        function
    )


def json_option(function: Command) -> Command:
    """Give a command its option --json."""
    return click.option(
        "--json", "as_json", is_flag=True, help="Print JSON, for programs; errors, too."
    )(function)


@contextmanager
def reporting(*, as_json: bool = False) -> Iterator[None]:
    """Show what plugkeep raises, and turn it into an exit status."""
    try:
        yield
    except PluginError as error:
        if as_json:
            show_json({"error": describe(error)}, indent=None)
        else:
            show_error(error)
        misfit = isinstance(error, (ConfigError, RequirementError))
        raise click.exceptions.Exit(MISFIT if misfit else FAILED) from None
    except KeyboardInterrupt:
        if as_json:
            _show_json_error(*_INTERRUPTION)
        raise click.exceptions.Exit(INTERRUPTED) from None


def load_host(config: HostConfig) -> Host:
    """Return the host of a configuration; its plugins may import what stands beside the file."""
    from plugkeep.host import Host

    import_from_beside(config)
    return Host.from_config(config)


def import_from_beside(config: HostConfig) -> None:
    """Let modules be imported from the folder of the file, as ``python FILE`` does with its own.

    Once the file has been read: what it finds must not depend on whether plugins are loaded.
    """
    sys.path.insert(0, str(Path(config.path).absolute().parent))


def describe(error: BaseException | None) -> dict[str, Any] | None:
    """Return an error as it is written in JSON."""
    if error is None:
        return None
    shown: dict[str, Any] = {
        "type": type(error).__name__,
        "message": str(error),
        "plugin": getattr(error, "plugin", None),
    }
    if isinstance(error, ConfigError):
        shown["problems"] = list(error.problems)
    return shown
