"""What callers are told, in words that are meant for people."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from plugkeep import ExecSandbox, current_call, expose
from plugkeep.errors import (
    CallTimeoutError,
    InvalidArgumentsError,
    ProcessExitedError,
    ReentryLimitError,
    RemoteError,
)
from plugkeep.wire.messages import Code

PLUGIN = """
@expose
def item(self, item: int): return item

@expose
def count(self, to): yield from range(to)

@expose
def crash(self): os._exit(3)

@expose
def ask(self, what, *args): return self.host.call(what, *args)

@expose
def fail(self, text): raise LookupError(text)

@expose
def ask_in_time(self, seconds):
    self.host.call("shop.wait", timeout=seconds)

@expose
async def await_in_time(self, seconds):
    await self.host.acall("shop.wait", timeout=seconds)

@expose
def stream_of(self, what): return list(self.host.stream(what))

@expose
def stream_in_time(self, seconds):
    list(self.host.using(timeout=seconds).stream("shop.late"))
"""


class Shop:
    sandbox: Any

    @expose
    def item(self, item: int) -> int:
        return item

    @expose
    def wait(self) -> None:
        time.sleep(0.2)

    @expose
    def late(self) -> Iterator[int]:
        time.sleep(0.2)
        yield 1

    @expose
    def again(self, depth: int) -> Any:
        return self.sandbox.call("ask", "shop.again", depth - 1) if depth else 0

    @expose
    def fail(self, text: str) -> Any:
        return self.sandbox.call("fail", text)

    @expose
    def fail_far_away(self, text: str) -> Any:
        return self.sandbox.call("ask", "shop.fail", text)


@pytest.fixture
def shop(isolated: Any) -> Iterator[Any]:
    granted = Shop()
    granted.sandbox = isolated(PLUGIN, grants={"shop": granted})
    with granted.sandbox as sandbox:
        yield sandbox


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["x"], "argument 'item': expected a whole number, found a text"),
        ([], "missing a required argument: 'item'"),
        ([1, 2], "too many positional arguments"),
    ],
)
def test_wrong_arguments_are_told_with_the_method_named_once(
    shop: Any, args: list[Any], told: str
) -> None:
    with pytest.raises(InvalidArgumentsError) as caught:
        shop.call("item", *args)
    assert str(caught.value) == f"plugin 'shop', method 'item': {told}"
    with pytest.raises(RemoteError) as asked:
        shop.call("ask", "shop.item", *args)
    assert asked.value.remote_message == f"'host.shop.item': {told}"


@pytest.mark.parametrize("way", ["ask_in_time", "await_in_time", "stream_in_time"])
def test_a_host_that_takes_too_long_is_called_the_host(shop: Any, way: str) -> None:
    with pytest.raises(RemoteError, match=r"'host\.shop\.\w+' was not answered within") as caught:
        shop.call(way, 0.02)
    assert caught.value.type == f"plugkeep.errors.{CallTimeoutError.__name__}"
    assert "plugin 'host'" not in str(caught.value)


def test_what_is_called_as_what_it_is_not_is_told_how_to_call_it(shop: Any) -> None:
    with pytest.raises(RemoteError) as caught:
        shop.call("ask", "shop.late")
    assert (
        caught.value.remote_message == "'host.shop.late': it is a stream: use stream() or astream()"
    )
    with pytest.raises(RemoteError) as caught:
        shop.call("stream_of", "shop.wait")
    assert caught.value.remote_message == "'host.shop.wait': it is no stream: use call() or acall()"
    with pytest.raises(InvalidArgumentsError) as misused:
        shop.call("count", 1)
    told = "plugin 'shop', method 'count': it is a stream: use stream() or astream()"
    assert str(misused.value) == told
    with pytest.raises(InvalidArgumentsError) as misused:
        list(shop.stream("item", 1))
    told = "plugin 'shop', method 'item': it is no stream: use call() or acall()"
    assert str(misused.value) == told


#: Calls the host as whatever is asked of it says, and answers with what comes of that.
PLAIN = """
import json, sys
say = lambda **message: print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)
print(json.dumps({"ready": True, "wire": 1, "methods": ["ask"]}), flush=True)
for message in map(json.loads, sys.stdin):
    if message.get("method") == "ask":
        say(id="mine", method="host.wait", deadline_ms=message["params"][0])
    elif message.get("id") == "mine":
        say(id=2, result=message["error"])
    else:
        say(id=message["id"], result=None)
        if message["method"] == "$/stop": break
"""


@pytest.mark.parametrize("milliseconds", [0, 20])
def test_a_plugin_whose_time_is_up_is_told_so_by_code(tmp_path: Path, milliseconds: int) -> None:
    def wait() -> None:
        while True:
            current_call().check()
            time.sleep(0.001)

    script = tmp_path / "plain.py"
    script.write_text(PLAIN)
    with ExecSandbox(sys.executable, script, grants={"wait": wait}) as plugin:
        error = plugin.call("ask", milliseconds, timeout=60)
    assert error == {"code": Code.DEADLINE_PASSED, "message": "the time for 'wait' is up"}


def test_stopping_what_has_crashed_is_told_in_a_sentence(isolated: Any) -> None:
    sandbox = isolated(PLUGIN)
    sandbox.start()
    with pytest.raises(ProcessExitedError, match="ended by itself: it exited with status 3"):
        sandbox.call("crash")
    told = r"^plugin 'shop' .* had ended by itself before it was to stop: it exited with .* 3"
    with pytest.raises(ProcessExitedError, match=told):
        sandbox.stop()


# --- errors that go through several hands -----------------------------------------------------


def test_calls_that_are_too_deep_are_told_in_a_few_words(shop: Any) -> None:
    with pytest.raises(RemoteError, match=r"ReentryLimitError: .* more than 32 deep$") as caught:
        shop.call("ask", "shop.again", 200)
    assert len(str(caught.value)) < 500
    assert len(caught.value.traceback) < 40_000
    assert "in ask" in caught.value.traceback
    assert ReentryLimitError.__name__ in caught.value.traceback


def test_the_first_and_the_last_to_raise_an_error_are_told_of(shop: Any) -> None:
    text = "no such book " * 1000
    for method in ("shop.fail", "shop.fail_far_away"):
        with pytest.raises(RemoteError) as caught:
            shop.call("ask", method, text)
        assert str(caught.value) == (
            "plugin 'shop', method 'ask' raised plugkeep.errors.RemoteError: "
            f"plugin 'shop', method 'fail' raised LookupError: {text}"
        )


def test_what_is_no_error_of_a_call_keeps_its_long_traceback_within_bounds(shop: Any) -> None:
    with pytest.raises(RemoteError) as caught:
        shop.call("fail", "\n".join(map(str, range(100_000))))
    lines = caught.value.traceback.splitlines()
    assert "in fail" in caught.value.traceback
    assert lines[0].startswith("Traceback")
    assert lines[-1] == "99999"
    assert len(caught.value.traceback) < 40_000
    assert caught.value.remote_message.endswith("\n99999")  # which is whole
