"""Serving a plugin from a process: from the command line, and from an author's own script."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from plugkeep.creation import create, describe
from plugkeep.errors import LoadError, NoPluginError, PluginError
from plugkeep.plugin import Plugin, is_plugin, lacks
from plugkeep.runner._wire import open_wire

#: Exit statuses, other than 0: the plugin failed to start or stop, or was never there.
FAILED = 1


def serve(plugin: Plugin | Callable[[], Plugin]) -> NoReturn:
    """Serve `plugin` to the host that started this process; exit when it has been stopped.

    `plugin` may also be what makes one: a class, or a function without arguments. To be called on
    the main thread, at the end of a script of the author's own:

        if __name__ == "__main__":
            plugkeep.serve(Clock())

    The process exits with 0 when the plugin was stopped, also by SIGTERM; with 1 when it could
    not be made, or its start or stop failed and nobody but stderr could be told. Started by hand
    it obeys Ctrl-C.
    """

    def make() -> Plugin:
        if is_plugin(plugin):
            return plugin  # type: ignore[return-value]
        if not callable(plugin):
            lack = lacks(plugin)
            raise NoPluginError(
                f"plugkeep.serve was given {describe(plugin)}, which is no plugin: {lack}",
                source=sys.argv[0],
            )
        return create(plugin, source=sys.argv[0])

    serve_made_by(make)


def serve_made_by(
    make: Callable[[], Plugin], *, name: str | None = None, base: str | None = None
) -> NoReturn:
    """Do what `serve` does for the plugin that `make` makes.

    `name` is said to the host instead of the plugin's own; relative paths in its configuration
    start from `base`.
    """
    wire = open_wire()
    from plugkeep.runner._life import StartFailed
    from plugkeep.runner._output import Output
    from plugkeep.runner.runner import Runner

    output = Output(wire.level)
    output.capture()
    try:
        plugin = _made_or_told_why(make) if wire.is_rehearsal else make()
        runner = Runner(plugin, wire, output, name=name, base=base)
        runner.life.is_rehearsal = wire.is_rehearsal and not isinstance(plugin, _Unmade)
        for number in wire.signals:
            signal.signal(number, runner.terminate)
        if wire.is_by_hand:
            _greet(runner.name)
        status = runner.run()
    except StartFailed as failure:
        output.give_up()
        _fail(f"the plugin failed to start: {_told(failure.__cause__)}")
    except PluginError as error:
        output.give_up()
        _show_origin(error)
        _fail(str(error))
    for number in wire.signals:
        signal.signal(number, signal.SIG_DFL)
    sys.exit(status)


class _Unmade:
    """Stands for a plugin that cannot be made: where the host asks for its start, it hears why."""

    name = "unmade"
    #: Any fits, for something else is wrong.
    config: Any = None

    def __init__(self, error: PluginError) -> None:
        self._error = error

    def start(self) -> None:
        raise self._error

    def stop(self) -> None: ...


def _made_or_told_why(make: Callable[[], Plugin]) -> Plugin:
    """Return what `make` makes, or what tells the host in its own words why there is nothing.

    In a rehearsal that is all the host is after, and what is written to stderr is for people.
    """
    try:
        return make()
    except PluginError as error:
        return _Unmade(error)


def _greet(name: str) -> None:
    print(
        f"plugkeep: plugin {name!r} runs by hand, without a host: it starts now, and "
        'stops when you type {"cmd":"stop"}, or with Ctrl-D or Ctrl-C',
        file=sys.stderr,
    )


def _fail(message: str) -> NoReturn:
    print(f"plugkeep: {message}", file=sys.stderr)
    sys.exit(FAILED)


def _show_origin(error: PluginError) -> None:
    """Print the traceback of what the plugin's own code raised, before what `error` says.

    For what a process says last is what its host quotes.
    """
    if isinstance(error, LoadError) and error.__cause__ is not None:
        print(_told(error.__cause__), file=sys.stderr)


def _told(error: BaseException | None) -> str:
    from plugkeep.channel.failures import raised

    if error is None:
        return "no reason is known"
    return str(raised(error).data["traceback"]).rstrip() or repr(error)
