"""plugkeep: a plugin runtime. It loads, orders, starts, isolates, calls and stops plugins.

Everything public is importable from here and comes from the module that the table below names,
on first use: importing plugkeep itself imports next to nothing (PEP 562).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from plugkeep._version import __version__ as __version__

if TYPE_CHECKING:
    from plugkeep.current import CurrentCall as CurrentCall
    from plugkeep.current import current_call as current_call
    from plugkeep.discovery import discover_directory as discover_directory
    from plugkeep.discovery import discover_entry_points as discover_entry_points
    from plugkeep.errors import *  # noqa: F403
    from plugkeep.factories import FactoryRegistry as FactoryRegistry
    from plugkeep.health import Watchdog as Watchdog
    from plugkeep.host import Host as Host
    from plugkeep.lifecycle import State as State
    from plugkeep.loaders import get_include as get_include
    from plugkeep.loaders import load as load
    from plugkeep.loaders import load_so as load_so
    from plugkeep.loaders.isolation import isolate as isolate
    from plugkeep.loaders.native import NativePlugin as NativePlugin
    from plugkeep.plugin import ApplicationProvider as ApplicationProvider
    from plugkeep.plugin import Configurable as Configurable
    from plugkeep.plugin import Dependent as Dependent
    from plugkeep.plugin import Factory as Factory
    from plugkeep.plugin import HealthReporter as HealthReporter
    from plugkeep.plugin import Plugin as Plugin
    from plugkeep.plugin import Requiring as Requiring
    from plugkeep.plugin import RouteProvider as RouteProvider
    from plugkeep.plugin import expose as expose
    from plugkeep.registry import Registry as Registry
    from plugkeep.restart import RestartPolicy as RestartPolicy
    from plugkeep.routing import Route as Route
    from plugkeep.routing import RouteTable as RouteTable
    from plugkeep.routing import follow_routes as follow_routes
    from plugkeep.routing import register_route_providers as register_route_providers
    from plugkeep.runner import serve as serve
    from plugkeep.sandbox import ExecSandbox as ExecSandbox
    from plugkeep.sandbox import Sandbox as Sandbox
    from plugkeep.sandbox.preimports import preimport as preimport
    from plugkeep.spec import PluginSpec as PluginSpec

_HOMES = {
    "current": ("CurrentCall", "current_call"),
    "discovery": ("discover_directory", "discover_entry_points"),
    "factories": ("FactoryRegistry",),
    "health": ("Watchdog",),
    "host": ("Host",),
    "lifecycle": ("State",),
    "loaders": ("get_include", "load", "load_so"),
    "loaders.isolation": ("isolate",),
    "loaders.native": ("NativePlugin",),
    "plugin": (
        "ApplicationProvider",
        "Configurable",
        "Dependent",
        "Factory",
        "HealthReporter",
        "Plugin",
        "Requiring",
        "RouteProvider",
        "expose",
    ),
    "registry": ("Registry",),
    "restart": ("RestartPolicy",),
    "routing": ("Route", "RouteTable", "follow_routes", "register_route_providers"),
    "runner": ("serve",),
    "sandbox": ("ExecSandbox", "Sandbox"),
    "sandbox.preimports": ("preimport",),
    "spec": ("PluginSpec",),
}
_home_of = {name: home for home, names in _HOMES.items() for name in names}

__all__ = ["__version__", *_home_of]  # pyright: ignore[reportUnsupportedDunderAll]


def _look_up(name: str) -> object:
    # Errors are many: all of them are here, too, without being listed twice.
    from importlib import import_module

    if name.endswith("Error") and name in _error_names():
        return getattr(import_module("plugkeep.errors"), name)
    if name not in _home_of:
        raise AttributeError(f"module 'plugkeep' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"plugkeep.{_home_of[name]}"), name)
    return value


if not TYPE_CHECKING:  # to a type checker it would mean that every name exists
    __getattr__ = _look_up


def _error_names() -> list[str]:
    from plugkeep import errors

    return [name for name in vars(errors) if name.endswith("Error")]


def __dir__() -> list[str]:
    return sorted({*__all__, *_error_names()})
