"""The page of the plugins: how each is doing, where it came from, how long its start took."""

from __future__ import annotations

import secrets
from asyncio import to_thread
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Protocol, runtime_checkable
from urllib.parse import parse_qs

from contracts import Additions, Crashing, Pages
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from timeline import Timeline

from plugkeep import Host, PluginError, PluginSpec, Route, State, isolate

#: Without these nobody could start anything again.
KEPT = ("control", "pages")


@runtime_checkable
class Apart(Protocol):
    """A plugin in a process of its own; None where that has ended."""

    @property
    def pid(self) -> int | None: ...


@dataclass(frozen=True)
class Row:
    """One plugin, as the page shows it."""

    name: str
    state: State
    source: str
    version: str
    process: int | str
    requires: tuple[str, ...]
    required_by: tuple[str, ...]
    took: float | None
    bar: tuple[float, float] | None
    error: str
    falls: tuple[int, str] | None
    actions: tuple[str, ...]


class PluginFactory:
    name = "control"

    def meet(self, host: Host) -> None:
        self._host = host

    def start(self) -> None:
        self._notice = ""
        self._token = secrets.token_urlsafe()
        self._timeline = Timeline()
        self._unsubscribe = self._host.registry.subscribe(self._timeline.note)

    def stop(self) -> None:
        self._unsubscribe()

    def additions(self) -> Additions:
        return Additions(menu=("Plugins", "/plugins"))

    def routes(self) -> list[Route]:
        return [
            Route("GET", "/plugins", self._show),
            Route("POST", "/plugins/{name}/{action}", self._act),
        ]

    def _show(self, request: Request) -> Response:
        pages = next(self._host.registry.providing(Pages), None)
        if pages is None:
            raise HTTPException(503, "plugin 'pages' is not running")
        rows = [self._row(name) for name in self._host.registry]
        notice, self._notice = self._notice, ""
        return pages.page(
            "plugins.html",
            rows=rows,
            running=sum(row.state is State.RUNNING for row in rows),
            total=self._timeline.total(),
            notice=notice,
            token=self._token if _is_near(request) else None,
        )

    def _row(self, name: str) -> Row:
        registry, spec = self._host.registry, self._host.specs.get(name)
        requirements = registry.requirements()
        return Row(
            name=name,
            state=registry.state(name),
            source=spec.source if spec else "registered by code",
            version=getattr(registry[name], "version", "") or (spec and spec.version) or "",
            process=self._process(name),
            requires=tuple(requirements[name]),
            required_by=tuple(each for each in requirements if name in requirements[each]),
            took=self._timeline.took(name),
            bar=self._timeline.bar(name),
            error=self._timeline.error(name),
            falls=self._timeline.falls(name),
            actions=self._actions(name),
        )

    def _process(self, name: str) -> int | str:
        """Return the process that a plugin runs in, if that is one of its own."""
        registry = self._host.registry
        plugin = registry[name]
        if not isinstance(plugin, Apart) or registry.state(name) is not State.RUNNING:
            return ""
        return plugin.pid or ""

    def _actions(self, name: str) -> tuple[str, ...]:
        if name in KEPT:
            return ()
        if self._host.registry.state(name) is not State.RUNNING:
            return ("start",)
        spec = self._host.specs.get(name)
        reload = ("reload",) if spec and spec.source.startswith("file:") else ()
        crash = ("crash",) if self._host.registry.capability(name, Crashing) else ()
        return ("stop", *reload, *crash)

    async def _act(self, request: Request) -> Response:
        """Do what a button says: for people at this machine only, and from our own page only."""
        if not _is_near(request) or not await self._has_token(request):
            raise HTTPException(403, "This button is no longer valid; load its page again.")
        name, action = request.path_params["name"], request.path_params["action"]
        if name not in self._host.registry:
            raise HTTPException(404, f"There is no plugin {name}.")
        if action in self._actions(name):
            await self._do(action, name)
        return RedirectResponse(f"/plugins#{name}", 303)

    async def _has_token(self, request: Request) -> bool:
        form = parse_qs((await request.body()).decode(errors="replace"))
        given = form.get("token", [""])[0]
        return secrets.compare_digest(given.encode(), self._token.encode())

    async def _do(self, action: str, name: str) -> None:
        registry = self._host.registry
        does = {"start": registry.astart, "stop": registry.astop}
        does |= {"reload": self._reload, "crash": self._crash}
        try:
            await does[action](name)
        except PluginError as error:
            self._notice = str(error)

    async def _crash(self, name: str) -> None:
        """Have a plugin's process end; what is said of that is no success."""
        plugin = self._host.registry.capability(name, Crashing)
        if plugin is not None:
            await to_thread(plugin.crash)

    async def _reload(self, name: str) -> None:
        """Load a plugin's file again; what cannot be loaded takes nothing's place."""
        spec = self._host.specs[name]
        if spec.isolation != "none":  # it is loaded when it starts, which would be too late
            await to_thread(_try, spec)
        await self._host.areload(name)


def _try(spec: PluginSpec) -> None:
    """Start a plugin in one more process, and stop it; PluginError if it cannot be started."""
    with isolate(spec.source, name=spec.name, base=spec.base):
        pass


def _is_near(request: Request) -> bool:
    return request.client is not None and ip_address(request.client.host).is_loopback
