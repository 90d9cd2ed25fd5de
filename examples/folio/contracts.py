"""What Folio's plugins know of one another. No plugin imports another: they meet here.

A plugin finds what others can do by asking the registry for one of these protocols, and goes on
without where nobody offers it. That is all that makes it work when a plugin is stopped. It need
not know either which of them run in processes of their own: there it is given a proxy.

Those processes import this, too, so it imports nothing that they have no use for.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from starlette.exceptions import HTTPException
    from starlette.responses import Response

    from plugkeep import Host


@runtime_checkable
class Sociable(Protocol):
    """A plugin that works with others. The host introduces itself before each start."""

    def meet(self, host: Host) -> None: ...


class TooMuchError(Exception):
    """Raised by a plugin asked for what would take longer than anybody waits.

    It is done without. The message says so to whoever reads the page.
    """


def gone(plugin: str) -> HTTPException:
    """Return what to raise when a plugin that a page needs has been stopped meanwhile."""
    from starlette.exceptions import HTTPException

    return HTTPException(503, f"plugin '{plugin}' is not running: it has just been stopped")


# --- the pages ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Additions:
    """What a plugin adds to every page. Addresses begin with a slash."""

    menu: tuple[str, str] | None = None  # a label and its address
    script: str | None = None
    search: str | None = None  # the address that a search form submits to


@runtime_checkable
class Adds(Protocol):
    def additions(self) -> Additions: ...


@runtime_checkable
class Pages(Protocol):
    """Makes pages that all look alike."""

    def page(self, template: str, /, *, status: int = 200, **values: Any) -> Response: ...


# --- the documents ------------------------------------------------------------------------


@dataclass(frozen=True)
class Document:
    """A file of text in the folder."""

    path: str  # below the folder, with slashes
    size: int  # bytes
    modified: float  # seconds since the epoch

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def folder(self) -> str:
        return self.path.rpartition("/")[0]

    @property
    def kind(self) -> str:
        """What kind of file it is, as the end of its name says it."""
        suffix = self.name.rpartition(".")[2].lower() if "." in self.name else ""
        return suffix if len(suffix) <= 4 else ""


@dataclass(frozen=True)
class Text:
    """What is in a document; `damaged` if it was no UTF-8 and some of it had to be replaced."""

    content: str
    damaged: bool = False


@runtime_checkable
class Library(Protocol):
    """Knows the documents, sorted by path. What it does not list cannot be read either."""

    @property
    def title(self) -> str: ...
    @property
    def truncated(self) -> bool: ...
    def documents(self) -> Sequence[Document]: ...
    def find(self, path: str) -> Document | None: ...
    def read(self, document: Document) -> Text: ...
    def picture(self, path: str) -> bytes | None: ...


# --- what can be made of them -------------------------------------------------------------


@dataclass(frozen=True)
class Heading:
    level: int
    text: str
    anchor: str


@dataclass(frozen=True)
class Rendered:
    html: str  # safe to be shown
    headings: tuple[Heading, ...] = ()


@runtime_checkable
class Renderer(Protocol):
    """Makes a page of a document; None if it is none of its kind, TooMuchError if too long."""

    def render(self, document: Document, text: str) -> Rendered | None: ...


@runtime_checkable
class Highlighter(Protocol):
    """Colours code, as HTML that is safe to be shown; TooMuchError if it would take too long.

    `language` is the name of one, or the name of a file.
    """

    def highlight(self, code: str, language: str) -> str | None:
        """Return the code in colours; None if the language is unknown."""
        ...

    def lines(self, code: str, language: str) -> Generator[list[str], None, None]:
        """Yield the code, some lines at a time; nothing if the language is unknown.

        Whoever closes it before its end saves the work on the rest.
        """
        ...


@runtime_checkable
class Facts(Protocol):
    """Knows something about a document: labels and values, shown beside it."""

    def facts(self, document: Document, text: str) -> Iterable[tuple[str, str]]: ...


# --- what may go wrong --------------------------------------------------------------------


@runtime_checkable
class Crashing(Protocol):
    """A plugin that shows what becomes of one whose process ends, by ending it."""

    def crash(self) -> None: ...
