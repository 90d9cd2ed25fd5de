"""``python -m plugkeep.runner SOURCE``: serve a plugin to the host that started this process."""

from __future__ import annotations

import sys

from plugkeep.runner.serving import serve_made_by


def main() -> None:
    """Serve the plugin that the command line names."""
    from plugkeep.loaders import load

    serve_made_by(lambda: load(sys.argv[1])())


if __name__ == "__main__":
    main()
