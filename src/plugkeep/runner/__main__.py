"""``python -m plugkeep.runner SOURCE``: serve a plugin to the host that started this process."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from plugkeep.runner.serving import serve_made_by

USAGE = """\
usage: python -m plugkeep.runner [--name NAME] [--base FOLDER] [--path FOLDERS] SOURCE

Serves the plugin that SOURCE names to the host that started this process. It speaks the highest
level of the wire that the host offers; by hand, or where the host offers none, it starts the
plugin at once, says {"ready": true} and stops when it reads {"cmd":"stop"}.

  SOURCE         any source that plugkeep.load takes
  --name NAME    what the plugin is called towards the host, instead of its own name
  --base FOLDER  relative paths start here; without --path Python imports from here, too
  --path FOLDERS where Python imports from, before anything else; separated as in PATH

examples:
  python -m plugkeep.runner file:./clock.py
  python -m plugkeep.runner --base /srv/shop python:shop.reco:PluginFactory
  echo '{"cmd":"stop"}' | python -m plugkeep.runner file:./clock.py
"""

#: Between a host and this module, and not for people: be the process of which others are forks.
ZYGOTE = "--zygote"


def main(arguments: list[str]) -> NoReturn:
    """Serve the plugin that the command line names."""
    if arguments == [ZYGOTE]:
        from plugkeep.runner.zygote import await_turn

        arguments = await_turn()  # it returns in a fork of this process
    given: dict[str, str] = {}
    rest = iter(arguments)
    for word in rest:
        option, has_value, value = word.partition("=")
        if word in ("-h", "--help"):
            print(USAGE, end="")
            sys.exit(0)
        elif option in ("--name", "--base", "--path"):
            given[option[2:]] = value if has_value else next(rest, "")
            if not given[option[2:]]:
                _misused(f"{option} needs a value")
        elif word.startswith("-") or "source" in given:
            _misused(f"{word!r} is not understood")
        else:
            given["source"] = word
    if "source" not in given:
        _misused("no source is given")
    _serve(given["source"], given.get("name"), given.get("base"), given.get("path"))


def _serve(source: str, name: str | None, base: str | None, path: str | None) -> NoReturn:
    sys.argv = [source]
    first = path.split(os.pathsep) if path is not None else [base] if base is not None else []
    sys.path[:] = [*first, *(each for each in sys.path if each not in first)]

    def make():  # type: ignore[no-untyped-def]
        from plugkeep.loaders import load

        return load(source, base=base)()

    serve_made_by(make, name=name, base=base)


def _misused(problem: str) -> NoReturn:
    print(f"plugkeep.runner: {problem}\n\n{USAGE}", end="", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main(sys.argv[1:])
