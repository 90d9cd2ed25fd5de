"""What a plugin is given before its start: its configuration, and the way to its host."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from plugkeep.errors import ConfigError

if TYPE_CHECKING:
    from plugkeep.runner.runner import Runner


def give(runner: Runner, given: dict[str, Any]) -> None:
    """Set what the plugin asks for by its annotations; `given` is what the host has sent.

    Raises ConfigError with all that does not fit.
    """
    plugin = runner.plugin
    granted = given.get("host") or []
    if not isinstance(granted, list) or not all(isinstance(name, str) for name in granted):
        raise TypeError(f"host is {granted!r:.200}, not an array of texts")
    if _asks_for(plugin, "host") or _asks_for(plugin, "required"):
        _give_access(runner, granted)
    config = given.get("config")
    if config or _asks_for(plugin, "config"):
        _configure(plugin, config or {}, runner.base)


def _asks_for(plugin: object, attribute: str) -> bool:
    return any(
        attribute in vars(owner).get("__annotations__", {}) for owner in type(plugin).__mro__
    )


def _give_access(runner: Runner, granted: list[str]) -> None:
    from plugkeep.channel.access import Granted
    from plugkeep.runner._host import host_access

    plugin: Any = runner.plugin
    host = host_access(runner.channel, tuple(granted))
    if _asks_for(plugin, "host"):
        plugin.host = host
    if _asks_for(plugin, "required"):
        plugin.required = Granted(plugin.name, host)


def _configure(plugin: object, config: object, base: str | None) -> None:
    from plugkeep.config.typed import set_config
    from plugkeep.spec import PluginSpec

    if not isinstance(config, dict):
        raise ConfigError(f"config is {config!r:.200}, not a table")
    # Of the specification only these two are looked at; the name is the host's affair.
    spec = PluginSpec(name="plugin", source="-", config=config, base=base)
    if misfits := set_config(plugin, spec):
        problems = tuple(f"{'.'.join(('config', *key))}: {text}" for key, text in misfits)
        raise ConfigError("; ".join(problems), problems=problems)
