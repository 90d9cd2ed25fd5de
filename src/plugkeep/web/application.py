"""A plugin's whole web application: what the plugin's `application` is, and where it belongs.

Importing this imports no web framework.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Final

from plugkeep.errors import InvalidApplicationError, MissingExtraError
from plugkeep.routing.mount import check_mount
from plugkeep.web._lifespan import Lifespan

#: A WSGI application serves so many requests at a time.
WSGI_THREADS: Final = 40


class Offered:
    """The application of a plugin, as ASGI, and its lifespan."""

    def __init__(self, plugin: str, application: Any, mount: str) -> None:
        self.plugin = plugin
        self.mount = mount
        self._executor: Any = None
        self._lifespan: Lifespan | None = None
        if is_asgi(plugin, application):
            self.application = application
            self._lifespan = Lifespan(application, plugin)
        else:
            self.application = self._as_asgi(application)

    @property
    def state(self) -> dict[str, Any]:
        """What its lifespan has put there for its requests."""
        return {} if self._lifespan is None else self._lifespan.state

    @property
    def needs_loop(self) -> bool:
        """Whether it runs in an event loop, the one of its lifespan."""
        return self._lifespan is not None

    async def startup(self) -> None:
        """Begin its lifespan, in the event loop that is to serve it. Raises LifespanError."""
        if self._lifespan is not None:
            await self._lifespan.startup()

    async def shutdown(self) -> None:
        """End its lifespan. Raises LifespanError."""
        if self._lifespan is not None:
            await self._lifespan.shutdown()
        if self._executor is not None:
            self._executor.shutdown(wait=False)

    def abandon(self) -> None:
        """End its lifespan as well as can be without waiting for it; from any thread."""
        if self._lifespan is not None:
            self._lifespan.abandon()
        if self._executor is not None:
            self._executor.shutdown(wait=False)

    async def serve(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request, whose scope is its own. The lifespan's state becomes part of that."""
        scope["state"] = {**scope.get("state", {}), **self.state}
        await self.application(scope, receive, send)

    def _as_asgi(self, application: Any) -> Any:
        try:
            from a2wsgi import WSGIMiddleware
        except ModuleNotFoundError as error:
            raise MissingExtraError(
                f"the WSGI application of plugin {self.plugin!r} needs a2wsgi, which is not "
                "installed; install it with: pip install 'plugkeep[web]'",
                source="a2wsgi",
            ) from error
        adapted = WSGIMiddleware(application, workers=WSGI_THREADS)
        self._executor = adapted.executor
        return adapted


def offered_by(plugin_name: str, plugin: object) -> Offered | None:
    """Return what `plugin` offers as its `application`; None: it has none.

    Raises InvalidApplicationError, naming the plugin, where that is none.
    """
    application = getattr(plugin, "application", None)
    if application is None:
        return None
    mount = check_mount(plugin_name, getattr(plugin, "mount", None))
    return Offered(plugin_name, application, mount)


def is_asgi(plugin: str, application: Any) -> bool:
    """Say whether `application` is ASGI, rather than WSGI. Raises InvalidApplicationError.

    What is not ``async def`` is told by how many arguments it takes: three, or two.
    """
    if inspect.iscoroutinefunction(application) or inspect.iscoroutinefunction(
        getattr(application, "__call__", None)  # noqa: B004  # an object with an async __call__
    ):
        return True
    if callable(application) and not isinstance(application, type):
        for count in (3, 2):
            if _takes(application, count):
                return count == 3
    raise InvalidApplicationError(
        f"application of plugin {plugin!r} is {application!r:.200}; it takes an ASGI application, "
        "which is called with scope, receive and send, or a WSGI one, with environ and "
        "start_response",
        plugin=plugin,
    )


def _takes(function: Callable[..., Any], count: int) -> bool:
    try:
        inspect.signature(function).bind(*[None] * count)
    except (TypeError, ValueError):
        return False
    return True
