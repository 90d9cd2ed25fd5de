"""The registry and what it is made of."""

from plugkeep.registry.registry import Registry as Registry

__all__ = ["Registry"]
