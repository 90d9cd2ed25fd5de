"""What the pages have in common: templates, style, and what the plugins add to each of them."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
from contracts import Adds, Highlighter, Library
from starlette.responses import FileResponse, HTMLResponse, Response

from plugkeep import Host, Route, State

HERE = Path(__file__).parent.parent


class PluginFactory:
    name = "pages"
    version = f"Jinja2 {version('jinja2')}"

    def meet(self, host: Host) -> None:
        self._host = host

    def start(self) -> None:
        self._templates = jinja2.Environment(
            loader=jinja2.FileSystemLoader(HERE / "templates"),
            autoescape=True,  # documents, names of files and queries are not trusted
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters.update(url=quote, size=size, day=day)

    def stop(self) -> None: ...

    def routes(self) -> list[Route]:
        return [Route("GET", "/style.css", lambda _: FileResponse(HERE / "static/style.css"))]

    def page(self, template: str, /, *, status: int = 200, **values: Any) -> Response:
        registry = self._host.registry
        additions = [each.additions() for each in registry.providing(Adds)]
        library = next(registry.providing(Library), None)
        html = self._templates.get_template(template).render(
            site=library.title if library else "Folio",
            menu=[each.menu for each in additions if each.menu],
            colours=next(registry.providing(Highlighter), None) is not None,
            scripts=[each.script for each in additions if each.script],
            search=next((each.search for each in additions if each.search), None),
            down=[name for name in registry if registry.state(name) is not State.RUNNING],
            **values,
        )
        return HTMLResponse(html, status)


def size(count: int) -> str:
    """Return bytes as people read them."""
    if count < 1000:
        return f"{count} B"
    return f"{count / 1000:.1f} kB" if count < 1_000_000 else f"{count / 1_000_000:.1f} MB"


def day(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%-d %B %Y")
    except (ValueError, OverflowError, OSError):  # files can be of any age, people cannot
        return "unknown"
