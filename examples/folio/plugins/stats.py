"""Word statistics, of each document and of all. The counting is left to the native plugin."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from math import ceil
from typing import Any, Protocol, runtime_checkable

from contracts import Additions, Document, Library, Pages, gone
from starlette.requests import Request
from starlette.responses import Response

from plugkeep import Host, NotStartedError, Route

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


@dataclass(frozen=True)
class Survey:
    """What was counted of `documents`: each, unless there is too much, and all together."""

    documents: tuple[Document, ...]
    counted: dict[Document, Counts]
    total: Counts


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
        self._last: Survey | None = None

    def stop(self) -> None:
        self._last = None

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
        try:
            survey = self._survey(tuple(self._library.documents()))
        except NotStartedError as error:
            raise gone("words") from error
        longest = sorted(survey.counted.items(), key=lambda each: each[1].words, reverse=True)
        return self._pages.page(
            "stats.html",
            total=survey.total,
            documents=len(survey.counted),
            left_out=len(survey.documents) - len(survey.counted),
            longest=longest[:SHOWN],
        )

    def _survey(self, documents: tuple[Document, ...]) -> Survey:
        last = self._last
        if last and last.documents == documents:
            return last
        sizes = accumulate(document.size for document in documents)
        within = [each for each, size in zip(documents, sizes, strict=True) if size <= MOST]
        texts = {document: self._library.read(document).content for document in within}
        known = last.counted if last else {}
        counted = {each: known.get(each) or self._count(text) for each, text in texts.items()}
        survey = self._last = Survey(documents, counted, self._count(*texts.values()))
        return survey
