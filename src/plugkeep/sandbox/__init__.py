"""Plugins in processes of their own. A sandbox is itself a plugin, so a registry never knows."""

from plugkeep.sandbox._life import Phase as Phase
from plugkeep.sandbox.exec import ExecSandbox as ExecSandbox
from plugkeep.sandbox.sandbox import Sandbox as Sandbox

__all__ = ["ExecSandbox", "Phase", "Sandbox"]
