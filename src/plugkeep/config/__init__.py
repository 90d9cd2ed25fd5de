"""Configuration: one TOML file for one host, read whole or rejected whole."""

from plugkeep.config.model import HostConfig, Problem
from plugkeep.config.reading import examine, read_config

__all__ = ["HostConfig", "Problem", "examine", "read_config"]
