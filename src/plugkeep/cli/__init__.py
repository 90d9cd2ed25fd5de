"""The command line: ``plugkeep``, or ``python -m plugkeep``. Needs the extra ``plugkeep[cli]``."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command that the process's arguments name, and exit with its status."""
    try:
        from plugkeep.cli._app import app
    except ModuleNotFoundError as error:
        if error.name not in ("click", "rich"):
            raise
        sys.exit(_missing(error.name))
    app(prog_name="plugkeep")


def _missing(package: str) -> int:
    sys.stderr.write(
        f"plugkeep: the command line needs {package}, which is not installed; "
        f"install it with: pip install 'plugkeep[cli]'\n"
    )
    return 2
