"""What runs in the keeper's own process; the host's side of it is `plugkeep.sandbox.keeper`.

A host waits for it before its first plugin: of the standard library only what costs little is
imported here, and nothing of other rooms.
"""
