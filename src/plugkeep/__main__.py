"""``python -m plugkeep`` is the command line."""

from plugkeep.cli import main

main()
