"""Full-text search on SQLite's FTS5. The index lives as long as the plugin, in a temporary file.

Searches do not wait for each other: each has a connection of its own, and a limit to its time.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from contracts import Additions, Document, Library, Pages, gone
from sought import Sought
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from plugkeep import Host, Route

log = logging.getLogger("plugkeep.plugin.search")

HERE = Path(__file__).parent.parent
LIMIT = 30
#: Seconds that one search may take, and after how many of its steps SQLite looks at the clock.
PATIENCE = 2.0
STEPS = 10
SCHEMA = """
    PRAGMA journal_mode = WAL;  -- searches go on while the index changes
    PRAGMA synchronous = OFF;   -- it need not outlive anything
    CREATE VIRTUAL TABLE documents
    USING fts5(path, body, tokenize='unicode61 remove_diacritics 2');
"""
#: A word in the path counts more than one in the text.
FIND = """
    SELECT path, body FROM documents
    WHERE documents MATCH ? AND rank MATCH 'bm25(5.0, 1.0)' ORDER BY rank LIMIT ?
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
        self._stopped = False
        self._changing = threading.Lock()
        self._indexed: dict[str, Document] = {}
        self._taken = ExitStack()
        try:
            folder = self._taken.enter_context(TemporaryDirectory(prefix="folio-index-"))
            self._file = Path(folder, "index")
            index = sqlite3.connect(self._file, check_same_thread=False)
            self._index = self._taken.enter_context(closing(index))
            self._index.executescript(SCHEMA)
            self._refresh()
        except BaseException:
            self._taken.close()
            raise

    def stop(self) -> None:
        self._stopped = True  # which ends the searches that run
        with self._changing:
            self._taken.close()

    def additions(self) -> Additions:
        return Additions(search="/search", script="/search.js")

    def routes(self) -> list[Route]:
        script = HERE / "static/search.js"
        return [
            Route("GET", "/search", self._search),
            Route("GET", "/search.js", lambda _: FileResponse(script)),
        ]

    def _search(self, request: Request) -> Response:
        query = request.query_params.get("q", "")
        hits: list[Hit] = []
        total: int | None = None  # None: it took too long
        try:
            hits, total = self._find(Sought(query))
        except sqlite3.OperationalError as error:
            if self._stopped:
                raise gone(self.name) from error
            if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
                raise
        part = "hits.html" if "part" in request.query_params else "search.html"
        return self._pages.page(part, query=query, hits=hits, total=total)

    def _find(self, sought: Sought) -> tuple[list[Hit], int]:
        expression = sought.expression
        if not expression:
            return [], 0
        self._refresh()
        with closing(self._connect()) as index:
            rows = index.execute(FIND, (expression, LIMIT)).fetchall()
            (total,) = index.execute(COUNT, (expression,)).fetchone()
        return [Hit(path, sought.excerpt(body)) for path, body in rows], total

    def _connect(self) -> sqlite3.Connection:
        """Return a connection to search with, for as long as a search may take."""
        connection = sqlite3.connect(f"{self._file.as_uri()}?mode=ro", uri=True)
        end = time.monotonic() + PATIENCE
        connection.set_progress_handler(lambda: self._stopped or time.monotonic() > end, STEPS)
        return connection

    def _refresh(self) -> None:
        """Bring the index up to date with the folder, unless somebody is just doing so."""
        if self._changing.acquire(blocking=False):
            try:
                if not self._stopped:
                    self._update()
            finally:
                self._changing.release()

    def _update(self) -> None:
        now = {document.path: document for document in self._library.documents()}
        changed = [each for path, each in now.items() if self._indexed.get(path) != each]
        with self._index:
            for path in self._indexed.keys() - now.keys():
                self._forget(path)
            for number, document in enumerate(changed, 1):
                if self._stopped:
                    return
                self._forget(document.path)
                self._add(document)
                if number % 1000 == 0:
                    log.info("%s of %s documents indexed", f"{number:,}", f"{len(changed):,}")

    def _forget(self, path: str) -> None:
        if self._indexed.pop(path, None):
            self._index.execute("DELETE FROM documents WHERE path = ?", (path,))

    def _add(self, document: Document) -> None:
        try:
            text = self._library.read(document).content
        except OSError:  # it has gone since, or may not be read
            text = ""
        row = (document.path, text.replace("\0", " "))
        self._index.execute("INSERT INTO documents VALUES (?, ?)", row)
        self._indexed[document.path] = document
