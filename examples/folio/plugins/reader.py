"""The pages of the folder and of its documents, made of whatever other plugins can do."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from itertools import chain, islice
from mimetypes import guess_type
from operator import attrgetter
from typing import TypeVar

from contracts import (
    Document,
    Facts,
    Highlighter,
    Library,
    Pages,
    Rendered,
    Renderer,
    Text,
    TooMuchError,
)
from markupsafe import Markup, escape
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from tree import crumbs_to, is_start, tree_of

from plugkeep import (
    CallTimeoutError,
    Host,
    PluginError,
    ProcessExitedError,
    RemoteError,
    Route,
)

log = logging.getLogger("plugkeep.plugin.reader")

T = TypeVar("T")
A = TypeVar("A")

#: A picture may hold scripts (SVG can). Opened by itself, it is to run none.
PICTURE_HEADERS = {
    "Content-Security-Policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'"
}
RECENT = 6
#: Lines of a source that are shown; browsers tire of more.
MOST = 20_000


class PluginFactory:
    name = "reader"
    requires = ("library", "pages")

    def meet(self, host: Host) -> None:
        self._registry = host.registry

    def start(self) -> None:
        self._library = next(self._registry.providing(Library))
        self._pages = next(self._registry.providing(Pages))

    def stop(self) -> None: ...

    def routes(self) -> list[Route]:
        return [
            Route("GET", "/", self._index),
            Route("GET", "/doc/{path:path}", self._document),
            Route("GET", "/source/{path:path}", self._source),
            Route("GET", "/raw/{path:path}", self._picture),
        ]

    def _index(self, _request: Request) -> Response:
        return self._folder("")

    def _folder(self, path: str) -> Response:
        documents = self._library.documents()
        inside = [each for each in documents if not path or each.path.startswith(f"{path}/")]
        if path and not inside:
            raise HTTPException(404, f"There is no document and no folder at {path}.")
        return self._pages.page(
            "folder.html",
            path=path,
            crumbs=crumbs_to(path),
            tree=tree_of(path, inside),
            documents=inside,
            start=next((each for each in inside if is_start(each, path)), None),
            truncated=self._library.truncated,
            recent=sorted(inside, key=attrgetter("modified"), reverse=True)[:RECENT],
        )

    def _document(self, request: Request) -> Response:
        path = request.path_params["path"].rstrip("/")
        document = self._library.find(path)
        return self._show(document, "doc") if document else self._folder(path)

    def _source(self, request: Request) -> Response:
        path = request.path_params["path"]
        document = self._library.find(path)
        if document is None:
            raise HTTPException(404, f"There is no document at {path}.")
        return self._show(document, "source")

    def _show(self, document: Document, view: str) -> Response:
        text = self._read(document)
        notes: list[str] = []  # why plugins would not do their part
        rendered = self._render(document, text, notes)
        source = None if rendered and view == "doc" else self._lines(document, text, notes)
        facts = list(self._facts(document, text, notes))
        siblings = [each for each in self._library.documents() if each.folder == document.folder]
        return self._pages.page(
            "document.html",
            document=document,
            crumbs=crumbs_to(document.path),
            damaged=text.damaged,
            notes=notes,
            rendered=rendered,
            html=Markup(rendered.html) if rendered else "",  # noqa: S704  (it says that it is safe)
            source=source and source[:MOST],
            shortened=source is not None and len(source) > MOST,
            facts=facts,
            siblings=siblings,
        )

    def _read(self, document: Document) -> Text:
        try:
            return self._library.read(document)
        except OSError as error:
            reason = f"{document.path} cannot be read: {error.strerror}."
            raise HTTPException(404, reason) from error

    def _render(self, document: Document, text: Text, notes: list[str]) -> Rendered | None:
        made = self._ask(Renderer, lambda each: each.render(document, text.content), notes)
        return next((rendered for rendered in made if rendered), None)

    def _lines(self, document: Document, text: Text, notes: list[str]) -> list[Markup]:
        code, name = text.content, document.name
        made = self._ask(Highlighter, lambda each: _first(each.lines(code, name)), notes)
        plain = escape(code).removesuffix("\n").split("\n")
        return [Markup(line) for line in next(filter(None, made), plain)]  # noqa: S704

    def _facts(self, document: Document, text: Text, notes: list[str]) -> Iterator[tuple[str, str]]:
        for facts in self._ask(Facts, lambda each: each.facts(document, text.content), notes):
            yield from facts

    def _ask(
        self, ability: Callable[..., T], question: Callable[[T], A], notes: list[str]
    ) -> Iterator[A]:
        """Yield what each plugin with that ability answers; one that fails is done without."""
        for plugin in self._registry.providing(ability):
            try:
                answer = question(plugin)
            except Exception as error:
                notes += _excuse(error)
            else:
                yield answer

    def _picture(self, request: Request) -> Response:
        path = request.path_params["path"]
        content = self._library.picture(path)
        if content is None:
            raise HTTPException(404, f"There is no picture at {path}.")
        return Response(content, media_type=guess_type(path)[0], headers=PICTURE_HEADERS)


def _first(lines: Generator[list[str], None, None]) -> list[str]:
    """Take the lines that are shown, and one, if there is one, by which it shows that more are."""
    with closing(lines):  # nobody colours the rest in vain
        return list(islice(chain.from_iterable(lines), MOST + 1))


def _excuse(error: Exception) -> list[str]:
    """Return what to tell the reader where a plugin has not done its part; log the rest."""
    if isinstance(error, TooMuchError):
        return [str(error)]
    if isinstance(error, RemoteError) and error.type.endswith(TooMuchError.__name__):
        return [error.remote_message]
    if isinstance(error, PluginError) and not isinstance(error, RemoteError):
        log.info("the page is made without: %s", error)  # it has been stopped, or has ended
    else:
        log.error("the page is made without what raised this", exc_info=error)
    if isinstance(error, ProcessExitedError):
        whose = f"This is shown without plugin {error.plugin!r}, whose process has just ended."
        return [f"{whose} Load the page again for all of it."]
    if isinstance(error, CallTimeoutError):
        return [f"This is shown without plugin {error.plugin!r}, which did not answer in time."]
    return []
