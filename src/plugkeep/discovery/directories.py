"""Plugins in folders of their own, each with a manifest, found without running any."""

from __future__ import annotations

import os
from pathlib import Path

from plugkeep.discovery._manifest import MANIFEST, Problem, read_manifest
from plugkeep.errors import ConfigError, ConfigNotFoundError
from plugkeep.spec import PluginSpec


def discover_directory(path: str | os.PathLike[str]) -> list[PluginSpec]:
    """Return a spec for each folder directly in `path` that has a ``plugin.toml``.

    The order is that of the folders' names; folders whose name begins with a dot are passed over.
    Relative paths in a plugin's source start from its own folder, and must not lead out of it.
    Nothing of a plugin is run.

    Raises ConfigNotFoundError where `path` is no folder, and ConfigError, listing every problem
    of every manifest, where one does not fit.
    """
    directory = Path(path)
    problems: list[Problem] = []
    specs: dict[str, PluginSpec] = {}
    for manifest in _manifests(directory):
        spec = read_manifest(manifest, problems)
        if spec is None:
            continue
        first = specs.setdefault(spec.name, spec)
        if first is not spec:
            problems.append(f"{manifest}: name: {spec.name!r} is taken by {first.origin}")
    if problems:
        raise ConfigError(_message(directory, problems), path=str(path), problems=tuple(problems))
    return list(specs.values())


def _manifests(directory: Path) -> list[Path]:
    try:
        names = sorted(folder.name for folder in directory.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        found = "is not a folder" if directory.exists() else "does not exist"
        raise ConfigNotFoundError(
            f"{str(directory)!r} {found}; plugins are looked for in a folder of folders, "
            f"each with a {MANIFEST}",
            path=str(directory),
        ) from None
    except OSError as error:
        reason = error.strerror
        raise ConfigError(f"{directory} cannot be read: {reason}", path=str(directory)) from error
    manifests = (directory / name / MANIFEST for name in names if not name.startswith("."))
    return [manifest for manifest in manifests if os.path.lexists(manifest)]


def _message(directory: Path, problems: list[Problem]) -> str:
    if len(problems) == 1:
        return problems[0]
    return "\n  ".join((f"{len(problems)} problems with the plugins in {directory}:", *problems))
