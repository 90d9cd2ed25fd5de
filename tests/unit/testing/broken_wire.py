"""A program of levels 0, 1 and 2 that keeps the protocol, but for the one thing in its argument."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import time

BAD = sys.argv[1]
MOST = int(sys.argv[2]) if len(sys.argv) > 2 else 2
LEVEL = min(int(os.environ.get("PLUGKEEP_WIRE", "0")), MOST)
READ, WRITE = 0, 1
if LEVEL == 2:
    READ, WRITE, _ = map(int, os.environ["PLUGKEEP_WIRE_FDS"].split(","))
HEARD = bytearray()


def raw(data):
    while data:
        data = data[os.write(WRITE, data) :]


def packed(message, flags=0):
    text = json.dumps(message).encode()
    return struct.pack("<III", len(text), len(text), flags) + text if LEVEL == 2 else text + b"\n"


def say(**message):
    raw(packed({"jsonrpc": "2.0", **message}))


def answer(request, result=None):
    say(id=request["id"], result=result)


def refuse(request, code, text="no"):
    say(id=request["id"], error={"code": code, "message": text})


def cut_off():
    if BAD == "cut-off-status":
        sys.exit(0)
    if BAD != "cut-off-silent":
        print("a bad frame", file=sys.stderr)
    sys.exit(1)


def hear():
    """Return the next message; None at the end."""
    while True:
        if LEVEL == 2 and len(HEARD) >= 12:
            length, _, flags = struct.unpack_from("<III", HEARD)
            if flags and BAD != "cut-off-ignored":
                cut_off()
            if len(HEARD) >= 12 + length:
                text = bytes(HEARD[12 : 12 + length])
                del HEARD[: 12 + length]
                return json.loads(text)
        elif LEVEL < 2 and b"\n" in HEARD:
            line, _, rest = bytes(HEARD).partition(b"\n")
            HEARD[:] = rest
            if (message := parsed(line)) is not None:
                return message
            continue
        data = os.read(READ, 65536)
        if not data:
            return None
        if BAD == "pieces" and len(data) == 1:
            continue
        HEARD.extend(data)


def parsed(line):
    if not line.strip():
        if BAD == "blank-lines":
            sys.exit("a blank line")
        return None
    if BAD == "characters":
        line = "".join(line.decode(errors="replace").splitlines()[-1:]).encode()
    try:
        message = json.loads(line)
    except ValueError:
        if BAD == "garbage":
            sys.exit("no JSON")
        if BAD == "garbage-answered":
            say(id=None, error={"code": -32000, "message": "what?"})
        return None
    return message if isinstance(message, dict) else None


def ready():
    if BAD == "ready-late":
        time.sleep(60)
    if BAD == "ready-text":
        os.write(1, b"hello\n")
    if BAD == "ready-exit":
        sys.exit("no licence")
    said = {"ready": True, "wire": LEVEL, **ANNOUNCED.get(BAD, {"methods": ["fine"]})}
    if BAD == "ready-false":
        said["ready"] = 1
    raw({
        "ready-line": b'{"ready": true,\n"wire": 1}\n',
        "ready-line-more": b'{"ready": true, "wire": 1} hello\n',
    }.get(BAD, packed(said)))  # fmt: skip


ANNOUNCED = {
    "level": {"wire": 3},
    "announces-methods": {"methods": "echo"},
    "announces-name": {"methods": [{"name": "$/echo"}]},
    "announces-twice": {"methods": ["echo", {"name": "echo"}]},
    "announces-params": {"methods": [{"name": "echo", "params": ["a b"]}]},
    "announces-version": {"version": 1},
    "announced": {"methods": ["echo", {"name": "count", "stream": True}]},
}


def take(message):
    """Serve a message; return whether it was the last."""
    method = message.get("method")
    if message.get("cmd") == "stop":
        return stop_message()
    if method is None:
        if BAD == "unasked-answer" and "id" in message:
            say(id=message["id"], error={"code": -32600, "message": "not asked"})
    elif "id" not in message:
        notified(method, message)
    elif method == "$/stop":
        return stop(message)
    else:
        request(method, message)
    return False


def notified(method, message):
    is_known = method in ("$/cancel", "$/credit", "$/progress")
    if BAD == "unknown-notification" and not is_known:
        sys.exit(f"unknown {method}")
    if BAD == "unknown-notification-answered" and not is_known:
        say(id=77, error={"code": -32601, "message": "no"})
    if BAD == "unknown-call" and is_known:
        say(id=message["params"]["id"], error={"code": -32800, "message": "cancelled"})


def request(method, message):
    if "later" in message and BAD == "unknown-member":
        refuse(message, -32600)
    elif BAD == "many" and method == "no-such-method-4711" and len(HEARD) > 1000:
        pass
    elif BAD == "many-twice" and method == "no-such-method-4711" and len(HEARD) > 1000:
        refuse(message, -32601)
        refuse(message, -32601)
    elif BAD == "ids" and isinstance(message["id"], str):
        answer({"id": 0})
    elif method == "$/start":
        start(message)
    elif method == "$/ping":
        ping(message)
    elif method == "fine":
        refuse(message, -32001)
    elif BAD == "unknown-reserved" and method.startswith("$/"):
        answer(message)
    elif BAD == "unknown-method" and not method.startswith("$/"):
        refuse(message, -32000)
    else:
        refuse(message, -32601)


def start(message):
    if BAD == "start":
        refuse(message, -32000, "no disk")
    elif BAD == "start-ends":
        os._exit(7)
    else:
        if BAD == "messages-request":
            say(id=1, method=3)
        answer(message)


def ping(message):
    if BAD == "ping":
        answer(message, "pong")
    elif BAD == "ping-frame" and LEVEL == 2:
        raw(packed({"jsonrpc": "2.0", "id": message["id"], "result": None}, flags=4))
    elif BAD == "messages-version":
        raw(packed({"id": message["id"], "result": None}))
    elif BAD == "messages-both":
        say(id=message["id"], result=None, error=None)
    elif BAD == "messages-code":
        say(id=message["id"], result=None) if "later" in message else answer(message)
    else:
        answer(message)


def stop(message):
    if BAD == "stop-error":
        refuse(message, -32000, "busy")
    elif BAD == "stop-unanswered":
        pass
    else:
        answer(message)
    if BAD == "stop-stays":
        time.sleep(60)
    if BAD == "stop-status":
        os._exit(4)
    return True


def stop_message():
    if BAD == "stop-message":
        time.sleep(60)
    if BAD == "stop-message-status":
        os._exit(5)
    if BAD == "leaves-nothing":
        subprocess.Popen(["sleep", "60"], stdin=-3, stdout=-3, stderr=-3)
    return True


def main():
    ready()
    if BAD == "stays":
        return
    was_started = LEVEL == 0
    while (message := hear()) is not None:
        was_started = was_started or message.get("method") == "$/start"
        if take(message):
            return
    if BAD == "end-of-input" and was_started:
        time.sleep(60)
    if BAD == "end-of-input-killed" and was_started:
        os.abort()
    if BAD == "end-before-start" and not was_started:
        time.sleep(60)


main()
