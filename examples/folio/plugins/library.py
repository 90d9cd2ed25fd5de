"""The documents: which there are, and what is in them. Everything else goes through here.

Documents are not trusted, and neither are the paths that people ask for: nothing outside the
folder is ever read, whatever dots and symbolic links say. Links are not followed at all.
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from contracts import Document, Text

IGNORED = {"node_modules", "__pycache__"}
PICTURES = {".png", ".jpg", ".jpeg", ".gif", ".webp", ".svg"}
LARGEST_PICTURE = 20_000_000
_unspeakable = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]").search


@dataclass
class Config:
    folder: Path
    largest: int = 1_000_000  # bytes; what is larger was not written to be read
    most: int = 10_000  # documents
    fresh: float = 2.0  # seconds for which a listing is believed


class PluginFactory:
    name = "library"
    config: Config

    def start(self) -> None:
        self.root = self.config.folder.resolve(strict=True)
        self.truncated = False
        self._texts: dict[Document, bool] = {}
        self._list()

    def stop(self) -> None:
        self._texts.clear()

    @property
    def title(self) -> str:
        return self.root.name or str(self.root)

    def documents(self) -> tuple[Document, ...]:
        if time.monotonic() - self._listed_at > self.config.fresh:
            self._list()
        return self._documents

    def find(self, path: str) -> Document | None:
        document = self._examine(path)
        return document if document and self._is_text(document) else None

    def read(self, document: Document) -> Text:
        with (self.root / document.path).open("rb") as stream:
            content = stream.read(self.config.largest).removeprefix(b"\xef\xbb\xbf")
        try:
            return Text(content.decode())
        except UnicodeDecodeError:
            return Text(content.decode(errors="replace"), damaged=True)

    def picture(self, path: str) -> bytes | None:
        file = self._examine(path)
        if file is None or file.size > LARGEST_PICTURE or Path(path).suffix.lower() not in PICTURES:
            return None
        return (self.root / path).read_bytes()

    def _list(self) -> None:
        known, self._texts = self._texts, {}
        found = list(islice(self._scan(known), self.config.most + 1))
        self.truncated = len(found) > self.config.most
        found = sorted(found[: self.config.most], key=lambda document: document.path.casefold())
        self._documents = tuple(found)
        self._listed_at = time.monotonic()

    def _scan(self, known: dict[Document, bool]) -> Iterator[Document]:
        for path in _walk(self.root):
            document = self._examine(path)
            if document is None:
                continue
            # Looking into every file is slow; into those that have changed it is not.
            is_text = known[document] if document in known else self._is_text(document)
            self._texts[document] = is_text
            if is_text:
                yield document

    def _examine(self, path: str) -> Document | None:
        """Return the ordinary file at `path`; None where there is none, or it is not to be seen."""
        if not _is_shown(path):
            return None
        file = self.root / path
        try:
            status = file.lstat()
            linked = file.parent.resolve(strict=True) != file.parent
        except (OSError, RuntimeError):  # gone, not permitted, too long, links in a circle
            return None
        if linked or not stat.S_ISREG(status.st_mode):
            return None
        return Document(path, status.st_size, status.st_mtime)

    def _is_text(self, document: Document) -> bool:
        if document.size > self.config.largest:
            return False
        try:
            with (self.root / document.path).open("rb") as stream:
                return b"\0" not in stream.read(8192)
        except OSError:
            return False


def _walk(root: Path) -> Iterator[str]:
    for folder, folders, files in os.walk(root):
        if "pyvenv.cfg" in files:  # a virtual environment
            folders.clear()
            continue
        folders[:] = sorted(each for each in folders if _is_shown(each))
        below = Path(folder).relative_to(root)
        yield from ((below / file).as_posix() for file in sorted(files) if _is_shown(file))


def _is_shown(path: str) -> bool:
    """Say whether `path` is written plainly, and no part of it is hidden."""
    parts = path.split("/")
    hidden = any(not part or part.startswith(".") or part in IGNORED for part in parts)
    return not hidden and not _unspeakable(path)
