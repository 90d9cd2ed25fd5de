#!/usr/bin/env python3
import json
import sys

METHODS = {"echo": lambda value: value, "add": lambda a, b=1: a + b}
KNOWN = METHODS | dict.fromkeys(("$/start", "$/stop", "$/ping"), lambda **_: None)

print(json.dumps({"ready": True, "wire": 1, "methods": list(METHODS)}), flush=True)
for line in sys.stdin:
    message = json.loads(line)
    if "id" in message:
        method, params = KNOWN.get(message["method"]), message.get("params", {})
        params = {"$args": params} if isinstance(params, list) else params
        try:
            answer = {"result": method(*params.pop("$args", ()), **params.get("$kwargs", params))}
        except Exception as error:
            answer = {"error": {"code": -32000 if method else -32601, "message": str(error)}}
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], **answer}), flush=True)
    if message.get("method") == "$/stop" or message.get("cmd") == "stop":
        break
