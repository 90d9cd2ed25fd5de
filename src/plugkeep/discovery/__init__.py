"""Finding plugins without importing them: entry points and folders become `PluginSpec`s."""

from __future__ import annotations

from plugkeep.discovery.directories import discover_directory
from plugkeep.discovery.entry_points import GROUP, discover_entry_points

__all__ = ["GROUP", "discover_directory", "discover_entry_points"]
