"""For the tests of plugins and of hosts: a plugin for every fault, and suites of the contract.

It is no dependency of anything: tests import it, with pytest or without. What it has is imported
on first use (PEP 562), for a faulty plugin in a process of its own needs no suites.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from plugkeep.testing.contract import ContractError as ContractError
    from plugkeep.testing.contract import Rule as Rule
    from plugkeep.testing.contract import Violation as Violation
    from plugkeep.testing.faulty import Faulty as Faulty
    from plugkeep.testing.faulty import Misconduct as Misconduct
    from plugkeep.testing.faulty import faulty_program as faulty_program
    from plugkeep.testing.plugin_suite import PLUGIN_RULES as PLUGIN_RULES
    from plugkeep.testing.plugin_suite import check_plugin as check_plugin
    from plugkeep.testing.program.deeds import FaultError as FaultError
    from plugkeep.testing.program.table import Fault as Fault
    from plugkeep.testing.program.table import faults as faults
    from plugkeep.testing.wire_suite import WIRE_RULES as WIRE_RULES
    from plugkeep.testing.wire_suite import check_wire as check_wire

_HOMES = {
    "contract": ("ContractError", "Rule", "Violation"),
    "faulty": ("Faulty", "Misconduct", "faulty_program"),
    "plugin_suite": ("PLUGIN_RULES", "check_plugin"),
    "program.deeds": ("FaultError",),
    "program.table": ("Fault", "faults"),
    "wire_suite": ("WIRE_RULES", "check_wire"),
}
_home_of = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [*_home_of]  # pyright: ignore[reportUnsupportedDunderAll]


def _look_up(name: str) -> object:
    from importlib import import_module

    if name not in _home_of:
        raise AttributeError(f"module 'plugkeep.testing' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_home_of[name]}"), name)
    return value


if not TYPE_CHECKING:  # to a type checker it would mean that every name exists
    __getattr__ = _look_up


def __dir__() -> list[str]:
    return sorted(__all__)
