"""Colours for code, by Pygments: about 500 languages, recognised by the names of files."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import islice
from typing import Any, ClassVar

import pygments
from contracts import TooMuchError
from pygments import token as t
from pygments.formatters import HtmlFormatter
from pygments.lexer import Lexer
from pygments.lexers import get_lexer_by_name, get_lexer_for_filename
from pygments.style import Style
from pygments.util import ClassNotFound
from starlette.responses import Response

from plugkeep import Route, expose

#: A piece of code, and of which kind it is.
Piece = tuple[Any, str]

#: Characters of code that are coloured, in all and in a line.
MOST, MOST_IN_LINE = 300_000, 5_000
#: Seconds of work; some lexers take time that grows with the square of the code.
PATIENCE = 1.0
#: Lines that are sent together, for each sending takes its time, too.
AT_ONCE = 100


class Colours(Style):
    """Named here, chosen in style.css, where light and dark have values of their own."""

    styles: ClassVar = {
        t.Comment: "italic var(--code-comment)",
        t.Comment.Preproc: "noitalic var(--code-keyword)",
        t.Keyword: "var(--code-keyword)",
        t.Operator.Word: "var(--code-keyword)",
        t.Name.Builtin: "var(--code-builtin)",
        t.Name.Class: "var(--code-name)",
        t.Name.Decorator: "var(--code-builtin)",
        t.Name.Exception: "var(--code-builtin)",
        t.Name.Function: "var(--code-name)",
        t.Name.Tag: "var(--code-keyword)",
        t.Name.Attribute: "var(--code-name)",
        t.Literal.String: "var(--code-text)",
        t.Literal.Number: "var(--code-number)",
        t.Generic.Heading: "bold",
        t.Generic.Subheading: "bold",
        t.Generic.Emph: "italic",
        t.Generic.Strong: "bold",
        t.Generic.Deleted: "var(--code-keyword)",
        t.Generic.Inserted: "var(--code-text)",
        t.Generic.Prompt: "var(--code-comment)",
    }


class PluginFactory:
    name = "highlight"
    version = f"Pygments {pygments.__version__}"

    def start(self) -> None:
        self._formatter = HtmlFormatter[str](nowrap=True, nobackground=True, style=Colours)

    def stop(self) -> None: ...

    def routes(self) -> list[Route]:
        return [Route("GET", "/highlight.css", self._stylesheet)]

    async def _stylesheet(self, _request: object) -> Response:
        rules: str = self._formatter.get_style_defs("pre")  # type: ignore[no-untyped-call]
        return Response(rules, media_type="text/css")

    # On threads, so that nobody waits until others have got their colours.

    @expose(threaded=True)
    def highlight(self, code: str, language: str) -> str | None:
        tokens = _tokens(code, language)
        return None if tokens is None else self._format(tokens)

    @expose(threaded=True)
    def lines(self, code: str, language: str) -> Iterator[list[str]]:
        lines = map(self._format, _lines(_tokens(code, language) or ()))
        while some := [line.removesuffix("\n") for line in islice(lines, AT_ONCE)]:
            yield some

    def _format(self, tokens: Iterable[Piece]) -> str:
        return pygments.format(tokens, self._formatter)


def _tokens(code: str, language: str) -> Iterator[Piece] | None:
    lexer = _lexer(language)
    if lexer is None:
        return None
    if len(code) > MOST or max(map(len, code.split("\n"))) > MOST_IN_LINE:
        raise TooMuchError("This is shown without colours, for it is too long.")
    return _in_time(lexer.get_tokens(code))


def _in_time(tokens: Iterable[Piece]) -> Iterator[Piece]:
    """Yield `tokens` for as long as this thread has not worked too long on them."""
    end = time.thread_time() + PATIENCE
    for token in tokens:
        if time.thread_time() > end:
            raise TooMuchError("This is shown without colours, for they would take too long.")
        yield token


def _lines(tokens: Iterable[Piece]) -> Iterator[list[Piece]]:
    line: list[Piece] = []
    for kind, text in tokens:
        *ended, begun = text.split("\n")
        for piece in ended:
            yield [*line, (kind, piece)]
            line = []
        if begun:
            line.append((kind, begun))
    if line:
        yield line


@lru_cache(maxsize=256)
def _lexer(language: str) -> Lexer | None:
    # Code is shown as it stands, with every blank line where it is.
    for find in (get_lexer_by_name, get_lexer_for_filename):
        try:
            return find(language, stripnl=False, ensurenl=False)
        except ClassNotFound:
            continue
    return None
