"""Moves what the wire says between descriptors and whoever waits for it; both ends use it."""
