#!/usr/bin/env python3
"""The reference plugin at level 1: all of conformance.md, with Python's standard library alone.

One thread. Whoever waits (for its turn, for the host's answer, for credit) reads meanwhile, so
that ping, cancel and calls within the one that waits are never kept waiting.
"""

import inspect
import json
import os
import select
import sys
import time
import traceback

COMMANDS = sys.stdin.fileno()


class Failure(Exception):
    """An error that is answered with `code`."""

    def __init__(self, code, message, **data):
        super().__init__(message)
        self.error = {"code": code, "message": message, **({"data": data} if data else {})}


class Call:
    """A request of the host's, waiting for its turn or under way."""

    def __init__(self, message):
        self.id, self.method = message["id"], message["method"]
        self.params = message.get("params", {})
        self.credit, self.within = message.get("credit"), message.get("within")
        self.cancelled = False
        left = message.get("deadline_ms")
        self.limit = None if left is None else time.monotonic() + left / 1000

    def check(self):
        if self.cancelled:
            raise Failure(-32800, "cancelled")
        if self.limit is not None and time.monotonic() >= self.limit:
            raise Failure(-32001, "the deadline has passed")
        if any(call.method == "$/stop" for call in queue):
            raise Failure(-32006, "about to stop")


# --- Reading and writing ----------------------------------------------------------------------

received = bytearray()
queue = []  # calls that wait for their turn
current = []  # calls under way, each nested in the one before
answers = {}  # to our own requests: None until it has come
config = None


def send(**message):
    print(json.dumps({"jsonrpc": "2.0", **message}, allow_nan=False), flush=True)


def notify(method, **params):
    send(method=method, params=params)


def read(limit=None):
    """Take in what the host says next; return when something has come, or `limit` is reached."""
    left = None if limit is None else max(0, limit - time.monotonic())
    if not select.select([COMMANDS], [], [], left)[0]:
        return
    data = os.read(COMMANDS, 65536)
    if not data:
        sys.exit()  # the host is gone
    received.extend(data)
    *lines, rest = received.split(b"\n")
    received[:] = rest
    for line in lines:
        if line.strip():
            take(line)


def take(line):
    try:
        message = json.loads(line)
    except ValueError:
        send(id=None, error={"code": -32700, "message": "no JSON"})
        return
    if not isinstance(message, dict):
        send(id=None, error={"code": -32600, "message": "no message"})
        return
    method = message.get("method")
    if message.get("cmd") == "stop":
        stop()
        sys.exit()
    if method is None:
        if answers.get(message.get("id"), ...) is None:
            answers[message["id"]] = message
    elif "id" not in message:
        heed(method, message.get("params"))
    elif method == "$/ping":
        send(id=message["id"], result=None)
    else:
        queue.append(Call(message))


def heed(notification, params):
    for call in [*queue, *current]:
        if notification == "$/cancel" and call.id == params["id"]:
            call.cancelled = True
        elif notification == "$/credit" and call.id == params["id"] and call.credit is not None:
            call.credit += params["n"]


# --- Serving ----------------------------------------------------------------------------------


def serve(call):
    current.append(call)
    try:
        call.check()
        result = perform(call)
        send(id=call.id, result=result)
    except Failure as failure:
        send(id=call.id, error=failure.error)
    except Exception as error:
        data = {"type": type(error).__name__, "traceback": traceback.format_exc()}
        send(id=call.id, error={"code": -32000, "message": str(error), "data": data})
    finally:
        current.pop()
    if call.method == "$/stop":
        sys.exit()


def perform(call):
    """Run the method; of a stream send the values as there is credit."""
    method = OWN.get(call.method) or METHODS.get(call.method)
    if method is None:
        raise Failure(-32601, f"no method {call.method!r}", known=list(METHODS))
    args, kwargs = arguments(call)
    try:
        inspect.signature(method).bind(*args, **kwargs)
    except TypeError as error:
        raise Failure(-32602, f"{call.method}: {error}") from None
    if inspect.isgeneratorfunction(method) != (call.credit is not None):
        raise Failure(-32602, f"give credit to streams, and only to them: {call.method!r}")
    result = method(*args, **kwargs)
    if call.credit is None:
        return result
    for value in result:
        while not call.credit:
            call.check()
            read(call.limit)
        notify("$/chunk", id=call.id, value=value)
        call.credit -= 1
    return None


def arguments(call):
    params = call.params
    if call.method.startswith("$/"):
        return [], params or {}
    if isinstance(params, list):
        return params, {}
    if not isinstance(params, dict):
        raise Failure(-32600, "params is neither an array nor an object")
    if params.keys() & {"$args", "$kwargs"}:
        if params.keys() - {"$args", "$kwargs"}:
            raise Failure(-32600, "nothing may stand beside $args and $kwargs")
        args, params = params.get("$args", []), params.get("$kwargs", {})
    else:
        args = []
    return args, {k[1:] if k.startswith("$$") else k: v for k, v in params.items()}


def call_host(method, *args):
    """Call the host, on behalf of the call under way; serve what it calls within that."""
    number = len(answers) + 1
    answers[number] = None
    send(id=number, method=f"host.{method}", params=args, within=current[-1].id)
    while (answer := answers[number]) is None:
        current[-1].check()
        nested = next((call for call in queue if call.within == number), None)
        if nested:
            queue.remove(nested)
            serve(nested)
        else:
            read(current[-1].limit)
    if "error" in answer:
        raise RuntimeError(answer["error"]["message"])
    return answer["result"]


# --- The plugin -------------------------------------------------------------------------------


def start(config=None, **_):
    globals()["config"] = config
    if isinstance(config, dict) and "fail_start" in config:
        raise ValueError(config["fail_start"])


def stop(**_):
    if isinstance(config, dict) and "fail_stop" in config:
        raise ValueError(config["fail_stop"])


def echo(value):
    return value


def add(a, b=1):
    return a + b


def options(**options):
    return options


def settings():
    return config


def fail(message):
    raise ValueError(message)


def count(n, fail=None):
    yield from range(n)
    if fail is not None:
        raise ValueError(fail)


def wait():
    call = current[-1]
    notify("$/progress", id=call.id, value="waiting")
    while True:
        call.check()
        read(call.limit)


def log(level, message):
    notify("$/log", level=level, logger="reference", message=message, fields={})


def say(text):
    print(text, flush=True)


def blob(n):
    raise Failure(-32002, f"the result is {n} bytes, and level 1 has none")


def ask_host(method, *args):
    return call_host(method, *args)


METHODS = {m.__name__: m for m in (echo, add, options, settings, fail, count, wait, log, say)}
METHODS |= {"blob": blob, "ask_host": ask_host}
OWN = {"$/start": start, "$/stop": stop}


def written(method):
    """Return the method as the ready object has it."""
    marks = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    params = [
        f"{marks.get(p.kind, '')}{name}{'' if p.default is p.empty else '='}"
        for name, p in inspect.signature(method).parameters.items()
    ]
    stream = {"stream": True} if inspect.isgeneratorfunction(method) else {}
    return {"name": method.__name__, "params": params, **stream}


offered = os.environ.pop("PLUGKEEP_WIRE", "0")
ready = {"ready": True, "name": "reference", "version": "1"}
if offered.isdecimal() and int(offered) >= 1:
    ready |= {"wire": 1, "methods": [written(method) for method in METHODS.values()]}
print(json.dumps(ready), flush=True)
while True:
    while queue:
        serve(queue.pop(0))
    read()
