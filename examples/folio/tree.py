"""Folders, as documents make them: one that holds no document is not there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from contracts import Document


@dataclass
class Folder:
    """One folder of the tree."""

    path: str
    folders: list[Folder] = field(default_factory=list)
    documents: list[Document] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def count(self) -> int:
        return len(self.documents) + sum(each.count for each in self.folders)


def tree_of(path: str, documents: Sequence[Document]) -> Folder:
    root = Folder(path)
    folders = {path: root}

    def folder(at: str) -> Folder:
        if at not in folders:
            folders[at] = Folder(at)
            folder(at.rpartition("/")[0]).folders.append(folders[at])
        return folders[at]

    for document in documents:
        folder(document.folder).documents.append(document)
    return root


def is_start(document: Document, folder: str) -> bool:
    return document.folder == folder and document.name.lower().startswith(("readme.", "index."))


def crumbs_to(path: str) -> list[tuple[str, str]]:
    """Return the name and the path of each folder on the way, and of what is at its end."""
    parts = path.split("/") if path else []
    return [(part, "/".join(parts[: depth + 1])) for depth, part in enumerate(parts)]
