"""What a sandboxed plugin offers by HTTP, as the host's: routes, and an application."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any
from weakref import ref

from plugkeep.channel.entrance import PLAINLY, Visit
from plugkeep.errors import NotStartedError
from plugkeep.routing.route import Route

if TYPE_CHECKING:
    from plugkeep.sandbox._link import Link
    from plugkeep.sandbox.sandbox import Sandbox


class RemoteApplication:
    """An ASGI application that runs in a plugin's process.

    It is the plugin's route `index`, or its whole application (None). Raises NotStartedError
    where the plugin does not run, and PluginBusyError where it has too many calls already.
    """

    def __init__(self, sandbox: Sandbox, index: int | None = None, mount: str = "") -> None:
        self.sandbox = sandbox
        #: Where it is to be mounted.
        self.mount = mount
        link = sandbox._link
        self._offered = None if index is None else _offered(link, index)
        #: What says that it is meant, and over which link: that of another process may differ.
        self._target: tuple[ref[Link] | None, dict[str, Any]] = (
            None if link is None else ref(link),
            {} if index is None else {"route": index},
        )
        self._exchange: Callable[..., Coroutine[Any, Any, None]] | None = None

    def __call__(self, scope: Any, receive: Any, send: Any) -> Coroutine[Any, Any, None]:
        """See ASGI."""
        link = self._running_link()
        if self._exchange is None:
            from plugkeep.sandbox._http import exchange

            self._exchange = exchange
        if self.sandbox._entrance.turnstile is not None:
            return self._in_turn(self._exchange, scope, receive, send)
        return self._exchange(link, self._target_on, scope, receive, send)

    def _target_on(self, link: Link) -> dict[str, Any]:
        """Return what says that it is meant, in the process that is at the other end of `link`.

        After a reload that is another one, which may have other routes, or none like this.
        """
        known, target = self._target
        if self._offered is not None and (known is None or known() is not link):
            index = link.offer.find(*self._offered)
            if index is None:
                name, (method, path) = self.sandbox.name, self._offered
                text = f"plugin {name!r} has no route {method} {path} since it was reloaded"
                raise NotStartedError(text, plugin=name)
            target = {"route": index}
            self._target = ref(link), target
        return target

    async def _in_turn(self, exchange: Any, scope: Any, receive: Any, send: Any) -> None:
        """Do it as one of the calls, of which there is a limit."""
        sandbox = self.sandbox
        visit = Visit(sandbox._entrance, PLAINLY, _what(scope), sandbox.call_timeout)
        try:
            if visit.at_once() is None:
                await visit.aenter()
            await exchange(self._running_link(), self._target_on, scope, receive, send)
        finally:
            visit.leave()

    def _running_link(self) -> Link:
        link = self.sandbox._link
        if link is None or link.channel.is_lost:
            name = self.sandbox.name
            raise NotStartedError(f"plugin {name!r} is not running", plugin=name)
        return link

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.sandbox!r}>"


class RemoteHandler:
    """The handler of a sandboxed plugin's route.

    Called with a request it returns what answers it: an ASGI application, which runs in the
    plugin's process together with the route's middleware.
    """

    def __init__(self, sandbox: Sandbox, index: int) -> None:
        self.application = RemoteApplication(sandbox, index)

    def __call__(self, _request: object) -> RemoteApplication:
        return self.application


def _offered(link: Link | None, index: int) -> tuple[str, str] | None:
    """Return method and path of a route that the plugin has announced."""
    if link is None or index >= len(link.offer.routes):
        return None
    offered = link.offer.routes[index]
    return offered.method, offered.path


def _what(scope: Any) -> str:
    return f"{scope.get('method', 'WebSocket')} {scope['path']}"


def remote_routes(sandbox: Sandbox) -> tuple[Route, ...]:
    """Return the routes that the plugin has announced. Raises InvalidRouteError."""
    link = sandbox._link
    if link is None:
        return ()
    return tuple(
        Route(
            offered.method,
            offered.path,
            RemoteHandler(sandbox, index),
            permissions=offered.permissions,
            meta=offered.meta,
        )
        for index, offered in enumerate(link.offer.routes)
    )
