# What a plugin of level 1 or 2 begins with, in the tests; nothing of plugkeep is used.
import json
import os
import signal  # noqa: F401  # for the plugins
import struct
import sys  # noqa: F401
import time  # noqa: F401

LEVEL = min(int(os.environ.get("PLUGKEEP_WIRE", "0")), int(os.environ.get("AT_MOST", "2")))
if LEVEL == 2:
    READ, WRITE, SOCKET = map(int, os.environ["PLUGKEEP_WIRE_FDS"].split(","))
else:
    READ, WRITE = 0, 1
heard = b""


def raw(data):
    while data:
        data = data[os.write(WRITE, data) :]


def packed(message):
    text = json.dumps(message).encode()
    return struct.pack("<III", len(text), len(text), 0) + text if LEVEL == 2 else text + b"\n"


def say(**message):
    raw(packed({"jsonrpc": "2.0", **message}))


def ready(**members):
    raw(packed({"ready": True, "wire": LEVEL, **members}))


def answer(request, result=None, **error):
    say(id=request["id"], **({"error": error} if error else {"result": result}))


def hear():
    """Return the next message, None at the end."""
    global heard
    while True:
        if (
            LEVEL == 2
            and len(heard) >= 12
            and len(heard) >= 12 + (n := struct.unpack_from("<I", heard)[0])
        ):
            message, heard = heard[12 : 12 + n], heard[12 + n :]
            return json.loads(message)
        if LEVEL < 2 and b"\n" in heard:
            line, heard = heard.split(b"\n", 1)
            return json.loads(line)
        data = os.read(READ, 65536)
        if not data:
            return None
        heard += data


def serve(**methods):
    """Answer calls until the host has had enough."""
    while (message := hear()) is not None:
        method = message.get("method")
        if message.get("cmd") == "stop":
            return
        if "id" not in message:
            continue
        if method in methods or method.removeprefix("$/") in methods:
            methods[method.removeprefix("$/")](message)
        elif method in ("$/start", "$/stop"):
            answer(message)
        elif method == "echo":
            answer(message, message["params"][0])
        elif method == "die":
            os._exit(int(message["params"][0]))
        elif method == "hang":
            pass
        else:
            answer(message, code=-32601, message="no such method")
        if method == "$/stop":
            return
