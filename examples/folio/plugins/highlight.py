"""Colours for code, by Pygments: about 500 languages, recognised by the names of files."""

from __future__ import annotations

from functools import lru_cache
from typing import ClassVar

import pygments
from contracts import Additions
from markupsafe import Markup
from pygments import token as t
from pygments.formatters import HtmlFormatter
from pygments.lexer import Lexer
from pygments.lexers import get_lexer_by_name, get_lexer_for_filename
from pygments.style import Style
from pygments.util import ClassNotFound
from starlette.responses import Response

from plugkeep import Route

#: Characters; colouring more takes longer than anybody waits for.
MOST = 300_000


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

    def stop(self) -> None:
        _lexer.cache_clear()

    def additions(self) -> Additions:
        return Additions(stylesheet="/highlight.css")

    def routes(self) -> list[Route]:
        return [Route("GET", "/highlight.css", self._stylesheet)]

    def highlight(self, code: str, language: str) -> Markup | None:
        lexer = _lexer(language)
        if lexer is None or len(code) > MOST:
            return None
        return Markup(pygments.highlight(code, lexer, self._formatter))  # noqa: S704  (escaped)

    def _stylesheet(self, _request: object) -> Response:
        rules: str = self._formatter.get_style_defs("pre")  # type: ignore[no-untyped-call]
        return Response(rules, media_type="text/css")


@lru_cache(maxsize=256)
def _lexer(language: str) -> Lexer | None:
    # Code is shown as it stands, with every blank line where it is.
    for find in (get_lexer_by_name, get_lexer_for_filename):
        try:
            return find(language, stripnl=False, ensurenl=False)
        except ClassNotFound:
            continue
    return None
