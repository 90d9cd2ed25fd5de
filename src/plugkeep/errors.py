"""Every error that plugkeep raises, in one tree.

All derive from `PluginError`, in seven families:

    PluginError
    ├── RegistryError    what is registered, and under which name
    ├── LoadError        turning a source into a plugin
    ├── LifecycleError   starting and stopping
    ├── SandboxError     the process that a plugin runs in
    ├── ProtocolError    what is said between host and plugin
    ├── CallError        calling a plugin's methods
    └── ConfigError      configuration and manifests

Errors about time are also `TimeoutError`, errors about a missing key also `KeyError`, errors
about a missing file also `FileNotFoundError`, so code that knows nothing of plugkeep can catch
them. Each carries what it is about as attributes.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class PluginError(Exception):
    """Root of all errors raised by plugkeep.

    `plugin` is the name of the plugin concerned, or None where no single one is.
    """

    def __init__(self, message: str, *, plugin: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.plugin = plugin

    def __str__(self) -> str:
        # KeyError's own str() would quote the sentence, OSError's would look for an errno.
        return self.message

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions with keyword-only arguments do not survive pickling by themselves.
        return (_rebuild, (type(self), self.message, dict(self.__dict__)))


def _rebuild(kind: type[PluginError], message: str, state: dict[str, object]) -> PluginError:
    error = kind.__new__(kind, message)
    error.args = (message,)
    error.__dict__.update(state)
    return error


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'a' or 'b'?"`` for the known words nearest to `word`, or nothing."""
    near = get_close_matches(word, list(known), n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else ""


# --- Registry ---------------------------------------------------------------------------------


class RegistryError(PluginError):
    """Family: what is registered, and under which name."""


class InvalidPluginError(RegistryError, TypeError):
    """Raised when a value that is no plugin is registered; the message says what it lacks."""


class InvalidNameError(RegistryError, ValueError):
    r"""Raised when a name does not match ``[A-Za-z0-9][\w.-]*``."""


class AlreadyRegisteredError(RegistryError):
    """Raised when the name is taken. Choose another with ``register(plugin, name=...)``."""


class PluginNotFoundError(RegistryError, KeyError):
    """Raised when no plugin of that name is registered; names near misses."""


class RequirementError(RegistryError):
    """Raised, before anything starts, when requirements cannot be met.

    `cycles` holds each cycle as the tuple of its names, and `missing` each pair of
    (plugin, the name that it requires and nobody registered).
    """

    def __init__(
        self,
        message: str,
        *,
        plugin: str | None = None,
        cycles: tuple[tuple[str, ...], ...] = (),
        missing: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(message, plugin=plugin)
        self.cycles = cycles
        self.missing = missing


class RequiredError(RegistryError):
    """Raised when a plugin cannot be unregistered because running plugins require it.

    `dependents` names them. Stop them first.
    """

    def __init__(self, message: str, *, plugin: str, dependents: tuple[str, ...]) -> None:
        super().__init__(message, plugin=plugin)
        self.dependents = dependents


class FactoryExistsError(RegistryError):
    """Raised when a factory of that name is registered already."""


class FactoryNotFoundError(RegistryError, KeyError):
    """Raised when no factory of that name is registered; names near misses."""


class InvalidFactoryError(RegistryError, TypeError):
    """Raised when a value that cannot be called is registered as a factory."""


class InvalidRouteError(RegistryError, ValueError):
    """Raised for a route that cannot be one, and for a plugin whose `routes()` gives none."""


class InvalidApplicationError(RegistryError, TypeError):
    """Raised for a plugin whose `application` is neither ASGI nor WSGI, or whose `mount` is no
    path.
    """


class RouteConflictError(RegistryError):
    """Raised when two plugins claim the same route; `other` is the one that had it first.

    `method` and `path` are the route that was refused.
    """

    def __init__(
        self, message: str, *, plugin: str | None, other: str | None, method: str, path: str
    ) -> None:
        super().__init__(message, plugin=plugin)
        self.other = other
        self.method = method
        self.path = path


# --- Load -------------------------------------------------------------------------------------


class LoadError(PluginError):
    """Family: turning a source into a plugin. `source` is the text that was to be loaded."""

    def __init__(self, message: str, *, source: str, plugin: str | None = None) -> None:
        super().__init__(message, plugin=plugin)
        self.source = source


class InvalidSourceError(LoadError, ValueError):
    """Raised when a source text cannot be understood; the message lists the kinds there are."""


class SourceNotFoundError(LoadError, FileNotFoundError):
    """Raised when the file, module, distribution or program of a source does not exist."""


class UnusableSourceError(LoadError, OSError):
    """Raised when the file of a source is there but cannot be used.

    It is a folder or a device, it may not be read or executed, or its links lead in a circle.
    """


class SymbolNotFoundError(LoadError, AttributeError):
    """Raised when the source was found but has no symbol ``PluginFactory``."""


class WrongTypeError(LoadError, TypeError):
    """Raised when ``PluginFactory`` has wrong type; the message says what was found."""


class AbiVersionError(LoadError):
    """Raised when a native library was built for another version of ``plugkeep.h``.

    `found` and `supported` are the two versions.
    """

    def __init__(self, message: str, *, source: str, found: int, supported: int) -> None:
        super().__init__(message, source=source)
        self.found = found
        self.supported = supported


class NotALibraryError(LoadError):
    """Raised when the file exists but the system's loader refuses it as a shared library."""


class MissingExtraError(LoadError, ImportError):
    """Raised when an optional part of plugkeep is used whose packages are not installed.

    `source` is the package that is missing. The message says which extra brings it.
    """


class ImportFailedError(LoadError, ImportError):
    """Raised when importing a plugin's module raised; the original is the ``__cause__``."""


class FactoryFailedError(LoadError):
    """Raised when a factory raised instead of returning a plugin; see ``__cause__``."""


class NoPluginError(LoadError, TypeError):
    """Raised when a factory returned something that is no plugin; the message says what."""


# --- Lifecycle --------------------------------------------------------------------------------


class LifecycleError(PluginError):
    """Family: starting and stopping."""


class StartError(LifecycleError):
    """Raised when a plugin's start failed; the original exception is the ``__cause__``."""


class LifespanError(LifecycleError):
    """Raised when the lifespan of a plugin's ASGI application failed to begin, or to end."""


class StopError(LifecycleError):
    """Raised when a plugin's stop failed; the original exception is the ``__cause__``."""


class StartTimeoutError(StartError, TimeoutError):
    """Raised when a plugin's start took longer than `timeout` seconds."""

    def __init__(self, message: str, *, plugin: str | None, timeout: float) -> None:
        super().__init__(message, plugin=plugin)
        self.timeout = timeout


class StopTimeoutError(StopError, TimeoutError):
    """Raised when a plugin's stop took longer than `timeout` seconds."""

    def __init__(self, message: str, *, plugin: str | None, timeout: float) -> None:
        super().__init__(message, plugin=plugin)
        self.timeout = timeout


class RequirementFailedError(StartError):
    """Raised or reported when a plugin is not attempted because one it requires is not running.

    `requirement` is the name of that one.
    """

    def __init__(self, message: str, *, plugin: str, requirement: str) -> None:
        super().__init__(message, plugin=plugin)
        self.requirement = requirement


class StartAbandonedError(StartError):
    """Reported for a plugin that was not attempted because `stop_all` ended the start first."""


class PluginFailedError(LifecycleError):
    """Kept, and told by events, when a plugin that runs in the host's process has failed.

    What it has reported is the cause.
    """


class StillBusyError(StartError):
    """Raised when a plugin cannot start because an earlier start or stop has not returned yet."""


class AsyncPluginError(LifecycleError, TypeError):
    """Raised when a plugin with an ``async def`` start or stop is driven by a plain form.

    Use `astart_all`, `astop_all` or ``async with registry``.
    """


class ReentrantError(LifecycleError, RuntimeError):
    """Raised when start or stop is asked for from inside a plugin's start or stop, or a listener.

    It could only wait for itself. Registering is allowed there and joins the next `start_all`.
    """


class IllegalTransitionError(LifecycleError, RuntimeError):
    """Raised when a plugin would go from one state to another that the table does not allow."""


class NativeError(LifecycleError):
    """Raised when start or stop of a native plugin returned `code`, something other than 0."""

    def __init__(self, message: str, *, plugin: str, code: int) -> None:
        super().__init__(message, plugin=plugin)
        self.code = code


# --- Sandbox ----------------------------------------------------------------------------------


class SandboxError(PluginError):
    """Family: the process that a plugin runs in.

    `returncode` is its exit status (None while unknown, or when a signal ended it), `signal`
    the number of the signal that ended it (else None), `stderr` its last lines, oldest first.
    """

    def __init__(
        self,
        message: str,
        *,
        plugin: str | None = None,
        returncode: int | None = None,
        signal: int | None = None,
        stderr: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message, plugin=plugin)
        self.returncode = returncode
        self.signal = signal
        self.stderr = stderr


class LaunchError(SandboxError, OSError):
    """Raised when the program could not be executed at all (missing, no permission, no format)."""


class ProgramNotFoundError(LaunchError, FileNotFoundError):
    """Raised when the program does not exist, or a bare name is not found on ``PATH``."""


class AlreadyStartedError(SandboxError):
    """Raised when a sandbox, or a native plugin, that is running is started again."""


class NotStartedError(SandboxError):
    """Raised when a sandbox, or a native plugin, that is not running is stopped or called."""


class QuarantinedError(NotStartedError):
    """Raised when a plugin is called that was given up, for it has failed too often.

    Restart it by hand when what made it fail has been mended.
    """


class ProcessExitedError(SandboxError):
    """Raised when the process ended by itself while it should have been running.

    `log` is the last that it had printed, to stdout, too, and logged, oldest first: each line with
    the stream, or the level, before it.
    """

    log: tuple[str, ...] = ()


class UnresponsiveError(ProcessExitedError, TimeoutError):
    """Raised when a process was killed because it did not answer its watchdog in time."""


class ExitedBeforeReadyError(ProcessExitedError):
    """Raised when the process ended before it said that it was ready."""


class SandboxTimeoutError(SandboxError, TimeoutError):
    """Raised, as one of the following, when a process did not do something within `timeout`."""

    def __init__(
        self,
        message: str,
        *,
        timeout: float,
        plugin: str | None = None,
        returncode: int | None = None,
        signal: int | None = None,
        stderr: tuple[str, ...] = (),
    ) -> None:
        super().__init__(
            message, plugin=plugin, returncode=returncode, signal=signal, stderr=stderr
        )
        self.timeout = timeout


class ReadyTimeoutError(SandboxTimeoutError):
    """Raised when no ready message came within `timeout` seconds; the process is gone."""


class ExitStatusError(SandboxError):
    """Raised when the process obeyed stop but ended with a status other than 0, or by a signal."""


class StopIgnoredError(SandboxTimeoutError):
    """Raised when the process did not end within `timeout` seconds of stop and was killed."""


# --- Protocol, Call ---------------------------------------------------------------------------


class ProtocolError(PluginError):
    """Family: what is said between host and plugin."""


class InvalidReadyError(ProtocolError, SandboxError):
    """Raised when what a process printed first is no ready message; `received` is its beginning."""

    def __init__(
        self,
        message: str,
        *,
        received: bytes = b"",
        plugin: str | None = None,
        returncode: int | None = None,
        signal: int | None = None,
        stderr: tuple[str, ...] = (),
    ) -> None:
        SandboxError.__init__(
            self, message, plugin=plugin, returncode=returncode, signal=signal, stderr=stderr
        )
        self.received = received


class ProtocolViolationError(ProtocolError):
    """Raised when the other end broke a rule of the wire. It has been cut off: nothing that it
    says after that can be trusted to mean what it seems to.
    """


class CallError(PluginError):
    """Family: calling a plugin's methods."""


class RemoteError(CallError):
    """Raised when a method raised, at the other end of the wire; the plugin lives on.

    `type` is the exception's type there, such as ``"ValueError"`` or ``"shop.db.LockedError"``,
    `remote_message` its text, `traceback` the traceback as text (also shown as a note), `data`
    whatever else a plugin that is not Python sent along.
    """

    def __init__(
        self,
        message: str,
        *,
        type: str = "",  # noqa: A002  # what it is
        remote_message: str = "",
        traceback: str = "",
        data: object = None,
        plugin: str | None = None,
    ) -> None:
        super().__init__(message, plugin=plugin)
        self.type = type
        self.remote_message = remote_message
        self.traceback = traceback
        self.data = data
        if traceback:
            self.add_note(f"The traceback there:\n{traceback.rstrip()}")


class CallTimeoutError(CallError, TimeoutError):
    """Raised when a call was not answered within `timeout` seconds; it has been cancelled."""

    def __init__(self, message: str, *, timeout: float, plugin: str | None = None) -> None:
        super().__init__(message, plugin=plugin)
        self.timeout = timeout


class CallCancelledError(CallError):
    """Raised in a method whose caller has cancelled it, and for a call that the plugin gave up."""


class InvalidArgumentsError(CallError, TypeError):
    """Raised when arguments do not fit the method; the message names the argument."""


class UnsendableValueError(CallError, TypeError):
    """Raised when an argument or a result cannot travel over the wire; says which and why."""


class NotGrantedError(CallError, PermissionError):
    """Raised when a plugin calls a capability that its host has not granted to it."""


class ReentryLimitError(CallError, RecursionError):
    """Raised when host and plugin call one another, each inside the other's call, too deeply."""


class PluginBusyError(CallError):
    """Raised when a call is refused because too many are being served already.

    Where it is the host that has limited them, `max_calls` and `max_waiting` are the limits.
    """

    def __init__(
        self,
        message: str,
        *,
        max_calls: int | None = None,
        max_waiting: int | None = None,
        plugin: str | None = None,
    ) -> None:
        super().__init__(message, plugin=plugin)
        self.max_calls = max_calls
        self.max_waiting = max_waiting


class HttpError(CallError):
    """Raised when a handler in a plugin's process raised an HTTPException.

    Applications that serve a table's routes answer it as they answer that. `status` and `headers`
    are what it says; the text is its detail.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        headers: dict[str, str] | None = None,
        plugin: str | None = None,
    ) -> None:
        super().__init__(message, plugin=plugin)
        self.status = status
        self.headers = headers or {}


class InvalidResponseEventError(CallError):
    """Raised when a plugin's application broke a rule of ASGI; the message says what it sent."""


class NativeCallError(CallError):
    """Raised when a call of a native plugin returned `code`, something other than 0."""

    def __init__(self, message: str, *, plugin: str, code: int) -> None:
        super().__init__(message, plugin=plugin)
        self.code = code


class InvalidResponseError(ProtocolError, CallError):
    """Raised when what a plugin answered is not JSON; `received` is its beginning."""

    def __init__(self, message: str, *, received: bytes, plugin: str | None = None) -> None:
        super().__init__(message, plugin=plugin)
        self.received = received


class MethodNotFoundError(CallError, AttributeError):
    """Raised when a plugin has no method of that name that callers may reach."""


# --- Config -----------------------------------------------------------------------------------


class ConfigError(PluginError, ValueError):
    """Raised when a configuration or a manifest does not fit; nothing has started.

    `path` is the file, `problems` every problem found, each a sentence with its line or key.
    """

    def __init__(
        self,
        message: str,
        *,
        path: str | None = None,
        problems: tuple[str, ...] = (),
        plugin: str | None = None,
    ) -> None:
        super().__init__(message, plugin=plugin)
        self.path = path
        self.problems = problems


class ConfigNotFoundError(ConfigError, FileNotFoundError):
    """Raised when the file or folder that is to be read does not exist."""

    __new__ = FileNotFoundError.__new__  # type: ignore[assignment]  # not that of ValueError
