"""What small calls are measured beside: for each peer its host's end, and the child's end below.

A peer is used as ``with peer() as calls: calls(n)``, which makes `n` calls one after another with
`n` answers. Each is set up as its own documentation or our measuring found it fastest.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from _child import child, piped_child, ready

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from _callers import AsyncCalls, Calls

#: What travels in every call, each way.
TEXT = "x" * 100
DATA = TEXT.encode()
#: How many calls are under way at once where they are pipelined, and how many are answered
#: before more are sent.
WINDOW, HALF = 64, 32


# --- The floor: a raw pipe there and a raw pipe back ---------------------------------------------


@contextmanager
def floor() -> Iterator[Calls]:
    with piped_child(__file__, "echo") as (source, target):

        def calls(count: int, read: Any = os.read, write: Any = os.write) -> None:
            for _ in range(count):
                write(target, DATA)
                read(source, 100)

        yield calls


def echo(source: str, target: str) -> None:
    read, write, source_fd, target_fd = os.read, os.write, int(source), int(target)
    ready()
    while data := read(source_fd, 100):  # a fixed length: nothing to look for, nothing to decide
        write(target_fd, data)


# --- multiprocessing.Pipe ------------------------------------------------------------------------


@contextmanager
def pipelined_connection() -> Iterator[Calls]:
    """Two of ``Pipe(duplex=False)``: faster than one that goes both ways."""
    from multiprocessing.connection import Connection

    with piped_child(__file__, "connection") as (source, target):
        receiver = Connection(os.dup(source), writable=False)
        sender = Connection(os.dup(target), readable=False)
        with receiver, sender:
            yield lambda count: pipelined(sender, receiver, count)


def pipelined(sender: Connection, receiver: Connection, count: int) -> None:
    """Refill at half the window: faster than one for one."""
    send, receive = sender.send, receiver.recv
    for _ in range(WINDOW):
        send(TEXT)
    for _ in range((count - WINDOW) // HALF):
        for _ in range(HALF):
            receive()
        for _ in range(HALF):
            send(TEXT)
    for _ in range(WINDOW):
        receive()


def connection(source: str, target: str) -> None:
    from multiprocessing.connection import Connection

    receive = Connection(int(source), writable=False).recv
    send = Connection(int(target), readable=False).send
    ready()
    try:
        while True:
            send(receive())
    except EOFError:
        return


# --- grpcio, on a Unix socket --------------------------------------------------------------------


@contextmanager
def grpc_address() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        address = f"unix:{folder}/socket"
        with child(__file__, "grpc", address):
            yield address


@contextmanager
def grpc_unary() -> Iterator[Calls]:
    import grpc

    with grpc_address() as address, grpc.insecure_channel(address) as channel:
        method = channel.unary_unary("/bench/echo")

        def calls(count: int) -> None:
            for _ in range(count):
                method(DATA)

        yield calls


@contextmanager
def grpc_pipelined() -> Iterator[Calls]:
    """Futures, refilled at half the window: faster than one for one, or than 64 threads."""
    import grpc

    with grpc_address() as address, grpc.insecure_channel(address) as channel:
        send = channel.unary_unary("/bench/echo").future

        def calls(count: int) -> None:
            waiting = deque(send(DATA) for _ in range(WINDOW))
            for _ in range((count - WINDOW) // HALF):
                for _ in range(HALF):
                    waiting.popleft().result()
                waiting.extend(send(DATA) for _ in range(HALF))
            for future in waiting:
                future.result()

        yield calls


@contextmanager
def grpc_aio(runner: asyncio.Runner) -> Iterator[AsyncCalls]:
    """`WINDOW` tasks on asyncio, each with one call after another."""
    import grpc.aio

    async def channel_to(address: str) -> grpc.aio.Channel:
        return grpc.aio.insecure_channel(address)  # belongs to the loop that runs

    with grpc_address() as address:
        channel = runner.run(channel_to(address))
        method = channel.unary_unary("/bench/echo")
        try:
            yield lambda count: in_tasks(lambda: method(DATA), count)
        finally:
            runner.run(channel.close())


async def in_tasks(call: Callable[[], Awaitable[object]], count: int) -> None:
    """Make `count` calls, shared out among `WINDOW` tasks."""

    async def share() -> None:
        for _ in range(count // WINDOW):
            await call()

    await asyncio.gather(*(share() for _ in range(WINDOW)))


def grpc_server(address: str) -> None:
    """Threads: faster than grpcio's own asyncio server, also for clients that are on asyncio."""
    from concurrent.futures import ThreadPoolExecutor

    import grpc

    method = grpc.unary_unary_rpc_method_handler(lambda request, _context: request)
    server = grpc.server(ThreadPoolExecutor(10))
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("bench", {"echo": method}),)
    )
    server.add_insecure_port(address)
    server.start()
    ready()
    sys.stdin.read()
    server.stop(None)


# --- The MCP SDK, on stdio -----------------------------------------------------------------------


@contextmanager
def mcp_tool(runner: asyncio.Runner) -> Iterator[AsyncCalls]:
    """A client in a task of its own, for the task that opens it must be the one to close it."""
    from mcp import Client, StdioServerParameters

    server = StdioServerParameters(command=sys.executable, args=[__file__, "mcp"])

    async def keep(opened: asyncio.Future[Client], done: asyncio.Event) -> None:
        async with Client(server, mode="legacy") as client:  # faster than the newest protocol
            opened.set_result(client)
            await done.wait()

    async def begin() -> tuple[Client, asyncio.Task[None], asyncio.Event]:
        opened, done = asyncio.get_running_loop().create_future(), asyncio.Event()
        task = asyncio.create_task(keep(opened, done))
        await asyncio.wait({task, opened}, return_when=asyncio.FIRST_COMPLETED)
        return opened.result() if opened.done() else await task, task, done

    async def finish(task: asyncio.Task[None], done: asyncio.Event) -> None:
        done.set()
        await task

    client, task, done = runner.run(begin())

    async def calls(count: int) -> None:
        for _ in range(count):
            await client.call_tool("echo", {"text": TEXT})

    try:
        yield calls
    finally:
        runner.run(finish(task, done))


def mcp_server() -> None:
    """The low-level server: faster than `MCPServer`."""
    import mcp_types as mcp
    from mcp.server.lowlevel import Server
    from mcp.server.stdio import stdio_server

    schema = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
    tool = mcp.Tool(name="echo", input_schema=schema)

    async def list_tools(*_: object) -> mcp.ListToolsResult:
        return mcp.ListToolsResult(tools=[tool])

    async def call_tool(_: object, params: mcp.CallToolRequestParams) -> mcp.CallToolResult:
        text = (params.arguments or {})["text"]
        return mcp.CallToolResult(content=[mcp.TextContent(type="text", text=text)])

    async def serve() -> None:
        server = Server("bench", on_list_tools=list_tools, on_call_tool=call_tool)
        async with stdio_server() as (source, target):
            await server.run(source, target, server.create_initialization_options())

    asyncio.run(serve())


CHILDREN: dict[str, Callable[..., None]] = {
    "echo": echo,
    "connection": connection,
    "grpc": grpc_server,
    "mcp": mcp_server,
}


if __name__ == "__main__":
    CHILDREN[sys.argv[1]](*sys.argv[2:])
