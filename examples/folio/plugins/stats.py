"""Word statistics, of each document and of all. The counting is left to the native plugin."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from math import ceil
from typing import Any, Protocol, runtime_checkable

from contracts import Additions, Document, Library, Pages
from starlette.requests import Request
from starlette.responses import Response

from plugkeep import Host, Route

#: Words a minute, of somebody who reads to understand.
PACE = 230
SHOWN = 25
#: Bytes of text, of all documents together; it is counted while somebody waits.
MOST = 50_000_000


@runtime_checkable
class Counter(Protocol):
    """What a native plugin has besides: methods, called by their names."""

    def call(self, method: str, /, *texts: str) -> Any: ...


@dataclass(frozen=True)
class Counts:
    words: int
    characters: int
    lines: int
    frequent: list[tuple[str, int]]

    @property
    def reading_time(self) -> str:
        minutes = ceil(self.words / PACE)
        return f"{minutes} min" if minutes < 120 else f"{minutes / 60:,.0f} h"


class PluginFactory:
    name = "stats"
    requires = ("words", "library", "pages")

    def meet(self, host: Host) -> None:
        self._registry = host.registry

    def start(self) -> None:
        words = self._registry.capability("words", Counter)
        if words is None:
            raise RuntimeError("the plugin 'words' cannot be called")
        self._words = words
        self._library = next(self._registry.providing(Library))
        self._pages = next(self._registry.providing(Pages))
        self._counted: dict[Document, Counts] = {}
        self._all: tuple[tuple[Document, ...], Counts] | None = None

    def stop(self) -> None:
        self._counted.clear()

    def additions(self) -> Additions:
        return Additions(menu=("Statistics", "/stats"))

    def routes(self) -> list[Route]:
        return [Route("GET", "/stats", self._stats)]

    def facts(self, _document: Document, text: str) -> list[tuple[str, str]]:
        counts = self._count(text)
        frequent = ", ".join(word for word, times in counts.frequent[:5] if times > 1)
        return [
            ("Reading time", counts.reading_time),
            ("Words", f"{counts.words:,}"),
            ("Characters", f"{counts.characters:,}"),
            ("Lines", f"{counts.lines:,}"),
            *([("Frequent", frequent)] if frequent else []),
        ]

    def _count(self, *texts: str) -> Counts:
        return Counts(**self._words.call("count", *texts))

    def _stats(self, _request: Request) -> Response:
        documents = tuple(self._library.documents())
        if self._all is None or self._all[0] != documents:
            self._all = (documents, self._count_all(documents))
        longest = sorted(self._counted.items(), key=lambda each: each[1].words, reverse=True)
        return self._pages.page(
            "stats.html",
            total=self._all[1],
            documents=len(self._counted),
            left_out=len(documents) - len(self._counted),
            longest=longest[:SHOWN],
        )

    def _count_all(self, documents: tuple[Document, ...]) -> Counts:
        sizes = accumulate(document.size for document in documents)
        within = [each for each, size in zip(documents, sizes, strict=True) if size <= MOST]
        texts = {document: self._library.read(document).content for document in within}
        known, self._counted = self._counted, {}
        for document, text in texts.items():
            self._counted[document] = known.get(document) or self._count(text)
        return self._count(*texts.values())
