"""Plugins in native libraries: the host's side of ``plugkeep.h``, which says what holds here."""

from __future__ import annotations

import ctypes
import weakref
from contextlib import contextmanager
from json import JSONDecoder, JSONEncoder
from threading import RLock
from typing import TYPE_CHECKING, Any

from plugkeep.errors import (
    AlreadyStartedError,
    InvalidResponseError,
    MethodNotFoundError,
    NativeCallError,
    NativeError,
    NotStartedError,
    ReentrantError,
)
from plugkeep.loaders import _abi

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path


def make(library: ctypes.CDLL, path: Path, source: str) -> NativePlugin:
    """Return a new plugin from the ``PluginFactory`` of `library`, which was loaded from `path`.

    Raises WrongTypeError, AbiVersionError and NoPluginError.
    """
    # Its own prototype, not library.PluginFactory: that would be shared and have to be set up.
    function = ctypes.CFUNCTYPE(ctypes.c_void_p)(("PluginFactory", library))
    address = function()
    return NativePlugin(address, *_abi.read(address, path, source))


class NativePlugin:
    """A plugin in a native library that follows ``plugkeep.h``.

    Safe to use from any thread: its functions are called one at a time, and the interpreter's
    lock is released meanwhile. It is destroyed when it is closed, or when nobody holds it any
    more, or at the end of the interpreter, and stopped before where it is running.
    """

    def __init__(self, address: int, name: str, functions: _abi.Functions) -> None:
        self.name = name
        self._instance = _Instance(address, name, functions)
        self._destroy = weakref.finalize(self, self._instance.free_if_idle)

    def start(self) -> None:
        """Start the plugin.

        Raises NativeError when it fails, AlreadyStartedError when it is running.
        """
        self._instance.start()

    def stop(self) -> None:
        """Stop the plugin, when a call that is running has returned.

        Raises NativeError when it fails, NotStartedError when the plugin is not running.
        """
        self._instance.stop()

    def call(self, method: str, /, *args: Any, timeout: None = None, **kwargs: Any) -> Any:
        """Call a method of the plugin and return its answer; both travel as JSON.

        `timeout` is there to be refused: nothing can interrupt native code in its own process.

        Raises MethodNotFoundError; NativeCallError, with the plugin's own words, when it fails;
        InvalidResponseError when its answer is not JSON; NotStartedError when it is not running;
        TypeError or ValueError when the arguments cannot be written as JSON.
        """
        if timeout is not None:
            raise TypeError(
                f"plugin {self.name!r} runs in this process, where no call can be interrupted: "
                f"leave timeout={timeout!r} out"
            )
        return _decode(self._instance.call(method, _encode(args, kwargs)), self.name, method)

    def close(self) -> None:
        """Stop the plugin if it is running, whatever comes of that, and free what it holds.

        Waits for a call that is running. Calling it again is harmless.
        """
        with self._instance.turn():
            if self._destroy.detach():
                self._instance.free()

    def __repr__(self) -> str:
        return f"<NativePlugin {self.name!r}>"


class _Instance:
    """The plugin in the library. It outlives the `NativePlugin` by as long as destroy takes."""

    def __init__(self, address: int, name: str, functions: _abi.Functions) -> None:
        self.address = address
        self.name = name
        self.functions = functions
        self.started = False
        self.closed = False
        self.busy = False
        self.lock = RLock()  # reentrant, so that `turn` can tell rather than wait for itself

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait until no function of the library runs, and let none run but the caller's.

        A signal's handler runs on the thread that is inside a function, as soon as that returns
        and before its answer has been copied: to call another then would be too early.
        """
        with self.lock:
            if self.busy:
                raise ReentrantError(
                    f"plugin {self.name!r} is in the middle of a call on this very thread; "
                    f"a signal's handler leaves stopping to the main program",
                    plugin=self.name,
                )
            self.busy = True
            try:
                yield
            finally:
                self.busy = False

    def start(self) -> None:
        with self.turn():
            if self.closed:
                raise NotStartedError(
                    f"plugin {self.name!r} is closed; its factory makes a new one", plugin=self.name
                )
            if self.started:
                raise AlreadyStartedError(
                    f"plugin {self.name!r} is running already", plugin=self.name
                )
            if code := self.start_or_undo():
                raise NativeError(self.failure("start", code), plugin=self.name, code=code)
            self.started = True

    def start_or_undo(self) -> int:
        """Return what the library's start returned.

        Ctrl-C during start comes out when that has returned, before the interpreter's next step:
        so what it returned is kept without one.
        """
        codes: list[int] = []
        try:
            codes.extend(map(self.functions.start, (self.address,)))
        except BaseException:
            if codes == [_abi.OK]:
                self.functions.stop(self.address)
            raise
        return codes[0]

    def stop(self) -> None:
        with self.turn():
            self.check_started()
            self.started = False
            if code := self.functions.stop(self.address):
                raise NativeError(self.failure("stop", code), plugin=self.name, code=code)

    def call(self, method: str, request: bytes) -> bytes:
        with self.turn():
            self.check_started()
            code, answer = self.ask(method.encode(), request)
            if code == _abi.NO_SUCH_METHOD:
                raise MethodNotFoundError(
                    f"plugin {self.name!r} has no method {method!r}", plugin=self.name
                )
            if code:
                words = self.failure(f"method {method!r}", code)
                raise NativeCallError(words, plugin=self.name, code=code)
            return answer

    def ask(self, method: bytes, request: bytes) -> tuple[int, bytes]:
        """Return what the library's call returned, and a copy of what it answered."""
        if not self.functions.call or b"\0" in method:
            return _abi.NO_SUCH_METHOD, b""
        response = _abi.Response()
        try:
            code = self.functions.call(
                self.address, method, request, len(request), ctypes.byref(response)
            )
            answered = code == _abi.OK and response.data
            return code, ctypes.string_at(response.data, response.size) if answered else b""
        finally:  # also on Ctrl-C, which comes out when call has returned
            if response.release:
                response.release(response.data)

    def check_started(self) -> None:
        if not self.started:
            raise NotStartedError(f"plugin {self.name!r} is not running", plugin=self.name)

    def failure(self, what: str, code: int) -> str:
        """Say that `what` failed, with the plugin's own words for it."""
        ask = self.functions.last_error
        text = (ask(self.address) if ask else None) or b"it does not say why"
        return f"{what} of plugin {self.name!r} failed ({code}): {text.decode(errors='replace')}"

    def free(self) -> None:
        self.closed = True
        try:
            if self.started:
                self.started = False
                self.functions.stop(self.address)
        finally:
            if self.functions.destroy:
                self.functions.destroy(self.address)

    def free_if_idle(self) -> None:
        # Nobody holds the plugin any more, unless this is the end of the interpreter: then a
        # thread that nobody waits for may be inside one of its functions still.
        if self.lock.acquire(blocking=False):
            try:
                if not self.busy:
                    self.free()
            finally:
                self.lock.release()


def _refuse(constant: str) -> object:
    raise ValueError(f"{constant} is no JSON")


_write = JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_read = JSONDecoder(parse_constant=_refuse).decode


def _encode(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes:
    """Return the arguments as the wire writes them: an array, an object, or both under ``$``."""
    named = {f"${key}" if key.startswith("$") else key: value for key, value in kwargs.items()}
    both = {"$args": args, "$kwargs": named}
    return _write(both if args and named else named or args).encode()


def _decode(answer: bytes, plugin: str, method: str) -> Any:
    try:
        return _read(answer.decode()) if answer else None
    except (ValueError, RecursionError) as error:
        raise InvalidResponseError(
            f"plugin {plugin!r} answered method {method!r} with what is not JSON: {error}: "
            f"{answer[:80]!r}",
            received=answer[:1000],
            plugin=plugin,
        ) from error
