"""The contract of a plugin, as a suite: what each has to pass, wherever it comes from and runs."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Collection, Coroutine, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Final

from plugkeep.config.typed import set_config
from plugkeep.errors import (
    AlreadyStartedError,
    AsyncPluginError,
    LifecycleError,
    NotStartedError,
    PluginError,
)
from plugkeep.host.required import asks_for
from plugkeep.lifecycle import check_timeout
from plugkeep.loaders.native import NativePlugin
from plugkeep.names import check_name, check_requires
from plugkeep.plugin import examine, exposed
from plugkeep.registry import Registry
from plugkeep.routing import RouteTable
from plugkeep.routing.mount import check_mount
from plugkeep.routing.providers import routes_of
from plugkeep.sandbox import Sandbox
from plugkeep.spec import PluginSpec
from plugkeep.testing._leftovers import Leftovers
from plugkeep.testing.contract import Findings, Rule
from plugkeep.web.application import is_asgi

#: Seconds that what a plugin has started has for ending, counted from its stop.
PATIENCE: Final = 2.0
#: So many things that are left are told one by one.
_SHOWN: Final = 8

PLUGIN_RULES: Final[dict[str, Rule]] = {
    rule.name: rule
    for rule in (
        Rule("plugin", "what the factory makes is a plugin: it has a name, start() and stop()"),
        Rule("name", "its name is a letter or digit, then letters, digits, '_', '.' or '-'"),
        Rule("name-stays", "its name stays the same"),
        Rule("requires", "requires is a collection of names of plugins"),
        Rule("timeouts", "start_timeout and stop_timeout are numbers above 0, or None"),
        Rule("thread-bound", "thread_bound is True or False"),
        Rule("no-arguments", "start() and stop() take no arguments"),
        Rule("config", "config is annotated with a type, which what is given fits"),
        Rule("exposed", "the methods that it exposes are there, and can be called"),
        Rule("start", "start() returns"),
        Rule("stop", "stop() returns"),
        Rule("again", "what was stopped can be started and stopped again"),
        Rule("in-time", "start, stop, health and routes return in time"),
        Rule("exceptions", "it says that it fails by an exception, and does not end the host"),
        Rule("start-fails", "its start fails, as is expected"),
        Rule("twice", "a sandbox refuses to be started while it runs, and to be stopped else"),
        Rule("routes", "routes() gives routes that do not conflict with one another"),
        Rule("application", "application is ASGI, WSGI or None, and mount a path"),
        Rule("health", "health() returns None when it is well, else a text that says why not"),
        Rule("tasks", "no task is left of it when it has stopped, or failed to start"),
        Rule("threads", "no thread is left of it when it has stopped, or failed to start"),
        Rule("processes", "no process is left of it when it has stopped, or failed to start"),
        Rule("descriptors", "no descriptor is left open when it has stopped, or failed to start"),
        Rule("files", "no temporary file is left when it has stopped, or failed to start"),
    )
}


def check_plugin(
    factory: Callable[[], Any],
    *,
    config: Mapping[str, Any] | None = None,
    required: Mapping[str, Any] | None = None,
    start_fails: bool = False,
    timeout: float = 10.0,
    skip: Collection[str] | str = (),
) -> None:
    """Check that what `factory` makes keeps the contract of a plugin; it may be a sandbox, too.

    It is made, configured with `config` as a host's file would, given `required` (stand-ins for
    what it requires otherwise), started, asked for what it offers, stopped, and all that once
    more; asynchronous ones in an event loop, so not to be called from within one. `timeout` is how
    many seconds each step may take. With `start_fails` its start has to fail, and to leave nothing
    behind. `skip` are names of rules, of `PLUGIN_RULES`, that are left out.

    Meanwhile temporary files go to a folder of their own, and processes that lose their parents
    become children of this one; those that are left in the end are killed. Nothing else should
    start threads or open files in this process at the same time.

    Raises ContractError with all that was found. ValueError for a rule in `skip` that is none.
    """
    __tracebackhide__ = True
    findings = Findings("the plugin", PLUGIN_RULES, skip)
    with Leftovers() as leftovers:
        plugin = _made(factory, findings)
        if plugin is not None:
            trial = _Trial(plugin, findings, timeout)
            trial.look_at(config, required)
            if not trial.is_broken:
                trial.live(start_fails)
            del trial, plugin
        for kind, left in leftovers.find(PATIENCE).items():
            if left:
                more = f"; and {len(left) - _SHOWN} more" if len(left) > _SHOWN else ""
                findings.note(kind, "; ".join(left[:_SHOWN]) + more)
    findings.conclude()


def _made(factory: Callable[[], Any], findings: Findings) -> Any:
    """Return the plugin; None where there is none."""
    try:
        plugin = factory()
    except Exception as error:
        findings.note("plugin", f"the factory raised {_told(error)}")
        return None
    except SystemExit as error:
        findings.note("exceptions", f"the factory raised {_told(error)}")
        return None
    name, lack = examine(plugin)
    if name:
        findings.subject = f"plugin {name!r}"
    if lack:
        findings.note("plugin", f"{lack}: {plugin!r:.200}")
        return None
    return plugin


class _StandIn:
    """What stands for a plugin that is required."""

    def __init__(self, name: str) -> None:
        self.name = name

    def start(self) -> None: ...
    def stop(self) -> None: ...


class _Trial:
    """One plugin, on trial."""

    def __init__(self, plugin: Any, findings: Findings, timeout: float) -> None:
        self.is_broken = False
        self._plugin = plugin
        self._name = plugin.name
        self._key = "plugin"
        self._findings = findings
        self._timeout = timeout
        self._registry = Registry(start_timeout=timeout, stop_timeout=timeout)

    # --- before it starts -----------------------------------------------------------------

    def look_at(self, config: Mapping[str, Any] | None, required: Mapping[str, Any] | None) -> None:
        """Check what can be seen before it starts, and give it what it asks for."""
        self._attempt("name", self._check_name)
        self._attempt("requires", lambda: self._require(required or {}))
        for attribute in ("start_timeout", "stop_timeout"):
            value = getattr(self._plugin, attribute, None)
            self._attempt("timeouts", partial(check_timeout, attribute, value))
        bound = getattr(self._plugin, "thread_bound", False)
        if not isinstance(bound, bool):
            self._findings.note("thread-bound", f"thread_bound is {bound!r}")
        for method in ("start", "stop"):
            if (problem := _arguments(getattr(self._plugin, method))) is not None:
                self._findings.note("no-arguments", f"{method}{problem}")
                self.is_broken = True
        self._attempt("config", lambda: self._configure(config or {}))
        self._attempt("exposed", self._check_exposed)

    def _check_name(self) -> None:
        self._key = check_name(self._name)

    def _require(self, given: Mapping[str, Any]) -> None:
        names = check_requires(self._key, getattr(self._plugin, "requires", ()))
        for name in names:
            self._registry.register(_StandIn(name))
        self._registry.register(self._plugin, name=self._key)
        if asks_for(self._plugin, "required"):
            self._plugin.required = {name: given.get(name, _StandIn(name)) for name in names}

    def _configure(self, config: Mapping[str, Any]) -> None:
        if isinstance(self._plugin, Sandbox):  # whose plugin is configured at its start
            return
        if not config and not asks_for(self._plugin, "config"):
            return
        spec = PluginSpec(name=self._key, source="check_plugin", config=config)
        for key, text in set_config(self._plugin, spec):
            self._findings.note("config", f"{'.'.join(('config', *key))}: {text}")
            self.is_broken = True

    def _check_exposed(self) -> None:
        for name, (attribute, _) in exposed(self._plugin).items():
            if not callable(method := getattr(self._plugin, attribute, None)):
                self._findings.note("exposed", f"{name!r} is {method!r:.200}")

    def _attempt(self, rule: str, act: Callable[[], object]) -> None:
        try:
            act()
        except Exception as error:
            self._findings.note(rule, str(error))
            self.is_broken = self.is_broken or rule in _NEEDED

    # --- its life -------------------------------------------------------------------------

    def live(self, start_fails: bool) -> None:
        """Start and stop it, twice over."""
        try:
            self._live(start_fails)
        except _IsAsync:  # the registry says so before it calls anything
            asyncio.run(self._alive(start_fails))

    def _live(self, start_fails: bool) -> None:
        for rules in _CYCLES:
            error = _outcome(lambda: self._registry.start(self._key))
            if not self._has_started(rules, error, start_fails):
                break
            for rule, ask in self._questions():
                self._note_answer(rule, _within(self._timeout, partial(_awaited, ask)))
            self._try_twice_while_running()
            if not self._has_stopped(rules, _outcome(lambda: self._registry.stop(self._key))):
                break
            self._try_stopping_twice()
        _outcome(self._registry.stop_all)

    async def _alive(self, start_fails: bool) -> None:
        before = asyncio.all_tasks()
        for rules in _CYCLES:
            error = await _aoutcome(self._registry.astart(self._key))
            if not self._has_started(rules, error, start_fails):
                break
            for rule, ask in self._questions():
                answer = await asyncio.to_thread(_within, self._timeout, ask)
                if inspect.iscoroutine(answer):
                    answer = await _aoutcome(asyncio.wait_for(answer, self._timeout))
                self._note_answer(rule, answer)
            if not self._has_stopped(rules, await _aoutcome(self._registry.astop(self._key))):
                break
        await _aoutcome(self._registry.astop_all())
        if left := asyncio.all_tasks() - before:
            _, left = await asyncio.wait(left, timeout=PATIENCE)
        if left:
            self._findings.note("tasks", "; ".join(f"task {_task(each)}" for each in left))

    def _has_started(
        self, rules: tuple[str, str], error: BaseException | None, start_fails: bool
    ) -> bool:
        self._note_life(rules[0], error if not start_fails or _is_foul(error) else None)
        if start_fails and error is None:
            self._findings.note("start-fails", "it has started")
        self._check_name_stays("start")
        return error is None

    def _has_stopped(self, rules: tuple[str, str], error: BaseException | None) -> bool:
        self._note_life(rules[1], error)
        self._check_name_stays("stop")
        return error is None

    def _note_life(self, rule: str, error: BaseException | None) -> None:
        if isinstance(error, TimeoutError):
            self._findings.note("in-time", str(error))
        elif isinstance(error, Exception):
            self._findings.note(rule, str(error))
        elif error is not None:
            self._findings.note("exceptions", f"it raised {_told(error)}")

    def _check_name_stays(self, step: str) -> None:
        if (name := self._plugin.name) != self._name:
            self._findings.note("name-stays", f"after {step} it is {name!r}, not {self._name!r}")

    def _try_twice_while_running(self) -> None:
        if isinstance(self._plugin, (Sandbox, NativePlugin)):
            self._must_refuse("start() of what runs", self._plugin.start, AlreadyStartedError)

    def _try_stopping_twice(self) -> None:
        if isinstance(self._plugin, (Sandbox, NativePlugin)):
            self._must_refuse("stop() of what is stopped", self._plugin.stop, NotStartedError)

    def _must_refuse(self, what: str, act: Callable[[], object], kind: type[PluginError]) -> None:
        error = _outcome(act)
        if not isinstance(error, kind):
            came = "was not refused" if error is None else f"raised {_told(error)}"
            self._findings.note("twice", f"{what} {came}; it takes {kind.__name__}")

    # --- what it offers -------------------------------------------------------------------

    def _questions(self) -> Iterator[tuple[str, Callable[[], object]]]:
        """Yield what is asked of it while it runs; what goes wrong is raised."""
        plugin = self._plugin
        if hasattr(plugin, "routes"):
            yield "routes", self._ask_routes
        if hasattr(plugin, "application"):
            yield "application", self._ask_application
        if isinstance(plugin, Sandbox):
            if "health" in (plugin.methods or ()):
                yield "health", lambda: _health_of(plugin.call("health", timeout=self._timeout))
        elif hasattr(plugin, "health"):
            yield "health", lambda: _health_of(plugin.health())

    def _ask_routes(self) -> None:
        RouteTable().add(*routes_of(self._key, self._plugin), plugin=self._key)

    def _ask_application(self) -> None:
        if (application := self._plugin.application) is not None:
            is_asgi(self._key, application)
            check_mount(self._key, getattr(self._plugin, "mount", None))

    def _note_answer(self, rule: str, error: object) -> None:
        if isinstance(error, TimeoutError):
            self._findings.note("in-time", f"{rule} was not there after {self._timeout:g} s")
        elif isinstance(error, (PluginError, _Unfit)):
            self._findings.note(rule, str(error))
        elif isinstance(error, Exception):
            self._findings.note(rule, f"it raised {_told(error)}")
        elif isinstance(error, BaseException):
            self._findings.note("exceptions", f"{rule} raised {_told(error)}")


#: Where these are broken there is no use in starting it.
_NEEDED: Final = frozenset({"requires", "timeouts", "config"})
#: The rules that a start and a stop which fail break, the first time and the second.
_CYCLES: Final = (("start", "stop"), ("again", "again"))


class _IsAsync(Exception):
    """Raised where a plugin turns out to need an event loop."""


def _outcome(act: Callable[[], object]) -> BaseException | None:
    """Return what `act` raises, but let the user's Ctrl-C through."""
    try:
        act()
    except AsyncPluginError as error:
        raise _IsAsync from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return error
    return None


async def _aoutcome(step: Coroutine[Any, Any, object]) -> BaseException | None:
    try:
        await step
    except (Exception, SystemExit) as error:
        return error
    return None


def _is_foul(error: BaseException | None) -> bool:
    """Say whether a start that is to fail did so in the wrong way."""
    return isinstance(error, TimeoutError) or not isinstance(error, (Exception, type(None)))


def _within(seconds: float, ask: Callable[[], object]) -> object:
    """Return what `ask` raises, or a coroutine that it returns; TimeoutError: it takes too long."""
    answer: list[object] = []

    def run() -> None:
        try:
            result = ask()
        except BaseException as error:
            answer.append(error)
        else:
            answer.append(result)

    thread = threading.Thread(target=run, name="plugkeep-check", daemon=True)
    thread.start()
    thread.join(seconds)
    return answer[0] if answer else TimeoutError()


class _Unfit(Exception):
    """Raised where an answer is not as it should be; the text says what it is."""


def _health_of(told: object) -> object:
    """Return None, or a coroutine that does; raise where that is no health. Unwell will do."""
    if inspect.iscoroutine(told):
        return _ahealth_of(told)
    if told is None or told is True:  # which hosts take for well, too
        return None
    if not (isinstance(told, str) and told.strip()):
        raise _Unfit(f"it returned {told!r:.200}")
    return None


async def _ahealth_of(told: Coroutine[Any, Any, object]) -> None:
    _health_of(await told)


def _awaited(ask: Callable[[], object]) -> object:
    answer = ask()
    return asyncio.run(answer) if inspect.iscoroutine(answer) else answer


def _arguments(method: Callable[..., object]) -> str | None:
    """Return the signature of a method that cannot be called without arguments."""
    with suppress(ValueError):  # it has none that can be known
        signature = inspect.signature(method)
        try:
            signature.bind()
        except TypeError:
            return str(signature)
    return None


def _task(task: asyncio.Task[Any]) -> str:
    coroutine = task.get_coro()
    return f"{task.get_name()!r} of {getattr(coroutine, '__qualname__', coroutine)}"


def _told(error: BaseException) -> str:
    cause = error.__cause__ if isinstance(error, LifecycleError) and error.__cause__ else error
    return f"{type(cause).__name__}: {cause}"
