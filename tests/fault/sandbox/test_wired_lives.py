"""Plugins that speak level 1 or 2, well or badly, from their ready message to their end."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from plugkeep.errors import (
    CallTimeoutError,
    ExitStatusError,
    InvalidArgumentsError,
    InvalidReadyError,
    MethodNotFoundError,
    NotStartedError,
    PluginError,
    ProcessExitedError,
    ProtocolViolationError,
    ReadyTimeoutError,
    RemoteError,
    StopIgnoredError,
    UnsendableValueError,
)
from plugkeep.sandbox import ExecSandbox

Make = Callable[..., ExecSandbox]

# --- what works -------------------------------------------------------------------------------


def test_calls_are_answered_and_what_is_announced_is_known(wired: Make) -> None:
    sandbox = wired(
        """
        ready(version="1.2", name="other", methods=[
            "echo", {"name": "add", "params": ["a", "b="], "doc": "Sums."},
        ])
        def add(message):
            assert message["params"] == {"$args": [1], "$kwargs": {"b": 2}}, message
            answer(message, 3)
        serve(add=add)
        """
    )
    assert sandbox.methods is None
    with sandbox:
        assert sandbox.call("echo", {"a": [1, None, "ü"]}) == {"a": [1, None, "ü"]}
        assert sandbox.call("add", 1, b=2) == 3
        assert (sandbox.name, sandbox.version) == ("naughty", "1.2")
        assert sandbox.methods is not None
        assert list(sandbox.methods) == ["echo", "add"]
        assert str(sandbox.methods["add"].signature) == "(a, b=Ellipsis)"
        assert sandbox.methods["add"].doc == "Sums."
        with pytest.raises(MethodNotFoundError, match="no method 'ecco'; did you mean 'echo'"):
            sandbox.call("ecco")
    assert sandbox.methods is None
    with pytest.raises(NotStartedError, match="'naughty' is not running"):
        sandbox.call("echo", 1)


def test_a_stopped_one_starts_and_answers_again(wired: Make) -> None:
    sandbox = wired()
    for _ in range(3):
        with sandbox:
            assert sandbox.call("echo", 1) == 1


def test_threads_and_an_event_loop_call_at_the_same_time(wired: Make) -> None:
    async def many(sandbox: ExecSandbox) -> list[Any]:
        return await asyncio.gather(*(sandbox.acall("echo", i) for i in range(50)))

    with wired() as sandbox, ThreadPoolExecutor(4) as pool:
        threads = [pool.submit(sandbox.call, "echo", i) for i in range(100)]
        assert asyncio.run(many(sandbox)) == list(range(50))
        assert [each.result() for each in threads] == list(range(100))


def test_the_limit_of_all_calls_and_of_one(wired: Make) -> None:
    with wired(call_timeout=0.05) as sandbox:
        with pytest.raises(CallTimeoutError, match=r"'naughty'.*'hang'.*0\.05 s") as caught:
            sandbox.call("hang")
        assert (caught.value.plugin, caught.value.timeout) == ("naughty", 0.05)
        assert sandbox.call("echo", 1, timeout=30) == 1
        sandbox.call_timeout = None
        with pytest.raises(CallTimeoutError, match=r"0\.01 s"):
            sandbox.call("hang", timeout=0.01)
        with pytest.raises(CallTimeoutError, match=r"0\.02 s"):
            sandbox.using(timeout=0.02).call("hang")
        assert sandbox.call("echo", 1) == 1


def test_what_it_logs_and_prints_is_logged(wired: Make, records: Any, level: int) -> None:
    sandbox = wired(
        """
        ready()
        def talk(message):
            say(method="$/log", params={"level": "error", "logger": "a.b", "message": "logged",
                                        "fields": {"x": 1}})
            os.write(1, b"printed\\n")
            if LEVEL == 1:
                os.write(1, b'{"no": "message"}\\n')
            answer(message)
        serve(talk=talk)
        """
    )
    with sandbox:
        sandbox.call("talk")
    lines = {record.getMessage(): record for record in records.all}
    logged = vars(lines["logged"])
    assert (logged["levelno"], logged["stream"]) == (logging.ERROR, "log")
    assert (logged["plugin"], logged["logger"], logged["fields"]) == ("naughty", "a.b", {"x": 1})
    assert (lines["printed"].levelno, vars(lines["printed"])["stream"]) == (20, "stdout")
    if level == 1:
        (line,) = (line for line in lines if "no message" in line)
        assert lines[line].levelno == logging.WARNING


# --- offering and choosing --------------------------------------------------------------------

_ENVIRONMENT = """
import json
ready = {"ready": True, "wire": 1 if os.environ.get("PLUGKEEP_WIRE") else 0}
said = [os.environ.get("PLUGKEEP_WIRE"), os.environ.get("PLUGKEEP_WIRE_FDS", "")]
os.write(1, (json.dumps(ready) + "\\n" + json.dumps(said) + "\\n").encode())
while b"stop" not in (line := sys.stdin.buffer.readline()) and line:
    os.write(1, b'{"jsonrpc": "2.0", "id": %d, "result": 0}\\n' % json.loads(line)["id"])
if b"$/stop" in line:
    os.write(1, b'{"jsonrpc": "2.0", "id": %d, "result": 0}\\n' % json.loads(line)["id"])
"""


@pytest.mark.parametrize("env", [None, {"A": "b", "PLUGKEEP_WIRE": "7"}])
def test_what_is_offered_is_said_and_nothing_is_inherited(
    plugin: Make, records: Any, monkeypatch: pytest.MonkeyPatch, env: Any
) -> None:
    monkeypatch.setenv("PLUGKEEP_WIRE", "2")
    monkeypatch.setenv("PLUGKEEP_WIRE_FDS", "97,98,99")
    for wire in (0, 1, 2):
        with plugin(_ENVIRONMENT, wire=wire, env=env):
            pass
    offered = [line for line in records.lines("stdout") if line.startswith("[")]
    assert offered[:2] == ['[null, ""]', '["1", ""]']
    assert offered[2].startswith('["2", "')
    assert "97" not in offered[2]


def test_a_host_of_level_2_takes_what_comes_first(wired: Make, records: Any) -> None:
    for at_most in ("1", "2"):
        with wired(wire=2, env={"AT_MOST": at_most}) as sandbox:
            assert sandbox.call("echo", at_most) == at_most
    level_0 = wired("print('{\"ready\":true} and more', flush=True); sys.stdin.read()", wire=2)
    with level_0, pytest.raises(MethodNotFoundError, match="level 0"):
        level_0.call("echo")
    assert "and more" in records.lines("stdout")[0]


def test_what_is_printed_before_the_frame_is_log(wired: Make, records: Any) -> None:
    body = "print('hello\\n' * 20_000, flush=True); ready(); serve()"
    with wired(body, wire=2) as sandbox:
        assert sandbox.call("echo", 1) == 1
    assert records.lines("stdout").count("hello") == 20_000


def test_a_host_of_level_0_passes_over_what_else_is_said(plugin: Make) -> None:
    body = """os.write(1, b'{"ready": true, "wire": 99, "methods": 7}'); sys.stdin.read()"""
    with plugin(body, wire=0) as sandbox, pytest.raises(MethodNotFoundError, match="level 0"):
        sandbox.call("echo")


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ("wire=3", "has wire 3, where the host has offered"),
        ("wire='1'", "has wire '1', which is no level"),
        ("wire=True", "has wire True, which is no level"),
        ("wire=-1", "has wire -1"),
        ("codec='xml'", "has codec 'xml'"),
        ("name=5", "has name 5, which is no text"),
        ("methods='echo'", "has methods 'echo', which is no array"),
        ("methods=[5]", "has 5 among its methods"),
        ("methods=[{}]", "has a method named None"),
        ("methods=['$/start']", r"has a method named '\$/start'"),
        ("methods=['host.x']", "has a method named 'host.x'"),
        ("methods=[{'name': 'a', 'params': ['1']}]", "'1' is no parameter"),
        ("methods=[{'name': 'a', 'params': ['x=', 'y']}]", "of method 'a'"),
        ("methods=[{'name': 'a', 'params': 'x'}]", "it is no array"),
        ("methods=[{'name': 'a', 'stream': 1}]", "has stream 1 of method 'a'"),
        ("batch='yes'", "has batch 'yes', which is no boolean"),
        ("began='now'", "has began 'now', which is no number"),
        ("began=True", "has began True, which is no number"),
    ],
)
def test_a_ready_message_that_cannot_be_agreed_to(wired: Make, members: str, told: str) -> None:
    sandbox = wired(f"ready(**{{'wire': LEVEL, **dict({members})}}); serve()", wire=2)
    for _ in range(2):
        with pytest.raises(InvalidReadyError, match=told) as caught:
            sandbox.start()
        assert sandbox.pid is None
    assert b'"ready"' in caught.value.received


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("raw(b'rubbish that is long enough')", "begins with a frame of length"),
        ("raw(struct.pack('<III', 2**32 - 1, 2**32 - 1, 0))", "length 4294967295"),
        ("raw(struct.pack('<III', 4, 2, 0) + b'{}{}')", "both lengths have to be the same"),
        ("raw(struct.pack('<III', 2, 2, 1) + b'{}')", "flags 1"),
        ("raw(struct.pack('<III', 2, 2, 0) + b'{}')", 'has no "ready": true'),
        ("raw(struct.pack('<III', 3, 3, 0) + b'{a}')", "is not JSON"),
        ("ready(wire=1)", "has wire 1 in a frame"),
        ('os.write(1, b\'{"ready": true, "wire": 2}\\\\n\')', "has wire 2 on stdout"),
    ],
)
@pytest.mark.parametrize("level", [2], indirect=True)
def test_a_first_frame_that_is_no_ready_message(wired: Make, body: str, told: str) -> None:
    body = body.replace("ready(wire=1)", "raw(packed({'ready': True, 'wire': 1}))")
    with pytest.raises(InvalidReadyError, match=told) as caught:
        wired(body + "; os.close(1); os.close(WRITE); hear()").start()
    was_printed = "on stdout" in told
    assert (") printed b'" in str(caught.value)) is was_printed
    assert (") sent b'" in str(caught.value)) is not was_printed
    assert ("other output goes to stderr" in str(caught.value)) is was_printed


# --- start ------------------------------------------------------------------------------------


def test_a_start_that_raises(wired: Make) -> None:
    sandbox = wired(
        """
        ready()
        serve(start=lambda m: answer(m, code=-32000, message="no disk", data={"type": "OSError"}))
        """
    )
    for _ in range(2):
        with pytest.raises(RemoteError, match=r"'naughty'.*raised OSError: no disk") as caught:
            sandbox.start()
        assert caught.value.type == "OSError"
        assert sandbox.pid is None


def test_a_plugin_without_start_and_stop_of_its_own(wired: Make) -> None:
    body = """
    ready()
    no = lambda m: answer(m, code=-32601, message="what?")
    serve(start=no, stop=no)
    """
    with wired(body) as sandbox:
        assert sandbox.call("echo", 1) == 1


def test_a_start_that_does_not_return_in_time(wired: Make) -> None:
    sandbox = wired("ready(); serve(start=lambda m: None)", start_timeout=1.0)
    with pytest.raises(ReadyTimeoutError, match="own start has not returned within 1 s"):
        sandbox.start()
    assert sandbox.pid is None


def test_a_process_that_ends_in_its_start(wired: Make) -> None:
    sandbox = wired("ready(); serve(start=lambda m: os._exit(3))")
    with pytest.raises(ProcessExitedError, match="status 3 before its own start") as caught:
        sandbox.start()
    assert caught.value.returncode == 3


def test_a_protocol_that_is_broken_in_start(wired: Make, level: int) -> None:
    sandbox = wired("ready(); serve(start=lambda m: say(method='$/chunk', params={'id': m['id']}))")
    if level == 1:  # there it is a line like any other
        sandbox = wired("ready(); hear(); raw(b'x' * (64 * 1024 * 1024 + 1)); hear()")
    with pytest.raises(ProtocolViolationError, match="'naughty' broke a rule"):
        sandbox.start()
    assert sandbox.pid is None


# --- stop -------------------------------------------------------------------------------------


def test_a_stop_that_raises(wired: Make) -> None:
    sandbox = wired("ready(); serve(stop=lambda m: answer(m, code=-32000, message='busy'))")
    for _ in range(2):
        sandbox.start()
        with pytest.raises(RemoteError, match="busy"):
            sandbox.stop()
        assert sandbox.pid is None


def test_a_status_after_stop(wired: Make) -> None:
    sandbox = wired("ready(); serve(); os._exit(4)")
    sandbox.start()
    with pytest.raises(ExitStatusError, match="status 4"):
        sandbox.stop()


def test_a_stop_that_is_not_answered(wired: Make) -> None:
    sandbox = wired("ready(); serve(stop=lambda m: time.sleep(60))", stop_timeout=0.2)
    sandbox.start()
    with pytest.raises(StopIgnoredError, match=r"within 0\.2 s of being told to stop"):
        sandbox.stop()
    assert sandbox.pid is None


def test_a_process_that_ends_instead_of_answering_stop(wired: Make) -> None:
    sandbox = wired("ready(); serve(stop=lambda m: os._exit(5))")
    sandbox.start()
    with pytest.raises(ProcessExitedError, match="status 5"):
        sandbox.stop()


def test_calls_in_flight_end_with_the_plugin(wired: Make) -> None:
    sandbox = wired()
    sandbox.start()
    failures: list[BaseException] = []

    def call() -> None:
        try:
            sandbox.call("hang")
        except PluginError as error:
            failures.append(error)

    threads = [threading.Thread(target=call) for _ in range(5)]
    for thread in threads:
        thread.start()
    sandbox.call("echo", 1)
    sandbox.stop()
    for thread in threads:
        thread.join(30)
    assert len(failures) == 5
    assert all(isinstance(error, (NotStartedError, ProcessExitedError)) for error in failures)


# --- death ------------------------------------------------------------------------------------


def test_whoever_waits_learns_of_the_end_at_once(wired: Make) -> None:
    sandbox = wired(
        """
        ready()
        def end(message):
            sys.stderr.write("so long\\n"); sys.stderr.flush()
            os._exit(7)
        serve(end=end)
        """
    )
    sandbox.start()
    with ThreadPoolExecutor(9) as pool:
        waiting = [pool.submit(sandbox.call, "hang") for _ in range(8)]
        sandbox.call("echo", 1)
        for call in [pool.submit(sandbox.call, "end"), *waiting]:
            error = call.exception(30)
            assert isinstance(error, ProcessExitedError), error
            assert (error.returncode, error.stderr) == (7, ("so long",))
    with pytest.raises(ProcessExitedError, match="status 7"):
        sandbox.call("echo", 1)
    assert sandbox.pid is None
    with pytest.raises(ProcessExitedError, match="status 7"):
        sandbox.stop()
    with sandbox:
        assert sandbox.call("echo", 1) == 1


def test_ten_thousand_calls_fail_when_it_is_killed(wired: Make, gone: Any) -> None:
    async def many(sandbox: ExecSandbox) -> list[Any]:
        calls = [asyncio.ensure_future(sandbox.acall("hang")) for _ in range(10_000)]
        await sandbox.acall("echo", 1)
        assert sandbox.pid
        os.kill(sandbox.pid, 9)
        return await asyncio.gather(*calls, return_exceptions=True)

    sandbox = wired()
    sandbox.start()
    failures = asyncio.run(asyncio.wait_for(many(sandbox), 60))
    assert {type(each) for each in failures} == {ProcessExitedError}
    assert failures[0].signal == 9
    with pytest.raises(ProcessExitedError, match="SIGKILL"):
        sandbox.stop()


def test_a_grandchild_that_holds_the_pipes_keeps_nobody_waiting(wired: Make) -> None:
    sandbox = wired(
        """
        ready()
        def fork(message):
            fled, fleeing = os.pipe()
            child = os.fork()
            if not child:
                os.setsid()
                os.close(fleeing)
                time.sleep(60)
            os.close(fleeing)
            os.read(fled, 1)  # until it has gone from the group, which is killed as a whole
            answer(message, child)
        serve(fork=fork)
        """
    )
    sandbox.start()
    grandchild = sandbox.call("fork")
    try:
        with pytest.raises(ProcessExitedError, match="status 6"):
            sandbox.call("die", 6, timeout=30)
        with pytest.raises(ProcessExitedError, match="status 6"):
            sandbox.stop()
    finally:
        os.kill(grandchild, 9)


def test_an_answer_that_came_before_the_end_counts(wired: Make) -> None:
    sandbox = wired("ready(); serve(last=lambda m: (answer(m, 'done'), os._exit(0)))")
    for _ in range(20):
        sandbox.start()
        assert sandbox.call("last") == "done"
        with pytest.raises(ProcessExitedError, match="status 0"):
            sandbox.stop()


def test_its_end_is_logged_once(wired: Make, records: Any, ended: Any) -> None:
    sandbox = wired()
    sandbox.start()
    with pytest.raises(ProcessExitedError):
        sandbox.call("die", 3)
    records.wait_for("plugin 'naughty' ended by itself")
    with pytest.raises(ProcessExitedError):
        sandbox.stop()
    errors = [record for record in records.all if record.levelno == logging.ERROR]
    assert len(errors) == 1


def test_a_forgotten_one_is_killed(wired: Make, gone: Any) -> None:
    sandbox = wired()
    sandbox.start()
    sandbox.call("echo", 1)
    pid = sandbox.pid
    view = sandbox.using(window=3)
    del sandbox
    gc.collect()
    assert view.call("echo", 2) == 2
    del view
    gc.collect()
    gone(pid)


def test_a_copy_in_a_forked_process_is_not_used(wired: Make) -> None:
    with wired() as sandbox:
        sandbox.call("echo", 1)
        child = os.fork()
        if not child:
            status = 1
            try:
                sandbox.call("echo", "from the copy")
            except NotStartedError:
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        assert sandbox.call("echo", 2) == 2


# --- violations -------------------------------------------------------------------------------

_VIOLATIONS = {
    "rubbish": ("raw(b'\\xff' * 100)", "flags"),
    "4 GiB": ("raw(struct.pack('<III', 2**32 - 1, 2**32 - 1, 0))", "4294967295"),
    "flags": ("raw(struct.pack('<III', 2, 2, 8) + b'{}')", "flag"),
    "no JSON": ("raw(struct.pack('<III', 2, 2, 0) + b'{{')", "{{"),
    "no message": ("raw(packed({'jsonrpc': '2.0', 'id': None}))", "not a message"),
    "chunks without credit": (
        "say(method='$/chunk', params={'id': m['id'], 'value': 1})",
        "without credit",
    ),
}


@pytest.mark.parametrize("level", [2], indirect=True)
@pytest.mark.parametrize("breaking", _VIOLATIONS)
def test_whoever_breaks_a_rule_is_cut_off(wired: Make, records: Any, breaking: str) -> None:
    body, told = _VIOLATIONS[breaking]
    sandbox = wired(f"ready(); serve(bad=lambda m: {body})")
    sandbox.start()
    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(sandbox.call, "hang") for _ in range(2)]
        sandbox.call("echo", 1)
        calls = [pool.submit(sandbox.call, "bad"), *waiting]
        for call in calls:
            error = call.exception(30)
            assert isinstance(error, ProtocolViolationError), error
            assert told in str(error)
            assert error.plugin == "naughty"
    with pytest.raises(ProtocolViolationError, match="broke a rule of the wire and was killed"):
        sandbox.call("echo", 1)
    with pytest.raises(ProtocolViolationError, match="broke a rule"):
        sandbox.stop()
    assert sandbox.pid is None
    assert [record.levelno for record in records.all if "broke a rule" in record.getMessage()] == [
        logging.ERROR
    ]
    with sandbox:
        assert sandbox.call("echo", 1) == 1


def test_one_that_closes_its_end_and_stays_is_killed(wired: Make, records: Any) -> None:
    sandbox = wired("ready(); hear() and say(id=1, result=None); os.close(WRITE); hear(); hear()")
    sandbox.start()
    with pytest.raises(PluginError):
        sandbox.call("echo", 1)
    records.wait_for("plugin 'naughty' broke a rule")
    with pytest.raises(ProtocolViolationError, match="has closed its end, and goes on running"):
        sandbox.stop()


def test_one_that_is_slow_to_end_has_the_time_that_a_stop_has(wired: Make) -> None:
    # As does an interpreter that has much to clear up, on a busy machine.
    with wired("ready(); serve(); os.close(WRITE); time.sleep(1)") as sandbox:
        assert sandbox.call("echo", 1) == 1


def test_what_cannot_travel_does_no_harm(wired: Make) -> None:
    with wired() as sandbox:
        with pytest.raises(UnsendableValueError, match="argument 1 of 'echo'"):
            sandbox.call("echo", object())
        assert sandbox.call("echo", 1) == 1


@pytest.mark.parametrize("level", [1], indirect=True)
def test_a_wrong_answer_is_passed_over(wired: Make, records: Any) -> None:
    sandbox = wired(
        """
        ready()
        def odd(message):
            say(id=999, result=1)
            say(id="x", result=1)
            say(id=None, error={"code": 1, "message": "what?"})
            say(id=message["id"], result=2)
            say(id=message["id"], result=3)
        serve(odd=odd)
        """
    )
    with sandbox:
        assert sandbox.call("odd") == 2
        assert sandbox.call("echo", 1) == 1
    assert any("999" in line for line in records.lines(None))  # type: ignore[arg-type]


def test_codes_become_errors(wired: Make) -> None:
    sandbox = wired("ready(); serve(no=lambda m: answer(m, code=-32602, message='b'))")
    with sandbox, pytest.raises(InvalidArgumentsError, match="method 'no': b"):
        sandbox.call("no", 1)


@pytest.mark.parametrize("level", [1], indirect=True)
@pytest.mark.parametrize("last", ["last words", '{"cut'])
def test_the_last_line_needs_no_newline(wired: Make, records: Any, last: str) -> None:
    with wired(f"ready(); serve(); raw(b'line\\n{last}')") as sandbox:
        assert sandbox.call("echo", 1) == 1
    lines = [record.getMessage() for record in records.all]
    assert [last in line for line in lines[lines.index("line") + 1 :]] == [True]


@pytest.mark.parametrize("level", [1], indirect=True)
def test_the_last_words_of_one_that_ends_by_itself_are_logged(wired: Make, records: Any) -> None:
    sandbox = wired('ready()\nserve(die=lambda _: (raw(b"dying"), os._exit(3)))\n')
    sandbox.start()
    with pytest.raises(ProcessExitedError):
        sandbox.call("die")
    with pytest.raises(ProcessExitedError):
        sandbox.stop()
    assert [record.getMessage() for record in records.all].count("dying") == 1
