"""What a plugin prints and logs, on its way to the host.

Descriptors 1 and 2 are for output whatever the level: where stdout was the wire, it goes where
stderr does. What Python itself prints and logs travels as log records where the wire has them.
"""

from __future__ import annotations

import io
import os
import sys
import threading
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from plugkeep.errors import UnsendableValueError
from plugkeep.wire import messages as m

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec

    from plugkeep.runner.runner import Runner

#: Records kept for a host that has not been told yet that the plugin is ready.
_MOST_EARLY: Final = 1000
#: A line longer than this is cut in several.
_LONGEST_LINE: Final = 64 * 1024


class Output:
    """Takes what is printed and logged, until it is detached."""

    def __init__(self, level: int) -> None:
        self._level = level
        self._runner: Runner | None = None
        self._early: list[dict[str, Any]] = []
        self._busy = threading.local()
        self._is_detached = False

    def capture(self) -> None:
        """Take all output from now on. To be called before any of the plugin's code runs."""
        if not self._level:
            return
        if self._level == 1:
            lines = io.BufferedWriter(_Lines(self), _LONGEST_LINE)
            sys.stdout = io.TextIOWrapper(
                lines, "utf-8", "backslashreplace", line_buffering=True, write_through=False
            )
        elif isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")
        threading.excepthook = self._thread_failed
        if "logging" in sys.modules:
            self.capture_logging()
        else:
            sys.meta_path.insert(0, _WhenImported(self))
        self._capture_warnings()

    def attach(self, runner: Runner) -> None:
        """Send from now on, for the host knows that the plugin is ready."""
        self._runner = runner
        early, self._early = self._early, []
        for record in early:
            self.log(**record)

    def detach(self) -> None:
        """Send nothing more; what comes yet goes to stderr."""
        if sys.stdout is not None:
            sys.stdout.flush()
        self._is_detached = True

    def give_up(self) -> None:
        """There is no host to be told: what it would have been told goes to stderr."""
        early, self._early = self._early, []
        self.detach()
        for record in early:
            self.log(**record)

    def log(self, level: str, logger: str, message: str, fields: dict[str, Any]) -> None:
        """Send a record; where that cannot be, write it to stderr. Never raises."""
        if self._is_detached or getattr(self._busy, "now", False):
            _write(f"{level}: {logger}: {message}")
            return
        record = {"level": level, "logger": logger, "message": message, "fields": fields}
        if self._runner is None:
            self._keep(record)
            return
        self._busy.now = True
        try:
            self._send(self._runner, record)
        except Exception as error:
            _write(f"{level}: {logger}: {message} (not sent: {error})")
        finally:
            self._busy.now = False

    def _keep(self, record: dict[str, Any]) -> None:
        if len(self._early) < _MOST_EARLY:
            self._early.append(record)
        else:
            _write(f"{record['level']}: {record['logger']}: {record['message']}")

    def _send(self, runner: Runner, record: dict[str, Any]) -> None:
        notify = runner.connection.notify
        try:
            sending = notify(m.LOG, **record)
        except UnsendableValueError:
            record["message"] = record["message"].encode("utf-8", "backslashreplace").decode()
            record["fields"] = {str(key): repr(value) for key, value in record["fields"].items()}
            sending = notify(m.LOG, **record)
        runner.tell(sending)

    # --- logging, warnings, threads -------------------------------------------------------

    def capture_logging(self) -> None:
        """Take what is logged at INFO and above; the plugin may say otherwise."""
        import logging

        from plugkeep.runner._logging import WireHandler

        root = logging.getLogger()
        root.addHandler(WireHandler(self.log))
        root.setLevel(logging.INFO)
        logging.captureWarnings(True)

    def _capture_warnings(self) -> None:
        import warnings

        if "logging" in sys.modules:
            return

        def show(*args: Any, **kwargs: Any) -> None:
            import logging  # noqa: F401  # which puts its own function in the place of this one

            if warnings.showwarning is not show:
                warnings.showwarning(*args, **kwargs)

        warnings.showwarning = show

    def _thread_failed(self, args: threading.ExceptHookArgs) -> None:
        if args.exc_type is SystemExit:
            return
        name = args.thread.name if args.thread else "?"
        trace = _traceback(args.exc_type, args.exc_value, args.exc_traceback)
        self.log("error", "threading", f"exception in thread {name!r}\n{trace}", {})


class _Lines(io.RawIOBase):
    """A file whose lines are log records."""

    def __init__(self, output: Output) -> None:
        super().__init__()
        self._output = output
        self._partial = b""

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        """Return where programs that are given this file as theirs may write."""
        return 1

    def write(self, data: Any) -> int:
        *lines, self._partial = (self._partial + bytes(data)).split(b"\n")
        for line in lines:
            self._log(line)
        while len(self._partial) > _LONGEST_LINE:
            self._log(self._partial[:_LONGEST_LINE])
            self._partial = self._partial[_LONGEST_LINE:]
        return len(data)

    def close(self) -> None:
        if self._partial:
            self._log(self._partial)
            self._partial = b""
        super().close()

    def _log(self, line: bytes) -> None:
        text = line.decode("utf-8", "replace").removesuffix("\r")
        self._output.log("info", "stdout", text, {})


class _WhenImported:
    """Puts the handler in place when logging is imported, which takes long to do for nothing."""

    def __init__(self, output: Output) -> None:
        self._output = output

    def find_spec(self, name: str, *_: Any) -> ModuleSpec | None:
        """See `importlib.abc.MetaPathFinder`."""
        if name != "logging":
            return None
        from importlib.util import find_spec

        sys.meta_path.remove(self)
        spec = find_spec(name)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_capture(module: Any) -> None:
                execute(module)
                self._output.capture_logging()

            spec.loader.exec_module = execute_and_capture  # type: ignore[method-assign]
        return spec


def _traceback(
    kind: type[BaseException], error: BaseException | None, trace: TracebackType | None
) -> str:
    import traceback

    return "".join(traceback.format_exception(kind, error, trace))


def _write(line: str) -> None:
    with suppress(OSError):  # nobody is left to be told
        os.write(2, f"{line}\n".encode("utf-8", "backslashreplace"))
