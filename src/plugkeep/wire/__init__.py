"""What is said between host and plugin. Pure: bytes in, verdicts out; no sockets, no clocks."""
