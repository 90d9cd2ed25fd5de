"""``plugkeep call``: one call of one method of one plugin."""

from __future__ import annotations

import json
import re
from typing import Any

import click

from plugkeep.cli._app import examples, json_option, load_host, reporting
from plugkeep.cli._late import ignoring_late_signals
from plugkeep.cli._output import claim_stdout, log_to_stderr, write
from plugkeep.errors import (
    CallError,
    MethodNotFoundError,
    PluginError,
    PluginNotFoundError,
    did_you_mean,
)
from plugkeep.plugin import Plugin

_named = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL).fullmatch


@click.command(
    short_help="Call a method of a plugin.",
    epilog=examples(
        "plugkeep call plugkeep.toml clock now",
        'plugkeep call plugkeep.toml clock add 1.5 \'{"unit": "h"}\'',
        "plugkeep call plugkeep.toml clock format style=short utc=true",
    ),
    context_settings={"ignore_unknown_options": True},
)
@json_option
@click.argument("file", type=click.Path())
@click.argument("plugin")
@click.argument("method")
@click.argument("args", nargs=-1)
def command(file: str, plugin: str, method: str, args: tuple[str, ...], *, as_json: bool) -> None:
    """Start PLUGIN and what it requires, call METHOD, print the result as JSON, stop all.

    Each of ARGS is JSON, or text that is taken as it is; KEY=VALUE passes it by name. Text that
    looks like either is passed in quotes of its own: '"a=b"'.

    In the result bytes are texts in base64, arrays are lists within lists, and Arrow tables are
    lists of objects. Dates are texts, and so is what JSON has nothing like.

    Exit status: 0 it returned; 1 it raised, or a plugin failed; 2 the command line or the
    configuration does not fit.
    """
    claim_stdout()
    log_to_stderr("WARNING")
    with reporting(as_json=as_json):
        _call(file, plugin, method, args)


def _call(file: str, name: str, method: str, args: tuple[str, ...]) -> None:
    from plugkeep.config import read_config
    from plugkeep.host.running import started

    registry = load_host(read_config(file)).registry
    if name not in registry:
        raise PluginNotFoundError(
            f"{file} has no plugin {name!r}{did_you_mean(name, registry)}", plugin=name
        )
    positional = [_value(arg) for arg in args if not _named(arg)]
    named = {match[1]: _value(match[2]) for match in map(_named, args) if match}
    with ignoring_late_signals(registry), started(registry, name) as driver:
        function = _method(registry[name], name, method)
        try:
            result = _encode(driver.call(function, *positional, **named))
        except PluginError:
            raise
        except (Exception, SystemExit) as error:
            raise CallError(
                f"{method}() of plugin {name!r} raised {type(error).__name__}: {error}",
                plugin=name,
            ) from error
        write(f"{result}\n")


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _method(plugin: Plugin, name: str, method: str) -> Any:
    """Return what is to be called: a public method that is no part of the plugin's life."""
    from functools import partial

    from plugkeep.loaders.native import NativePlugin
    from plugkeep.sandbox import Sandbox

    if isinstance(plugin, NativePlugin):
        return partial(plugin.call, method)
    if isinstance(plugin, Sandbox):
        announced = (plugin.methods or {}).get(method)
        if announced is None or not announced.stream:
            return partial(plugin.call, method)
        return lambda *args, **named: list(plugin.stream(method, *args, **named))
    there_are = [each for each in dir(plugin) if _is_public(plugin, each)]
    if method not in there_are:
        hint = did_you_mean(method, there_are) or f"; there are: {', '.join(there_are) or 'none'}"
        raise MethodNotFoundError(
            f"plugin {name!r} has no public method {method!r}{hint}", plugin=name
        )
    return getattr(plugin, method)


def _is_public(plugin: Plugin, name: str) -> bool:
    if name.startswith("_") or name in ("start", "stop"):
        return False
    # Properties are not asked: that would run code of the plugin's which nobody wanted to run.
    found = getattr(type(plugin), name, None) or getattr(plugin, "__dict__", {}).get(name)
    return callable(found) and not isinstance(found, type)


def _encode(result: object) -> str:
    import msgspec

    try:
        plain = msgspec.to_builtins(result, str_keys=True, enc_hook=_plainer)
        return json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise CallError(f"the result cannot be written as JSON: {error}") from error


def _plainer(value: object) -> object:
    """Return what JSON has in the place of a value that it has not."""
    for name in ("tolist", "to_pylist"):  # of NumPy, and of Arrow
        convert = getattr(type(value), name, None)
        # Numbers that Python has none as precise as are left what they were.
        if convert is not None and type(plain := convert(value)) is not type(value):
            return plain
    return repr(value)
