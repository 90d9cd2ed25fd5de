"""The transcripts, with our own host in them: a puppet says what the plugin says."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from plugkeep import ExecSandbox
from plugkeep.errors import (
    CallCancelledError,
    CallError,
    InvalidArgumentsError,
    MethodNotFoundError,
    ProtocolViolationError,
    RemoteError,
)

PUPPET = Path(__file__).parents[3] / "protocol" / "puppet.py"

#: Those in which the host makes one call after another.
CALLS = [
    "call-both",
    "call-dollar",
    "call-keywords",
    "call-none",
    "call-positional",
    "error-method",
    "error-params",
    "error-raised",
    "error-unsendable",
    "host-answers-twice",
    "host-chatter",
    "host-unknown-notification",
    "host-unknown-request",
    "log",
    "opening",
    "output",
    "values",
    "values-large",
    "values-wide-integers",
]
ERRORS: dict[int, type[Exception]] = {
    -32601: MethodNotFoundError,
    -32602: InvalidArgumentsError,
    -32800: CallCancelledError,
    -32000: RemoteError,
}


@pytest.fixture
def puppet():
    return lambda name: ExecSandbox(
        sys.executable, "-S", PUPPET, name, name="reference", call_timeout=10
    )


@pytest.mark.parametrize("name", CALLS)
def test_calls(name, puppet, replay):
    events = [line.event for line in replay.load(name).lines]
    answers = {
        event["message"].get("id"): event["message"]
        for event in reversed(events)  # of two answers the first counts
        if event["from"] == "plugin" and "method" not in event.get("message", "method")
    }
    with puppet(name) as plugin:
        for event in events:
            message = event.get("message", {})
            if event["from"] != "host" or "id" not in message or "method" not in message:
                continue
            if message["method"].startswith("$/"):
                continue
            args, kwargs = replay.values(message, [])["params"]
            answer = answers[message["id"]]
            if "error" in answer:
                with pytest.raises(ERRORS.get(answer["error"]["code"], CallError)) as caught:
                    plugin.call(message["method"], *args, **kwargs)
                assert answer["error"]["message"] in str(caught.value)
            else:
                assert replay.same(
                    answer["result"], plugin.call(message["method"], *args, **kwargs)
                )


def test_a_start_that_fails_is_an_error_of_the_host(puppet):
    plugin = puppet("start-fails")
    with pytest.raises(Exception, match="there is no calendar"):
        plugin.start()
    assert plugin.pid is None


def test_more_chunks_than_credit_end_the_plugin(puppet):
    plugin = puppet("host-too-many-chunks")
    plugin.start()
    with pytest.raises(ProtocolViolationError, match="chunk without credit"):
        list(plugin.using(window=1).stream("count", 5))
    with pytest.raises(ProtocolViolationError, match="was killed"):
        plugin.stop()
