"""Full-text search on SQLite's FTS5. The index lives as long as the plugin, in no file of yours."""

from __future__ import annotations

import logging
import re
import sqlite3
import threading
from dataclasses import dataclass
from pathlib import Path

from contracts import Additions, Document, Library, Pages
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from plugkeep import Host, Route

log = logging.getLogger("plugkeep.plugin.search")

HERE = Path(__file__).parent.parent
LIMIT = 30
SCHEMA = """
    CREATE VIRTUAL TABLE documents
    USING fts5(path, body, tokenize='unicode61 remove_diacritics 2')
"""
#: A word in the path counts more than one in the text. \2 and \3 stand around what was found.
FIND = """
    SELECT path, snippet(documents, 1, char(2), char(3), ' … ', 30)
    FROM documents WHERE documents MATCH ? ORDER BY bm25(documents, 5.0, 1.0) LIMIT ?
"""
COUNT = "SELECT count(*) FROM documents WHERE documents MATCH ?"


@dataclass
class Hit:
    path: str
    #: The text around what was found, cut up: what was found is at the odd places.
    snippet: list[str]


class PluginFactory:
    name = "search"
    version = f"SQLite {sqlite3.sqlite_version}"
    requires = ("library", "pages")

    def meet(self, host: Host) -> None:
        self._registry = host.registry

    def start(self) -> None:
        self._library = next(self._registry.providing(Library))
        self._pages = next(self._registry.providing(Pages))
        self._lock = threading.Lock()  # requests come on many threads
        self._indexed: dict[str, Document] = {}
        # "" is a database in a temporary file that is gone once it is closed.
        self._database = sqlite3.connect("", check_same_thread=False)
        try:
            self._database.execute(SCHEMA)
            self._refresh()
        except BaseException:
            self._database.close()
            raise

    def stop(self) -> None:
        with self._lock:
            self._database.close()

    def additions(self) -> Additions:
        return Additions(search="/search", script="/search.js")

    def routes(self) -> list[Route]:
        script = HERE / "static/search.js"
        return [
            Route("GET", "/search", self._search),
            Route("GET", "/search.js", lambda _: FileResponse(script)),
        ]

    def _search(self, request: Request) -> Response:
        query = request.query_params.get("q", "")[:200]
        hits, total = self._find(query)
        part = "hits.html" if "part" in request.query_params else "search.html"
        return self._pages.page(part, query=query, hits=hits, total=total)

    def _find(self, query: str) -> tuple[list[Hit], int]:
        expression = _expression(query)
        if not expression:
            return [], 0
        with self._lock:
            self._refresh()
            rows = self._database.execute(FIND, (expression, LIMIT)).fetchall()
            (total,) = self._database.execute(COUNT, (expression,)).fetchone()
        return [Hit(path, re.split("[\2\3]", snippet)) for path, snippet in rows], total

    def _refresh(self) -> None:
        """Bring the index up to date with the folder."""
        now = {document.path: document for document in self._library.documents()}
        changed = [each for path, each in now.items() if self._indexed.get(path) != each]
        with self._database:
            for path in self._indexed.keys() - now.keys():
                self._forget(path)
            for number, document in enumerate(changed, 1):
                self._forget(document.path)
                self._add(document)
                if number % 1000 == 0:
                    log.info("%s of %s documents indexed", f"{number:,}", f"{len(changed):,}")

    def _forget(self, path: str) -> None:
        if self._indexed.pop(path, None):
            self._database.execute("DELETE FROM documents WHERE path = ?", (path,))

    def _add(self, document: Document) -> None:
        try:
            text = self._library.read(document).content
        except OSError:  # it has gone since, or may not be read
            text = ""
        row = (document.path, re.sub("[\0\2\3]", " ", text))
        self._database.execute("INSERT INTO documents VALUES (?, ?)", row)
        self._indexed[document.path] = document


def _expression(query: str) -> str:
    """Return what FTS5 is asked for: every word and every "quoted phrase", the last one begun.

    All is quoted, for half of a query, as it is while somebody types, is seldom correct syntax.
    """
    phrases = re.findall(r'"([^"]*)"|([^\s"]+)', query.replace("\0", " "))
    terms = [f'"{quoted or word}"' for quoted, word in phrases if re.search(r"\w", quoted or word)]
    begun = "*" if terms and not query.endswith(('"', " ")) else ""
    return " ".join(terms) + begun
