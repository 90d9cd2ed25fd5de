"""What a source text says, before anything is looked for."""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from plugkeep.creation import describe
from plugkeep.errors import InvalidSourceError, did_you_mean
from plugkeep.loaders._files import near_files
from plugkeep.spec import PluginSpec

#: The kinds of source, each with the form that its text has.
FORMS = {
    "python": "python:MODULE[:ATTRIBUTE]",
    "file": "file:PATH[:ATTRIBUTE]",
    "entry-point": "entry-point:GROUP/NAME",
    "so": "so:PATH",
    "exec": "exec:PROGRAM [ARGUMENTS]",
}

#: What a bare path is, by its name.
_KIND_OF_NAME = (
    (re.compile(r"\.py$"), "file"),
    (re.compile(r"\.(so(\.\d+)*|pyd|dylib)$"), "so"),
    (re.compile(r"\.wasm$"), "wasm"),
)

_kind_and_rest = re.compile(r"([A-Za-z][\w-]*):(.*)", re.DOTALL).fullmatch


@dataclass(frozen=True, slots=True)
class Source:
    """A source text taken apart."""

    #: As it was given, for errors.
    text: str
    kind: str
    #: What follows the kind and its colon.
    rest: str
    #: The folder that relative paths start from; "" is the current one.
    base: str = ""
    spec: PluginSpec | None = None

    @classmethod
    def parse(
        cls, given: str | os.PathLike[str] | PluginSpec, base: str | os.PathLike[str] | None = None
    ) -> Self:
        """Take `given` apart; InvalidSourceError where it is none of the known forms."""
        spec = given if isinstance(given, PluginSpec) else None
        text = _text(spec.source if spec else given)
        folder = os.fspath((spec.base if spec else None) or base or "")
        match = None if isinstance(given, os.PathLike) else _kind_and_rest(text)
        if match is None:
            kind, rest = _bare_path(cls(text, "", text, folder))
        else:
            kind, rest = match.groups()
        _check_kind(text, kind, rest)
        return cls(text, kind, rest, folder, spec)

    @classmethod
    def of_path(cls, kind: str, path: str | os.PathLike[str]) -> Self:
        """Return the source of that kind at `path`."""
        text = _text(path)
        _check_kind(text, kind, text)
        return cls(text, kind, text)

    @property
    def plugin(self) -> str | None:
        """The plugin's name, where the source came with one."""
        return self.spec.name if self.spec else None

    def path(self, relative: str) -> Path:
        """Return `relative` as an absolute path, from `base`."""
        try:
            return Path(self.base).expanduser().absolute() / Path(relative).expanduser()
        except RuntimeError as error:  # ~nobody
            raise InvalidSourceError(f"source {self.text!r}: {error}", source=self.text) from error


def _text(given: object) -> str:
    try:
        text = os.fsdecode(given)  # type: ignore[arg-type]  # what it refuses is the question
    except TypeError:
        raise InvalidSourceError(
            f"a source is a text, a path or a PluginSpec, not {describe(given)}",
            source=repr(given),
        ) from None
    if not text.strip() or "\0" in text:
        found = "holds a NUL character" if text.strip() else "is empty"
        raise InvalidSourceError(f"source {text!r} {found}; {_kinds()}", source=text)
    return text


def _check_kind(text: str, kind: str, rest: str) -> None:
    if kind == "wasm":
        raise InvalidSourceError(
            f"source {text!r}: WebAssembly is not available in this version of plugkeep",
            source=text,
        )
    if kind not in FORMS:
        raise InvalidSourceError(
            f"source {text!r} is of unknown kind {kind!r}{did_you_mean(kind, FORMS)}; {_kinds()}",
            source=text,
        )
    if not rest.strip():
        raise InvalidSourceError(
            f"source {text!r} stops short; it is written {FORMS[kind]}", source=text
        )


def _bare_path(source: Source) -> tuple[str, str]:
    """Return the kind that the path in `source` has, and the rest that such a source has."""
    for pattern, kind in _KIND_OF_NAME:
        if pattern.search(source.text):
            return kind, source.text
    path = source.path(source.text)
    if not path.exists():
        found = f"there is no file {str(path)!r}{near_files(path)}"
    elif not path.is_file():
        found = f"{str(path)!r} is no file"
    elif not os.access(path, os.X_OK):
        found = f"{str(path)!r} is neither executable nor has it a suffix that tells its kind"
    else:
        return "exec", shlex.quote(str(path))
    raise InvalidSourceError(
        f"source {source.text!r} names no kind, and {found}; {_kinds()}", source=source.text
    )


def _kinds() -> str:
    return f"a source is written {', '.join(FORMS.values())}, or as the path of a file"
