"""The command line: ``plugkeep``, or ``python -m plugkeep``. Needs the extra ``plugkeep[cli]``."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command that the process's arguments name, and exit with its status."""
    try:
        status = _run()
    except KeyboardInterrupt:  # while modules are imported, or at the very end
        status = 130
    sys.exit(status)


def _run() -> int:
    try:
        from plugkeep.cli._app import invoke
    except ModuleNotFoundError as error:
        if error.name not in ("click", "rich"):
            raise
        return _missing(error.name)
    return invoke(sys.argv[1:])


def _missing(package: str) -> int:
    sys.stderr.write(
        f"plugkeep: the command line needs {package}, which is not installed; "
        f"install it with: pip install 'plugkeep[cli]'\n"
    )
    return 2
