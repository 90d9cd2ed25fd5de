"""How fast a web application is that runs in a sandbox, and what large bodies take in memory.

The same application is served directly by uvicorn, and by that through reverse proxies, each
server a process of its own on a Unix socket. What asks is written in C: see `load.c`.
"""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from _measure import Row, at_least_times, at_most, medians, seconds
from _web_application import LARGE, MIB
from _web_servers import SERVERS, Server, serving

#: By the number of connections: which peer, and how many times as many requests a second at least.
TARGETS = {
    1: {"direct": 0.45, "aiohttp_proxy": 1.6, "httpx_proxy": 6},
    32: {"direct": 0.9, "aiohttp_proxy": 1.6, "httpx_proxy": 6},
}
PEERS = {
    "direct": "the same served directly",
    "aiohttp_proxy": "a proxy by aiohttp",
    "httpx_proxy": "a proxy by httpx",
}
#: MiB that a process may grow by while large bodies pass through it.
GROWTH = 32
#: Milliseconds for which requests are made in one round.
ROUND = 200
PIECE = bytearray(MIB)


def run(quick: bool = False) -> list[Row]:
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        load = compiled(folder)
        direct = stack.enter_context(serving("direct", folder))
        servers = {"direct": direct}
        for kind in SERVERS.keys() - {"direct"}:
            upstream = direct if kind.endswith("proxy") else None
            servers[kind] = stack.enter_context(serving(kind, folder, upstream))
        rows = [
            row
            for connections in TARGETS
            for row in requests(load, servers, connections, rounds=3 if quick else 20)
        ]
        return rows + bodies(servers, rounds=2 if quick else 5)


def compiled(folder: Path) -> str:
    """Return the program that asks, made just now."""
    program = str(folder / "load")
    source = Path(__file__).with_name("load.c")
    compiler = os.environ.get("CC", "cc")
    subprocess.run([compiler, "-O2", "-D_GNU_SOURCE", "-o", program, source], check=True)
    return program


# --- small requests -------------------------------------------------------------------------------


def requests(load: str, servers: dict[str, Server], connections: int, rounds: int) -> list[Row]:
    samples = {
        kind: partial(rate, load, server.path, connections) for kind, server in servers.items()
    }
    medians(samples, rounds=2)
    rates = medians(samples, rounds)
    plural = "s" if connections > 1 else ""
    claim = f"requests to a sandboxed application, {connections} connection{plural}, beside"
    return [
        at_least_times(times, "/s", f"{claim} {PEERS[peer]}", rates["sandboxed"], rates[peer])
        for peer, times in TARGETS[connections].items()
    ]


def rate(load: str, path: Path, connections: int) -> float:
    """Return how many requests a second are answered."""
    command = [load, str(path), str(connections), str(ROUND), "/hello"]
    answered, _, took = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=True, timeout=60
    ).stdout.split()
    return int(answered) / float(took)


# --- large bodies ---------------------------------------------------------------------------------


def bodies(servers: dict[str, Server], rounds: int) -> list[Row]:
    ours, direct = servers["sandboxed"], servers["direct"]
    rows = []
    for what, transfer in (("download", download), ("upload", upload)):
        samples = {
            "ours": partial(speed, transfer, ours),
            "direct": partial(speed, transfer, direct),
        }
        found = medians(samples, rounds)
        claim = f"{what} of {LARGE // MIB} MiB, sandboxed application, beside the same directly"
        rows.append(at_least_times(0.5, "MiB/s", claim, found["ours"], found["direct"]))
    return rows + growth(ours)


def growth(ours: Server) -> list[Row]:
    """Measure by how much the processes grow, beyond what they have for small requests."""
    processes = {"host": ours.process, "plugin": int(ask(ours, "/process"))}
    rows = []
    for what, transfer in (("download", download), ("upload", upload)):
        before = {name: memory(process) for name, process in processes.items()}
        transfer(ours)
        rows += [
            at_most(
                GROWTH,
                "MiB",
                f"{what} of {LARGE // MIB} MiB: growth of the {name}'s memory",
                most_memory(process) - before[name],
            )
            for name, process in processes.items()
        ]
    return rows


def memory(process: int) -> float:
    """Return how many MiB a process has, and have it forget how many it has had."""
    Path(f"/proc/{process}/clear_refs").write_text("5")
    return most_memory(process)


def most_memory(process: int) -> float:
    """Return the most MiB that a process has had."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise ProcessLookupError(process)


def speed(transfer: Callable[[Server], None], server: Server) -> float:
    return LARGE / MIB / seconds(partial(transfer, server))


def download(server: Server) -> None:
    body = len(ask(server, "/download", keep=False))
    assert not body


def upload(server: Server) -> None:
    assert int(ask(server, "/upload", LARGE)) == LARGE


def ask(server: Server, path: str, size: int = 0, *, keep: bool = True) -> bytes:
    """Send one request, with a body of `size` bytes, and return the body of its answer."""
    method = "POST" if size else "GET"
    lines = f"{method} {path} HTTP/1.1", "Host: bench", f"Content-Length: {size}", "", ""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(os.fspath(server.path))
        connection.sendall("\r\n".join(lines).encode())
        for _ in range(size // len(PIECE)):
            connection.sendall(PIECE)
        with connection.makefile("rb") as stream:
            assert stream.readline().startswith(b"HTTP/1.1 200 ")
            headers = dict(line.lower().split(b": ") for line in iter(stream.readline, b"\r\n"))
            left = int(headers[b"content-length"])
            if keep:
                return stream.read(left)
            while left:
                left -= stream.readinto(memoryview(PIECE)[:left])
        return b""


if __name__ == "__main__":
    for row in run():
        print(row)
