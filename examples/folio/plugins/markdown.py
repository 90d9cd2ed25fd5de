"""Markdown, by markdown-it-py. Documents are not trusted: HTML in them is shown, not obeyed."""

from __future__ import annotations

import os
import posixpath
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import pairwise
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import markdown_it
from contracts import Document, Heading, Rendered, TooMuchError
from markdown_it import MarkdownIt
from markdown_it.token import Token
from markdown_it.utils import OptionsDict
from markupsafe import escape

from plugkeep import PluginError, current_call, expose

#: Characters that are rendered; brackets take time that grows with the square of their number.
MOST = 100_000
#: Seconds that colours may take, of all code in a document; the rest of it goes without.
PATIENCE = 5.0
SUFFIXES = (".md", ".markdown")


class PluginFactory:
    name = "markdown"
    version = f"markdown-it-py {markdown_it.__version__}"
    host: Any

    def start(self) -> None:
        options = {"html": False, "linkify": False}
        self._markdown = MarkdownIt("gfm-like2", options).disable("linkify")
        self._markdown.validateLink = _is_harmless  # type: ignore[method-assign]

    def stop(self) -> None: ...

    @expose
    def crash(self) -> None:
        """Do what a fault in a library might do; for the button that shows what becomes of it."""
        os.abort()

    @expose(threaded=True)  # so that nobody waits until the documents of others are made
    def render(self, document: Document, text: str) -> Rendered | None:
        if not document.name.lower().endswith(SUFFIXES):
            return None
        if len(text) > MOST:
            raise TooMuchError("This is shown as it was written: it is too long to be laid out.")
        tokens = self._markdown.parse(text)
        headings = tuple(_anchor(tokens))
        for token in _all(tokens):
            _settle(token, document)
        current_call().check()  # whoever wanted it may have given up meanwhile
        options = OptionsDict(self._markdown.options)  # type: ignore[arg-type]  # a copy of it
        options.highlight = Colours(self.host).of
        return Rendered(self._markdown.renderer.render(tokens, options, {}), headings)


class Colours:
    """Colours for the code in one document, as long as they come soon enough."""

    def __init__(self, host: Any) -> None:
        self._host = host
        self._end = time.monotonic() + PATIENCE

    def of(self, code: str, language: str, _attributes: str) -> str:
        left = self._end - time.monotonic()
        if language and left > 0:
            with suppress(PluginError):  # it is stopped, or in trouble, or this is too much for it
                coloured = self._host.highlight.highlight(code, language, timeout=left)
                if coloured is not None:
                    return str(coloured)
        return str(escape(code))


def _anchor(tokens: list[Token]) -> Iterator[Heading]:
    """Give each heading an anchor of its own, spelt as on GitHub."""
    taken: dict[str, int] = {}
    for opening, inline in pairwise(tokens):
        if opening.type != "heading_open":
            continue
        text = "".join(each.content for each in inline.children or ())
        slug = re.sub(r"[^\w\- ]", "", text.lower()).strip().replace(" ", "-") or "section"
        anchor = slug
        while anchor in taken:
            taken[slug] += 1
            anchor = f"{slug}-{taken[slug]}"
        taken[anchor] = 0
        opening.attrSet("id", anchor)
        yield Heading(int(opening.tag[1]), text, anchor)


def _settle(token: Token, document: Document) -> None:
    """Make a token fit into our pages."""
    if token.type == "link_open":
        token.attrSet("href", _address(str(token.attrs["href"]), "/doc", document))
    elif token.type == "image":
        _settle_picture(token, document)
    elif "style" in token.attrs:  # a column's alignment; pages have no styles of their own
        token.attrSet("class", str(token.attrs.pop("style")).partition(":")[2])


def _settle_picture(token: Token, document: Document) -> None:
    address = str(token.attrs["src"])
    parts = urlsplit(address)
    if parts.scheme or parts.netloc:  # nobody elsewhere is told what is being read
        token.type = "text"
    token.attrSet("src", _address(address, "/raw", document))


def _address(written: str, root: str, document: Document) -> str:
    """Return a link as the page needs it: what is relative to the document, or to the folder."""
    parts = urlsplit(written)
    if parts.scheme or parts.netloc or not parts.path:
        return written
    path = posixpath.normpath(posixpath.join("/", quote(document.folder), parts.path))
    return parts._replace(path=root + path).geturl()


def _is_harmless(url: str) -> bool:
    """Say whether a link may be one: to another document, or by one of a few schemes."""
    plain = re.sub(r"[\x00-\x20\x7f]", "", unquote(url)).lower()
    try:
        urlsplit(url)
    except ValueError:  # half an address of IPv6
        return False
    return not re.match(r"[^/?#]*:", plain) or plain.startswith(("http:", "https:", "mailto:"))


def _all(tokens: Iterable[Token]) -> Iterator[Token]:
    for token in tokens:
        yield token
        yield from token.children or ()
