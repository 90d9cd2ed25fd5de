"""A plugin of level 0 or 1 that misbehaves as it is told to; it needs Python and nothing else."""

from __future__ import annotations

import argparse
import inspect
import json
import os
import select
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING or __package__:
    from plugkeep.testing.program import table
    from plugkeep.testing.program.conduct import Conduct
    from plugkeep.testing.program.deeds import FaultError, Place, write_all
else:  # modules beside this one, which Python finds by their names alone
    import table
    from conduct import Conduct
    from deeds import FaultError, Place, write_all

STDIN, STDOUT = 0, 1
#: The parameters of faults, as arguments.
_TYPES: dict[str, Callable[[str], Any]] = {
    "seconds": float, "status": int, "signal": str, "size": int, "count": int, "text": str,
}  # fmt: skip


class Wire(Place):
    """The program's end of the wire, which is where its deeds are done."""

    def __init__(self, level: int) -> None:
        super().__init__()
        self.level = level
        self._heard = b""

    def say(self, **message: Any) -> None:
        """Say a message, on one line."""
        write_all(STDOUT, json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")

    def hear(self) -> bytes | None:
        """Return the next line, without its end; None where there will be none."""
        while b"\n" not in self._heard:
            data = os.read(STDIN, 65536)
            if not data:
                return None
            self._heard += data
        line, _, self._heard = self._heard.partition(b"\n")
        return line

    # --- as a place -----------------------------------------------------------------------

    def wait(self, seconds: float) -> None:
        """Wait so long, or until the host is gone, whatever it says meanwhile."""
        end = time.monotonic() + seconds
        gone = select.poll()
        gone.register(STDIN, 0)  # nothing but its end
        while (left := end - time.monotonic()) > 0:
            if gone.poll(min(left, 60.0) * 1000):
                return

    def log(self, message: str) -> None:
        if self.level:
            self.say(method="$/log", params={"level": "info", "message": message})
        else:
            super().log(message)

    def wire(self) -> list[int]:
        return [STDOUT]


class Failure(Exception):
    """An error that is answered with `code`."""

    def __init__(self, code: int, message: str, **data: Any) -> None:
        super().__init__(message)
        self.error = {"code": code, "message": message, **({"data": data} if data else {})}


class Program:
    """The plugin: its life, and its methods."""

    def __init__(self, wire: Wire, conduct: Conduct) -> None:
        self._wire = wire
        self._conduct = conduct
        self._queue: list[dict[str, Any]] = []
        self._stops = False
        self._methods: dict[str, Callable[..., Any]] = {
            name: getattr(self, name) for name in _PARAMETERS
        }

    def run(self) -> int:
        """Live; return the exit status."""
        self._conduct.at("load")
        if not self._wire.level:
            return self._run_alone()
        methods = [
            {"name": name, "params": params, "stream": name == "count"}
            for name, params in _PARAMETERS.items()
        ]
        ready = {"ready": True, "wire": 1, "name": "faulty", "methods": methods}
        write_all(STDOUT, json.dumps(ready).encode() + b"\n")
        while not self._stops:
            if self._queue:
                self._serve(self._queue.pop(0))
            else:
                self._listen()
        return 0

    def _run_alone(self) -> int:
        """Live at level 0."""
        self._conduct.at("start", "up")
        write_all(STDOUT, b'{"ready": true}\n')
        self._conduct.at("running")
        while (line := self._wire.hear()) is not None:
            if _is_stop(_parsed(line)):
                break
        self._conduct.at("stop")
        return 0

    # --- what comes -----------------------------------------------------------------------

    def _listen(self) -> None:
        """Take in one line."""
        line = self._wire.hear()
        message = {"cmd": "stop"} if line is None else _parsed(line)
        if _is_stop(message):
            self._conduct.at("stop")
            self._stops = True
        elif message is None:
            if line and line.strip():
                self._wire.say(id=None, error={"code": -32700, "message": "no JSON"})
        elif not isinstance(message, dict):
            self._wire.say(id=None, error={"code": -32600, "message": "no message"})
        elif isinstance(message.get("method"), str):
            self._take(message)

    def _take(self, message: dict[str, Any]) -> None:
        method, params = message["method"], message.get("params")
        if "id" in message and method == "$/ping":
            self._wire.say(id=message["id"], result=None)
        elif "id" in message:
            self._queue.append(message)
        elif method == "$/cancel" and isinstance(params, dict):
            for each in self._queue:
                each["cancelled"] = each.get("cancelled") or each["id"] == params.get("id")
        elif method == "$/credit" and isinstance(params, dict):
            for each in self._queue:
                if each["id"] == params.get("id") and "credit" in each:
                    each["credit"] += params.get("n", 0)

    # --- what is answered -----------------------------------------------------------------

    def _serve(self, request: dict[str, Any]) -> None:
        number = request["id"]
        try:
            self._wire.say(id=number, result=self._perform(request))
        except Failure as failure:
            self._wire.say(id=number, error=failure.error)
        except Exception as error:
            data = {"type": type(error).__name__, "traceback": traceback.format_exc()}
            self._wire.say(id=number, error={"code": -32000, "message": str(error), "data": data})
        if request["method"] == "$/stop":
            self._stops = True
        elif request["method"] == "$/start":
            self._conduct.at("running")

    def _perform(self, request: dict[str, Any]) -> Any:
        name = request["method"]
        if request.get("cancelled"):
            raise Failure(-32800, "cancelled")
        if request.get("deadline_ms") == 0:
            raise Failure(-32001, "the deadline has passed")
        if name in ("$/start", "$/stop"):
            return self._live(name, request.get("params") or {})
        if name not in self._methods:
            raise Failure(-32601, f"no method {name!r}", known=list(self._methods))
        args, kwargs = _arguments(request.get("params", []))
        try:
            inspect.signature(self._methods[name]).bind(*args, **kwargs)
        except TypeError as error:
            raise Failure(-32602, f"{name}: {error}") from None
        if ("credit" in request) != (name == "count"):
            raise Failure(-32602, f"give credit to streams, and only to them: {name!r}")
        result = self._methods[name](*args, **kwargs)
        return self._stream(request, result) if name == "count" else result

    def _stream(self, request: dict[str, Any], values: Iterator[Any]) -> None:
        self._queue.insert(0, request)  # where credit and being cancelled find it
        try:
            for value in values:
                while not request["credit"] and not request.get("cancelled") and not self._stops:
                    self._listen()
                if request.get("cancelled") or self._stops:
                    raise Failure(-32800, "cancelled")
                params = {"id": request["id"], "value": value}
                self._wire.say(method="$/chunk", params=params)
                request["credit"] -= 1
        finally:
            self._queue.remove(request)

    def _live(self, name: str, params: dict[str, Any]) -> None:
        if name == "$/stop":
            self._conduct.at("stop")
            return
        arm(self._conduct, dict(params.get("config") or {}))
        self._conduct.at("start", "up")

    # --- its methods ----------------------------------------------------------------------

    def echo(self, value: Any) -> Any:
        self._conduct.in_call()
        return value

    def add(self, a: float, b: float) -> float:
        self._conduct.in_call()
        return a + b

    def sleep(self, seconds: float) -> None:
        self._conduct.in_call()
        self._wire.wait(seconds)

    def count(self, n: int) -> Iterator[int]:
        self._conduct.in_call()
        return iter(range(n))

    def pid(self) -> int:
        return os.getpid()

    def health(self) -> str | None:
        told: str | None = self._conduct.at("health")
        return told

    def misbehave(self, fault: str, **how: Any) -> Any:
        try:
            return self._conduct.commit(fault, **how)
        except ValueError as error:
            raise Failure(-32602, str(error)) from None

    def behave(self) -> None:
        self._conduct.behave()

    def spawned(self) -> list[int]:
        return list(self._wire.pids)


_PARAMETERS = {
    "echo": ["value"],
    "add": ["a", "b"],
    "sleep": ["seconds"],
    "count": ["n"],
    "pid": [],
    "health": [],
    "misbehave": ["fault", "**how"],
    "behave": [],
    "spawned": [],
}


def _parsed(line: bytes) -> Any:
    """Return what a line says; None: it is no JSON."""
    try:
        return json.loads(line)
    except ValueError:
        return None


def _is_stop(message: Any) -> bool:
    return isinstance(message, dict) and message.get("cmd") == "stop"


def _arguments(params: Any) -> tuple[list[Any], dict[str, Any]]:
    if isinstance(params, list):
        return params, {}
    if not isinstance(params, dict):
        raise Failure(-32600, "params is neither an array nor an object")
    args: list[Any] = []
    if params.keys() & {"$args", "$kwargs"}:
        if params.keys() - {"$args", "$kwargs"}:
            raise Failure(-32600, "nothing may stand beside $args and $kwargs")
        args, params = params.get("$args", []), params.get("$kwargs", {})
    return args, {k[1:] if k.startswith("$$") else k: v for k, v in params.items()}


def arm(conduct: Conduct, settings: dict[str, Any]) -> None:
    """Arm what `settings` say: a fault, and how; nothing where there is none."""
    if fault := settings.pop("fault", None):
        conduct.arm(fault, **settings)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fault", metavar="NAME", help="what to do wrong; without it: nothing")
    parser.add_argument("--from-call", type=int, metavar="N", help="from the n-th call on")
    for name, kind in _TYPES.items():
        parser.add_argument(f"--{name}", type=kind, help="of the fault, if it takes that")
    parser.add_argument("--level", type=int, choices=(0, 1), help="by default what is offered")
    parser.add_argument("--list", action="store_true", help="list the faults, and do no more")
    options = vars(parser.parse_args())
    level, is_list = options.pop("level"), options.pop("list")
    if is_list:
        print("\n".join(f"{each.name}: {each.does}" for each in table.faults(table.PROGRAM)))
        return 0
    offered = os.environ.pop("PLUGKEEP_WIRE", "")
    os.environ.pop("PLUGKEEP_WIRE_FDS", None)
    wire = Wire(int(offered.isdigit() and int(offered) > 0) if level is None else level)
    conduct = Conduct(wire, table.PROGRAM)
    try:
        arm(conduct, {key: value for key, value in options.items() if value is not None})
    except ValueError as error:
        parser.error(str(error))
    try:
        return Program(wire, conduct).run()
    except FaultError as error:
        traceback.print_exc()
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
