"""The host: plugins from a configuration file, and whatever a process does with them."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager, contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self, cast

from plugkeep.config.model import HostConfig
from plugkeep.config.reading import read_config
from plugkeep.errors import (
    LoadError,
    NotStartedError,
    PluginError,
    RequirementFailedError,
    StartError,
)
from plugkeep.host.building import Fitting, populate
from plugkeep.host.granting import HostLoop
from plugkeep.host.renewing import Renewing, renewing
from plugkeep.lifecycle import UP, State, check_timeout
from plugkeep.order import users
from plugkeep.registry import Registry
from plugkeep.registry.ledger import make_entry
from plugkeep.registry.outcomes import raise_for
from plugkeep.restart import RestartPolicy
from plugkeep.sandbox import Sandbox
from plugkeep.sandbox._loops import running_loop
from plugkeep.supervision import Supervisor
from plugkeep.supervision.watchdog import ask

if TYPE_CHECKING:
    import logging
    import os
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator
    from types import TracebackType

    from starlette.types import ASGIApp

    from plugkeep.health import Watchdog
    from plugkeep.host.running import Duty
    from plugkeep.plugin import Plugin
    from plugkeep.routing import RouteTable
    from plugkeep.spec import PluginSpec
    from plugkeep.web._wsgi import WsgiApp

#: Seconds that a plugin which has come up has for being well, and between two looks at that.
HEALTHY_WITHIN = 10.0
_LOOKS = 0.05

#: A method of the registry and the name of a plugin for it.
_Task = tuple[str, str]


class Host:
    """A registry with the specs that its plugins came from.

    `registry` is made where none is given. `shutdown_timeout` is how many seconds stopping all
    plugins may take, whatever their own limits; None: as long as those allow.

    As a context manager, plain or asynchronous, a host is as strict as its registry: all plugins
    start or none stays started.
    """

    def __init__(
        self, registry: Registry | None = None, *, shutdown_timeout: float | None = None
    ) -> None:
        self.registry = Registry() if registry is None else registry
        self._specs: dict[str, PluginSpec] = {}
        self._config = HostConfig(
            path="", shutdown_timeout=check_timeout("shutdown_timeout", shutdown_timeout)
        )
        self._loop = HostLoop()
        self._supervisor = Supervisor(
            self.registry,
            self._restart_policy,
            watchdog=self._watchdog,
            loop=lambda: self._loop.current,
        )
        self.registry.recovery.follow(self._supervisor.look_after)

    def _restart_policy(self, name: str) -> RestartPolicy:
        spec = self._specs.get(name)
        return RestartPolicy() if spec is None else spec.restart_policy

    def _watchdog(self, name: str) -> Watchdog | None:
        spec = self._specs.get(name)
        return cast("Watchdog | None", None if spec is None else spec.watchdog)

    # --- assembling -----------------------------------------------------------------------

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], *, known: Iterable[str] = ()) -> Self:
        """Return a host with the plugins of the TOML file at `path`, loaded and configured.

        Nothing is started. `known` names plugins that will be registered with the host's registry
        by code, so plugins of the file may require them.

        Raises ConfigError listing every problem: of the file, or else of loading and configuring
        its plugins; what a plugin's own code raised is in the error's cause, an ExceptionGroup.
        """
        return cls.from_config(read_config(path, known=known))

    @classmethod
    def from_config(cls, config: HostConfig) -> Self:
        """Return a host with the plugins of `config`, as `from_file` does."""
        registry = Registry(
            start_timeout=config.start_timeout,
            stop_timeout=config.stop_timeout,
            workers=config.workers,
        )
        host = cls(registry)
        host._config = config
        if config.preimport is not None:
            from plugkeep.sandbox.preimports import preimport

            preimport(*config.preimport)
        for warning in config.warnings:
            _log().warning("%s", warning)
        host.add(*config.plugins)
        return host

    def add(self, *specs: PluginSpec) -> None:
        """Load, configure and register the plugin of each of `specs`: all or, on an error, none.

        Raises ConfigError listing every problem.
        """
        fitting = self._fitting()
        populate(self.registry, specs, fitting)
        fitting.raise_problems()
        self._specs.update((spec.name, spec) for spec in specs)

    @property
    def specs(self) -> dict[str, PluginSpec]:
        """What each plugin was made from, by name; plugins registered by code have no spec."""
        return dict(self._specs)

    # --- all plugins ----------------------------------------------------------------------

    def start(self) -> list[PluginError]:
        """Start every plugin that is not running and return what went wrong."""
        return self.registry.start_all()

    def stop(self) -> list[PluginError]:
        """Stop every running plugin, the last started first, and return what went wrong.

        Where the configuration has a `shutdown_timeout`, all of it takes no longer.
        """
        return self.registry.stop_all(timeout=self._config.shutdown_timeout)

    async def astart(self) -> list[PluginError]:
        """Like `start`, for hosts that run an event loop."""
        self._loop.note()
        return await self.registry.astart_all()

    async def astop(self) -> list[PluginError]:
        """Like `stop`, for hosts that run an event loop."""
        return await self.registry.astop_all(timeout=self._config.shutdown_timeout)

    def __enter__(self) -> Self:
        self.registry.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.registry.__exit__(kind, error, traceback)

    async def __aenter__(self) -> Self:
        self._loop.note()
        await self.registry.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.registry.__aexit__(kind, error, traceback)

    def run(
        self,
        *,
        strict: bool = False,
        when_started: Callable[[], object] = lambda: None,
        duty: Duty | None = None,
    ) -> list[PluginError]:
        """Start all plugins, wait for SIGINT, SIGTERM or SIGHUP, stop all; return what went wrong.

        `when_started` is called in between. Plugins that fail do not keep the others from
        running, unless `strict`; if none is running after the start, nor is to come back, it ends
        at once. Asynchronous plugins are given an event loop, on a thread of its own. With a `duty`
        it does not end by itself, and that is seen to whenever it has something to be done.

        To stop all takes no longer than the configuration's `shutdown_timeout`, or 30 s. A second
        signal hurries: the plugin that is stopping just then is given up, and the others have a
        second altogether. A third one ends them by force. None is left out.

        Raises LifecycleError when called from another thread than the main one, and
        RequirementError before anything starts.
        """
        from plugkeep.host.running import SHUTDOWN_TIMEOUT, run

        return run(
            self.registry,
            strict=strict,
            when_started=when_started,
            when_looping=self._loop.note,
            duty=duty,
            shutdown_timeout=self._config.shutdown_timeout or SHUTDOWN_TIMEOUT,
        )

    # --- one plugin -----------------------------------------------------------------------

    def restart(self, name: str) -> None:
        """Stop a plugin and the running ones that require it, and start them again.

        One that is not running is started, a quarantined one, too, together with those that could
        not run without it. All is attempted; then the first error is raised, with
        the others as its notes.
        """
        self._do(name, self._restarting(name))

    def reload(self, name: str, *, overlap: bool = True) -> None:
        """Load a plugin's source afresh and put what it makes in the plugin's place.

        Its configuration is the same. The new one is started while the old one goes on; when it
        is up, and well, calls and routes go to it, and the old one is stopped once it has answered
        what it has under way. On any failure before that the new one is stopped again, and the old
        one goes on. Those that require it hear of it by the event `Reloaded`; where their specs
        say so by `on_reload`, they are restarted.

        With `overlap` false, or where the plugin is not running or requires others than before,
        there are never two: it and those that require it are stopped before and started after,
        if they were running; a failed plugin is started, too.

        Where it has a process of its own, another one loads and configures it first, to see
        whether it can. Elsewhere a ``file:`` source is executed again; of a module that can be
        imported that one, its submodules, and the package around it if that is the plugin's alone,
        are imported anew. C extensions, which can be imported only once, stay as they are.

        Raises ConfigError, having changed nothing, if the source cannot be loaded now, or does
        not take the configuration; and what `Registry.reload`, or `restart`, does.
        """
        loop = self._loop.current
        if loop is not None and running_loop() is None and self.registry.recovery.needs_loop(name):
            loop.run(lambda: self.areload(name, overlap=overlap), lambda _cancel: None)
            return
        spec = self._spec_of(name)
        self._rehearse(spec)
        with renewing(self.registry, name, self._specs.values()) as anew:
            if (plugin := self._successor(spec, anew, overlap=overlap)) is not None:
                self.registry.reload(name, plugin, check=lambda new: self._check_health(spec, new))
                self._do(name, self._following(name))
                return
            with self._telling_what_is_left(name):
                self._do(name, self._reloading(spec, anew))

    async def arestart(self, name: str) -> None:
        """Like `restart`, for hosts that run an event loop."""
        await self._ado(name, self._restarting(name))

    async def areload(self, name: str, *, overlap: bool = True) -> None:
        """Like `reload`, for hosts that run an event loop."""
        from asyncio import to_thread

        self._loop.note()
        spec = self._spec_of(name)
        await to_thread(self._rehearse, spec)
        with renewing(self.registry, name, self._specs.values()) as anew:
            if (plugin := self._successor(spec, anew, overlap=overlap)) is not None:
                await self.registry.areload(
                    name, plugin, check=lambda new: self._check_health(spec, new)
                )
                await self._ado(name, self._following(name))
                return
            with self._telling_what_is_left(name):
                await self._ado(name, self._reloading(spec, anew))

    def health(self, name: str, *, timeout: float | None = HEALTHY_WITHIN) -> str | None:
        """Ask a plugin how it is: return why it is degraded, None where it is well.

        What it says is noted, as if its watchdog had asked. One without a `health` is well as long
        as it runs, and answers. `timeout` is in seconds. Raises CallTimeoutError, and
        NotStartedError or ProcessExitedError where it does not run.
        """
        plugin = self.registry[name]
        if self.registry.state(name) not in UP:
            text = f"plugin {name!r} is {self.registry.state(name)}, and cannot be asked how it is"
            raise NotStartedError(text, plugin=name)
        reason = ask(name, plugin, timeout, self._loop.current)
        self.registry.recovery.degrade(name, plugin, reason)
        return reason

    def _successor(self, spec: PluginSpec, anew: Renewing, *, overlap: bool) -> Plugin | None:
        """Return what is to take the place of a plugin that goes on until then; None: nothing."""
        if not overlap or self.registry.state(spec.name) not in UP:
            return None
        plugin = self._built(spec, anew)
        required = make_entry(plugin, spec.name, spec.requires).requires
        return plugin if required == self.registry.requirements()[spec.name] else None

    def _check_health(self, spec: PluginSpec, plugin: Plugin) -> None:
        """Wait until a plugin that has started is well. Raises StartError where it is not."""
        patience = spec.start_timeout or self._config.start_timeout or HEALTHY_WITHIN
        deadline = time.monotonic() + min(patience, HEALTHY_WITHIN)
        while True:
            left = max(deadline - time.monotonic(), 0.0)
            reason = ask(spec.name, plugin, left or _LOOKS, self._loop.current)
            if reason is None:
                return
            if not left:
                text = f"plugin {spec.name!r} has come up, and is not well: {reason}"
                raise StartError(text, plugin=spec.name)
            time.sleep(min(_LOOKS, left))

    def _following(self, name: str) -> Iterator[_Task]:
        """Yield what is to be done where those that require a plugin want to be restarted."""
        requirements, order = self.registry.requirements(), self._needing(name)
        concerned: set[str] = set()
        for each in order:
            if name in requirements[each] and self._follows(each):
                concerned |= users(each, requirements)
        again = [each for each in order if each in concerned and self._is_to_run(each)]
        yield from (("stop", each) for each in reversed(again))
        yield from (("start", each) for each in again)

    def _follows(self, name: str) -> bool:
        """Say whether a plugin is to be restarted after what it requires has been reloaded."""
        spec = self._specs.get(name)
        told = "keep" if spec is None else spec.on_reload
        return "restart" in (told, getattr(self.registry[name], "on_reload", "keep"))

    def _spec_of(self, name: str) -> PluginSpec:
        self.registry.state(name)  # or it has no such plugin
        spec = self._specs.get(name)
        if spec is None:
            raise LoadError(
                f"plugin {name!r} was registered by code: there is no source to load it from again",
                source="",
                plugin=name,
            )
        return spec

    def _rehearse(self, spec: PluginSpec) -> None:
        fitting = self._fitting()
        fitting.rehearse(spec)
        fitting.raise_problems()

    def _fitting(self) -> Fitting:
        return Fitting(self._config, self.registry, self._loop)

    def _built(self, spec: PluginSpec, anew: Renewing) -> Plugin:
        fitting = Fitting(self._config, self.registry, self._loop, load=anew.load)
        plugin = fitting.build(spec)
        fitting.raise_problems()
        assert plugin is not None  # noqa: S101  # or there had been a problem
        return plugin

    def _reloading(self, spec: PluginSpec, anew: Renewing) -> Iterator[_Task]:
        plugin = self._built(spec, anew)
        return self._restarting(
            spec.name,
            lambda: self._put(spec, plugin),
            start=self.registry.state(spec.name) not in (State.REGISTERED, State.STOPPED),
        )

    def _put(self, spec: PluginSpec, plugin: Plugin) -> None:
        """Put a plugin in the place of one that does not run."""
        old = self.registry[spec.name]
        if isinstance(old, Sandbox) and isinstance(plugin, Sandbox):
            old.adopt(plugin)
            plugin = old
        self.registry.replace(spec.name, plugin, requires=spec.requires)

    @contextmanager
    def _telling_what_is_left(self, name: str) -> Iterator[None]:
        """Have an error say which plugin is there after all, the old one or the new one."""
        old = _of_what(self.registry[name])
        try:
            yield
        except PluginError as error:
            which = "old" if _of_what(self.registry.get(name)) is old else "new"
            told = f"after the reload it is the {which} {name!r} that is there, and it is"
            error.message = f"{error.message}; {told} {self.registry.state(name)}"
            error.args = (error.message,)
            raise

    def _restarting(
        self, name: str, exchange: Callable[[], object] = lambda: None, *, start: bool = True
    ) -> Iterator[_Task]:
        """Yield what is to be done one after the other, exchanging the plugin in between."""
        again = [each for each in self._needing(name) if self._is_to_run(each)]
        whole = tuple(dict.fromkeys((name, *again))) if start else ()
        with self._supervisor.outlook.returning(whole):
            yield "stop", name
            exchange()
            yield from (("start", each) for each in whole)

    def _is_to_run(self, name: str) -> bool:
        """Say whether a plugin is up, or would be but for what it requires."""
        if self.registry.state(name) in (*UP, State.RESTARTING):
            return True
        return isinstance(self.registry.failure(name), RequirementFailedError)

    def _needing(self, name: str) -> list[str]:
        """Return `name` and all that directly or indirectly require it, in order of start."""
        needing = users(name, self.registry.requirements())
        return [each for each in self.registry.start_order() if each in needing]

    def _do(self, name: str, tasks: Iterator[_Task]) -> None:
        errors: list[PluginError] = []
        with _collecting(errors):
            for verb, each in tasks:
                with _collecting(errors):
                    getattr(self.registry, verb)(each)
        raise_for(name, errors)

    async def _ado(self, name: str, tasks: Iterator[_Task]) -> None:
        errors: list[PluginError] = []
        with _collecting(errors):
            for verb, each in tasks:
                with _collecting(errors):
                    await getattr(self.registry, f"a{verb}")(each)
        raise_for(name, errors)

    # --- the web --------------------------------------------------------------------------

    @cached_property
    def routes(self) -> RouteTable:
        """The routes of all plugins, as they come and go; the host may add its own."""
        from plugkeep.routing import RouteTable, follow_routes, register_route_providers
        from plugkeep.web.mounts import mount_applications

        table = RouteTable()
        follow_routes(self.registry, table)
        register_route_providers(self.registry, table)
        mount_applications(self.registry, table)
        return table

    def asgi(self, *, strict: bool = False, **options: Any) -> ASGIApp:
        """Return an ASGI application: the routes of all plugins, and their lives as its lifespan.

        Plugins start when the server starts and stop when it stops. One that fails is logged and
        its routes are missing, or answer 503; with `strict` the server does not start then.
        `options` are those of `plugkeep.web.asgi`, such as `authorize`.
        """
        from plugkeep.web import asgi

        @asynccontextmanager
        async def lifespan(_app: object) -> AsyncIterator[None]:
            if strict:
                async with self:
                    yield
                return
            try:
                _report(await self.astart())
                yield
            finally:
                _report(await self.astop())

        return asgi(self.routes, registry=self.registry, lifespan=lifespan, **options)

    def wsgi(self, **options: Any) -> WsgiApp:
        """Return a WSGI application with every plugin's routes.

        WSGI has no lifespan: start and stop the host around it. `options` are those of
        `plugkeep.web.wsgi`.
        """
        from plugkeep.web import wsgi

        return wsgi(self.routes, registry=self.registry, **options)


def _of_what(plugin: object) -> object:
    """Return what tells an old plugin from a new one, where a sandbox stands for both."""
    return plugin._command if isinstance(plugin, Sandbox) else plugin


@contextmanager
def _collecting(errors: list[PluginError]) -> Iterator[None]:
    try:
        yield
    except PluginError as error:
        errors.append(error)


def _report(errors: list[PluginError]) -> None:
    for error in errors:
        _log().error("%s", error)


def _log() -> logging.Logger:
    import logging

    return logging.getLogger("plugkeep.host")
