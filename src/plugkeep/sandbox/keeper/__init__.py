"""The keeper: the small process that is the parent of all that a host runs beside itself.

`_main` is what runs in it, on its own; all else here is the host's side.
"""
