"""The host: a registry filled from configuration, and what runs it."""

from plugkeep.host.host import Host as Host
